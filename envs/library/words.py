"""Five-letter English words for `Wordle`: common ones, in the singular, written down for this library."""

from __future__ import annotations

_TEXT = """
about above actor acute adapt admit adopt adult after again agent agile agree ahead alarm album alert alien align
alike alive alley allow alone along aloud alpha alter amber amend amino among ample amuse angel anger angle angry
ankle apart apple apply apron arena argue arise armor aroma arrow ashen aside asset atlas attic audio audit avoid
await awake award aware awful bacon badge baker banjo baron basic basin batch beach beard beast began begin being
belly below bench berry birch birth black blade blame bland blank blast blaze bleak blend bless blind blink block
blond blood bloom blown board boast bonus boost booth bound brace brain brake brand brass brave bread break breed
brick bride brief bring brisk broad broke brook broom broth brown brush build built bunch burst buyer cabin cable
camel candy canoe canal cargo carry carve catch cause cedar chain chair chalk charm chart chase cheap check cheek
cheer chess chest chief child chili chill chime choir chord chose chunk cider cigar civic civil claim clamp clash
class clean clear clerk click cliff climb cloak clock close cloth cloud clove clown coach coast cobra cocoa comet
comic coral couch cough could count court cover crack craft crane crash crawl crazy cream creek crest crime crisp
cross crowd crown crude cruel crush crust cubic curve cycle daily dairy daisy dance dealt debut decay delay
delta dense depth diary digit diner dirty ditch diver dodge doing donor doubt dough dozen draft drain drama drank
drawn dream dress dried drift drill drink drive drone drove dryer eager eagle early earth easel eaten ebony eight
elbow elder elect elite empty enemy enjoy enter entry equal equip erase error erupt essay evade event every exact
exile exist extra fable faint fairy faith false fancy fatal fault feast fence ferry fetch fever fiber field fiery
fifth fifty fight final first flame flash flask fleet flesh float flock flood floor flour fluid flute focus foggy
force forge forth forty forum found frail frame fresh fried frost frown fruit fully funny gauge giant giver glass
gleam glide globe gloom glory glove going grace grade grain grand grant grape graph grasp grass grave gravy great
green greet grief grill grind groan groom group grove growl grown guard guess guest guide guild habit handy happy
harsh haste hatch haunt haven hazel heart heavy hedge hello heron hinge hobby honey honor horse hotel hound house
hover human humid humor hurry ideal igloo image imply inbox index inner input irony issue ivory jelly jewel joint
joker jolly judge juice jumbo juror kayak kneel knife knock known koala label labor large laser later laugh layer
learn lease least leave ledge legal lemon level lever light lilac limit linen liver lobby local lodge logic loose
lorry loyal lucky lunar lunch lyric magic major maker mango maple march marry marsh match mayor meant medal media
melon mercy merge merit merry metal meter midst might minor minus mixed model moist money month moral motor motto
mound mount mouse mouth movie muddy music nasal nasty naval nerve never newly night ninth noble noise north novel
nurse nylon oasis occur ocean offer often olive onion opera orbit order organ other otter ought ounce outer owner
oxide ozone paint panda panel panic paper party pasta paste patch pause peace peach pearl pedal penny perch phase
phone photo piano piece pilot pinch pizza place plain plane plank plant plate plaza plumb plume point polar porch
pound power press price pride prime print prior prize probe proof proud prove prune pulse pupil puppy purse queen
query quest quick quiet quilt quite quota quote radar radio rainy raise rally ranch range rapid ratio raven razor
reach react ready realm rebel refer relax relay reply reset rider ridge rifle right rigid rinse ripen risky rival
river roast robin robot rocky rough round route royal rugby ruler rural saint salad salon salty sandy sauce scale
scare scarf scene scent scoop scope score scout scrap sense serve seven shade shake shall shape share shark sharp
sheep sheet shelf shell shift shine shiny shirt shock shore short shout shown shrub sight silly since siren sixth
sixty skate skill skirt skull slate sleep slice slide slope small smart smell smile smoke snack snake sneak solar
solid solve sonic sorry sound south space spare spark speak spear speed spell spend spice spicy spike spine spoke
spoon sport spray squad stack staff stage stain stair stale stamp stand stare start state steak steam steel steep
stern stick stiff still sting stock stone stood stool store storm story stout stove straw strip study stuff stump
style sugar sunny super surge swamp sweat sweep sweet swell swift swing sword syrup table talon tango taste teach
tempo tenor tenth thank their theme there thick thief thing think third thorn those three threw throw thumb tiger
tight timer title toast today token tooth topic torch total touch tough towel tower toxic trace track trade trail
train treat trend trial tribe trick tried troop trout truck truly trunk trust truth tulip tunic twice twist ultra
uncle under union unite unity until upper upset urban usage usual vague valid value valve vapor vault verse video
vigor villa vinyl virus visit vital vivid vocal voice voter wagon waist waste watch water weary weave wedge weigh
whale wheat wheel where which while white whole widow width windy woman world worry worse worth would wound woven
wreck wrist write wrong yacht yearn yeast yield young youth zebra
"""

WORDS: tuple[str, ...] = tuple(sorted({word for word in _TEXT.split() if len(word) == 5}))
"""The words, in lower case and alphabetical order."""
