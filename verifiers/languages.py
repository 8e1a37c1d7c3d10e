"""Which language a text is in, among the candidates that are declared: by script, letters and common words.

Deterministic, without models or downloads. Returns None where a text is too short to tell.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from functools import lru_cache

_SCRIPT_LANGUAGES = {
    "BENGALI": ("bn",), "THAI": ("th",), "TAMIL": ("ta",), "TELUGU": ("te",), "HANGUL": ("ko",), "HEBREW": ("he",),
    "KANNADA": ("kn",), "GUJARATI": ("gu",), "GURMUKHI": ("pa",), "MALAYALAM": ("ml",), "HIRAGANA": ("ja",),
    "KATAKANA": ("ja",), "CJK": ("zh", "ja"), "GREEK": ("el",), "ARMENIAN": ("hy",), "GEORGIAN": ("ka",),
    "DEVANAGARI": ("hi", "mr", "ne"), "ARABIC": ("ar", "fa", "ur"), "CYRILLIC": ("ru", "uk", "bg"),
    "LATIN": ("en", "es", "pt", "fr", "de", "it", "pl", "vi", "sw", "fi", "nl", "tr", "id", "sv", "ro", "cs"),
}  # fmt: skip
_COMMON = {
    "en": "the of and to in is that it for you was with on are this be as have not at by from they we an or your "
    "will can which their has but more when if its our all about",
    "es": "de la que el en y los se del las un por con una para es no su al lo como más pero sus le ya o este sí "
    "porque esta entre cuando muy sin sobre también me hasta hay donde nos",
    "pt": "de a que e o do da em um para com não uma os no se na por mais as dos como mas ao ele das à seu sua ou "
    "quando muito nos já eu também só pelo pela até isso você são é está",
    "fr": "de la le et les des en un une du que est pour qui dans par au il sur pas plus ne se ce avec son sa ses "
    "mais ou nous vous leur être cette aux sont été fait elle ils très",
    "de": "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden aus "
    "er hat dass sie nach wird bei einer um am sind noch wie einem über einen ich so wir ihr",
    "it": "di e il la che in un è per una sono non con del si da le dei al come più della ma i anche nel alla ha "
    "gli o questo lo essere delle nella ci io se tutti molto",
    "pl": "w i na z się do nie to że jest o jak a po co od za przez dla ale są tak być już jego tylko oraz czy może "
    "które ten ich tym także który tego",
    "vi": "và của là có được cho trong một không các người những với để này đã khi từ như đến về nhiều bạn trên "
    "cũng tôi sẽ hay vào rất ra phải làm nếu",
    "sw": "na ya wa kwa ni katika za la cha kuwa hii yake kama au vya watu kutoka pia sana hivyo huo hizo kila mtu "
    "yako wao lakini wetu yetu hata zaidi ili kwenye wewe mimi",
    "fi": "ja on ei että se oli hän mutta ovat kun niin myös kuin joka tai mitä sen voi olla ole tämä hänen jos "
    "minä vain nyt mukaan sekä jotka siitä siellä kaikki",
    "nl": "de het een van en in is dat op te zijn met voor niet aan er om ook als dan maar bij nog uit naar wordt",
    "tr": "ve bir bu da için ile de çok olarak daha olan gibi kadar en ne ama sonra var mı ancak",
    "id": "yang dan di untuk dengan ini dari dalam pada tidak itu adalah akan atau juga oleh sebagai ke saya anda",
    "sv": "och att det i en som är på för med av den inte till har om ett men var jag så kan från vi",
    "ro": "și de în la a cu pe nu o să este un din care că mai pentru se ca au sunt sau prin",
    "cs": "a v se na je že s z do i to o k ve pro jako by za si ale po od jsou tak jeho který nebo",
    "ru": "и в не на что с как это по он но я она так его из все к за то бы у вы мы или для от если же только был "
    "быть может когда они её ещё также есть",
    "uk": "і в не на що з як це та до у він за для є від але й або бути її також щоб ви ми вони так про можна може "
    "які який його було під",
    "bg": "и на да се в за е от с не по са че като това ще при или към но си до може един която който ние те вие "
    "така ако бъде както много",
    "hi": "के में की है को से और का हैं कि पर यह एक लिए ने भी हो नहीं कर आप था या थे जो तो इस अपने वे उन्हें रहा करने",
    "mr": "आणि आहे या ते आहेत हे की एक असे तर नाही करू होते मी आम्ही आपल्या साठी त्यांनी च्या त्या करण्यासाठी तुम्ही आपण केले असते",
    "ne": "र छ को मा हो लागि छन् यो पनि एक गर्न हुन्छ गरेको भएको हामी तपाईं थियो गर्नुहोस् हुन् भन्ने त्यो गर्छ हाम्रो तपाईंको",
    "ar": "في من على أن إلى هذا التي عن مع هذه كان ما لا الذي هو بعد كل أو بين ذلك قد هي لم يمكن كما إن يكون حيث أنا",
    "fa": "و در به از که این را با است برای آن یک می تا هم شما خود کند بر شده ها یا بود شود ما های دارد باید اگر من",
    "ur": "کے میں کی ہے اور سے کا کو پر یہ ہیں کہ نے اس ایک لیے بھی تھا جو کر ہو نہیں آپ ہم تو کیا وہ اپنے گیا",
}  # fmt: skip
_LETTERS = {
    "uk": "іїєґ", "ru": "ыэё", "bg": "ъ", "fa": "پچژگکی", "ur": "ٹڈڑےہںکگچپ", "ar": "ةىيكإأ", "vi": "ăơưđạảấầẩẫậắằẳẵặẹẻẽếềểễệịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ",  # noqa: E501
    "pl": "ąćęłńśźż", "de": "äöüß", "es": "ñ¿¡", "pt": "ãõ", "fi": "äö", "mr": "ळ", "tr": "ğış", "ro": "șță", "cs": "řůě",  # noqa: E501
    "fr": "œèêëîïç", "sv": "å",
}  # fmt: skip
_ENDINGS = {  # languages of one script whose words end differently
    "mr": ("ला", "ायला", "तो", "ची", "चे", "चा", "च्या", "नाही", "मध्ये", "साठी", "ण्याची"),
    "ne": ("बाट", "लाई", "हरू", "ले", "को", "मा", "नुहोस्", "हुन्छ", "छन्", "एको", "गर्नु"),
    "hi": ("ता", "ते", "ती", "ना", "ने", "यों", "ओं", "इए", "येगा"),
}  # fmt: skip
_LEAST_LETTERS = 12
_LEAST_EVIDENCE = 2.0


@lru_cache(maxsize=100_000)
def _script(character: str) -> str:
    return unicodedata.name(character, "?").split()[0].removesuffix("-UNIFIED")


def known_languages() -> frozenset[str]:
    """Return the codes of the languages that can be told apart."""
    return frozenset(language for languages in _SCRIPT_LANGUAGES.values() for language in languages)


def identify(text: str, candidates: Collection[str] | None = None) -> str | None:
    """Return the language code of a text among `candidates` (all known ones by default); None if it cannot be told.

    Text of too few letters, or without letters or words that speak for one candidate over the others, gives None.
    """
    allowed = known_languages() if candidates is None else frozenset(candidates)
    letters = [c for c in text[:20_000] if c.isalpha()]
    if len(letters) < 4:
        return None
    scripts: dict[str, int] = {}
    for character in letters:
        name = _script(character)
        scripts[name] = scripts.get(name, 0) + 1
    japanese = scripts.get("HIRAGANA", 0) + scripts.get("KATAKANA", 0)
    main = max(scripts, key=lambda name: scripts[name])
    if main == "CJK" or (japanese and japanese + scripts.get("CJK", 0) > len(letters) / 2):
        guess = "ja" if japanese * 12 > len(letters) else "zh"
        return guess if guess in allowed else None
    of_script = _SCRIPT_LANGUAGES.get(main, ())
    possible = [language for language in of_script if language in allowed]
    if not possible:
        return None
    if len(of_script) == 1:
        return possible[0]
    if len(letters) < _LEAST_LETTERS:
        return None
    return _by_words(text, possible)


@lru_cache(maxsize=64)
def _common(language: str) -> frozenset[str]:
    return frozenset(_COMMON[language].split())


def _by_words(text: str, possible: list[str]) -> str | None:
    lowered = text[:20_000].lower()
    found = re.findall(r"[\w\u0900-\u097f\u200c\u200d]+", lowered)
    scores: dict[str, float] = {}
    hits: float
    for language in possible:
        common = _common(language)
        marks = _LETTERS.get(language, "")
        hits = sum(1 for word in found if word in common)
        special = sum(lowered.count(letter) for letter in marks)
        hits += 0.5 * sum(
            1 for word in found if len(word) > 3 and word.endswith(_ENDINGS.get(language, ("\0",)))
        )
        scores[language] = hits + min(special * 0.7, max(len(found) * 0.5, 3))
    best = sorted(scores, key=lambda language: (-scores[language], language))
    if scores[best[0]] < _LEAST_EVIDENCE:
        return None
    if len(best) > 1 and scores[best[0]] <= scores[best[1]]:
        return None
    return best[0]
