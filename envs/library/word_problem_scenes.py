"""The stories of `WordProblems`: who has what, and the words for what happens to it. Data, no arithmetic.

A scene gives the nouns and verbs; `word_problems` joins them with an opening, steps, distractors and a question, so
that each scene stands for thousands of sentences in a row.
"""

from __future__ import annotations

from dataclasses import dataclass

PEOPLE = (
    ("Ada", "she"), ("Amir", "he"), ("Anna", "she"), ("Boris", "he"), ("Carla", "she"), ("Chen", "he"), ("Dana", "she"),
    ("Diego", "he"), ("Elif", "she"), ("Emil", "he"), ("Fatima", "she"), ("Felix", "he"), ("Grace", "she"),
    ("Hugo", "he"), ("Ines", "she"), ("Ivan", "he"), ("Jana", "she"), ("Jonas", "he"), ("Kira", "she"), ("Kofi", "he"),
    ("Lena", "she"), ("Luis", "he"), ("Maya", "she"), ("Noah", "he"), ("Nora", "she"), ("Omar", "he"), ("Paula", "she"),
    ("Ravi", "he"), ("Rosa", "she"), ("Sven", "he"), ("Tara", "she"), ("Yuki", "she"),
)  # fmt: skip
"""Names with their pronouns."""

HER = {"she": "her", "he": "him", "it": "it"}

WHEN = (
    "Then", "Later", "After that", "The next day", "A week later", "In the evening", "On Friday", "After lunch",
    "At the end of the month", "Soon after",
)  # fmt: skip
"""What a step may open with."""

FRACTIONS = {2: "half", 3: "a third", 4: "a quarter", 5: "a fifth"}


@dataclass(frozen=True)
class Scene:
    """One kind of story."""

    things: tuple[tuple[str, str], ...]
    """What is counted or measured: in full ("litres of water"), and in short ("litres")."""
    gains: tuple[str, ...]
    """Verbs for more of it, before the amount: "buys"."""
    losses: tuple[str, ...]
    """Verbs for less of it: "gives away"."""
    groups: tuple[str, ...]
    """What holds several: "packs"."""
    places: tuple[str, str] = ("at home", "at school")
    """Two places where it is kept."""
    holders: tuple[str, ...] = ()
    """Things that have it, where it is nobody: "water tank". Empty for people."""
    verbs: tuple[str, str] = ("has", "have")
    """Having it, for one and in a question."""
    measured: bool = False
    """Whether it is measured and not counted: litres, not rolls."""
    decimals: int = 0
    """Decimal places of an amount; 0 for what is counted."""
    start: tuple[int, int] = (12, 90)
    """Least and greatest amount at the start."""

    @property
    def much(self) -> str:
        """The word for a lot of it."""
        return "much" if self.measured else "many"


def _counted(*words: str) -> tuple[tuple[str, str], ...]:
    return tuple((word, word) for word in words)


SCENES = (
    Scene(
        _counted(
            "stamps", "marbles", "stickers", "shells", "postcards", "badges", "trading cards", "buttons"
        ),
        gains=("buys", "finds", "is given", "wins", "swaps a toy for"),
        losses=("gives away", "loses", "sells", "trades away"),
        groups=("packs", "boxes", "tins", "bags"),
        places=("in an album", "in a drawer"),
    ),
    Scene(
        _counted("rolls", "muffins", "pretzels", "cookies", "tarts", "bagels"),
        gains=("bakes", "receives", "prepares"),
        losses=("sells", "gives away", "throws out", "delivers"),
        groups=("trays", "baskets", "crates"),
        places=("on the counter", "in the kitchen"),
        holders=("bakery", "café", "canteen", "school kitchen"),
        start=(20, 150),
    ),
    Scene(
        _counted("novels", "atlases", "comics", "dictionaries", "magazines", "maps"),
        gains=("buys", "receives", "orders", "gets back"),
        losses=("lends out", "sells", "gives away", "sends off"),
        groups=("shelves", "cartons", "stacks"),
        places=("on the ground floor", "upstairs"),
        holders=("library", "bookshop", "archive", "reading club"),
        start=(30, 400),
    ),
    Scene(
        (("euros", "euros"), ("dollars", "dollars"), ("pounds", "pounds"), ("francs", "francs")),
        gains=("earns", "saves", "is given", "receives"),
        losses=("spends", "lends out", "donates", "pays out"),
        groups=("envelopes", "jars", "purses"),
        places=("in cash", "in the bank"),
        measured=True,
        decimals=2,
        start=(15, 200),
    ),
    Scene(
        (("litres of water", "litres"), ("litres of oil", "litres"), ("litres of juice", "litres")),
        gains=("receives", "is filled with", "takes in"),
        losses=("loses", "gives off", "releases"),
        groups=("buckets", "canisters", "barrels"),
        places=("in the upper part", "in the lower part"),
        holders=("tank", "cistern", "vat", "container"),
        verbs=("holds", "hold"),
        measured=True,
        decimals=1,
        start=(20, 300),
    ),
    Scene(
        (
            ("kilograms of apples", "kilograms"),
            ("kilograms of potatoes", "kilograms"),
            ("kilograms of honey", "kilograms"),
            ("kilograms of rice", "kilograms"),
            ("kilograms of tea", "kilograms"),
        ),
        gains=("harvests", "buys", "receives", "stores"),
        losses=("sells", "uses up", "sends off", "gives away"),
        groups=("sacks", "crates", "baskets"),
        places=("in the barn", "in the cellar"),
        measured=True,
        decimals=1,
        start=(15, 150),
    ),
    Scene(
        _counted("passengers", "commuters", "tourists", "pupils"),
        gains=("takes on", "picks up", "lets in"),
        losses=("lets off", "drops off", "leaves behind"),
        groups=("groups", "teams", "classes"),
        places=("in the front part", "in the rear part"),
        holders=("train", "ferry", "tram", "ship"),
        verbs=("carries", "carry"),
        start=(30, 300),
    ),
    Scene(
        _counted("sheep", "hens", "goats", "ducks", "bee hives", "rabbits"),
        gains=("buys", "raises", "takes in"),
        losses=("sells", "gives away", "moves out"),
        groups=("flocks", "pens", "truckloads"),
        places=("in the meadow", "in the stable"),
        holders=("farm", "ranch", "estate", "village"),
        verbs=("keeps", "keep"),
        start=(15, 160),
    ),
    Scene(
        (
            ("metres of rope", "metres"),
            ("metres of ribbon", "metres"),
            ("metres of cable", "metres"),
            ("metres of cloth", "metres"),
        ),
        gains=("buys", "finds", "orders", "makes"),
        losses=("cuts off", "uses", "sells", "throws away"),
        groups=("rolls", "pieces", "coils"),
        places=("in the workshop", "in the car"),
        measured=True,
        decimals=1,
        start=(10, 120),
    ),
    Scene(
        _counted("screws", "bolts", "nails", "hinges", "tiles", "bricks", "planks"),
        gains=("orders", "receives", "produces"),
        losses=("uses", "sells", "returns", "sends off"),
        groups=("boxes", "pallets", "bags"),
        places=("in the store", "on the site"),
        holders=("workshop", "factory", "hardware shop", "builder's yard"),
        start=(40, 600),
    ),
    Scene(
        _counted("points", "tokens", "tickets", "gems", "stars"),
        gains=("wins", "earns", "collects", "picks up"),
        losses=("loses", "spends", "trades in"),
        groups=("rounds", "sets", "bundles"),
        places=("from the first level", "from the second level"),
        start=(20, 300),
    ),
    Scene(
        (
            ("kilometres of road", "kilometres"),
            ("kilometres of trail", "kilometres"),
            ("kilometres of track", "kilometres"),
        ),
        gains=("builds", "opens", "adds", "takes over"),
        losses=("closes", "gives up", "hands over"),
        groups=("sections", "stretches", "lots"),
        places=("in the north", "in the south"),
        holders=("county", "region", "national park", "company"),
        measured=True,
        decimals=1,
        start=(20, 400),
    ),
    Scene(
        _counted("roses", "tulips", "seedlings", "bulbs", "sunflowers", "potted herbs"),
        gains=("plants", "grows", "buys", "receives"),
        losses=("sells", "gives away", "loses", "cuts"),
        groups=("rows", "beds", "trays"),
        places=("in the greenhouse", "in the garden"),
        start=(15, 180),
    ),
    Scene(
        (("grams of flour", "grams"), ("grams of sugar", "grams"), ("grams of cocoa", "grams")),
        gains=("buys", "weighs out", "finds", "borrows"),
        losses=("uses", "spills", "gives away"),
        groups=("bags", "scoops", "packets"),
        places=("in a jar", "in a bowl"),
        measured=True,
        start=(100, 900),
    ),
)

DISTRACTORS = (
    "{other} is {n} years old.",
    "The bus ride home takes {n} minutes.",
    "The thermometer outside shows {n} degrees Fahrenheit.",
    "{other} lives at house number {n}.",
    "The next holiday is in {n} days.",
    "A film on that day lasts {n} minutes.",
    "{other} has read {n} pages of a book.",
    "The radio plays {n} songs in the meantime.",
    "The street is lined with {n} trees.",
    "{other} has been waiting for {n} minutes.",
    "The town hall has {n} steps.",
    "There are {n} people in the choir of {other}.",
)
"""Sentences with a number that has nothing to do with the question."""
