"""A writer that follows checkable instructions and says nothing: the oracle of the instruction environments.

It builds plain sentences out of a small vocabulary, puts them into the shape that the instructions ask for, and
checks the result with the very rules of the verifier, drawing again where they clash.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...verifiers.instructions import followed
from ...verifiers.texts import words
from .sources import pick, several

Instruction = tuple[str, Mapping[str, Any]]
"""One kind of IFEval with its arguments."""

_MAX_SENTENCES = 400

_WHICH = several("the this our your their")
_ADJECTIVES = several(
    "quiet quick small bright lazy frozen square green golden warm old young gentle vast jolly proud exact dusty brave "
    "humble silver crisp narrow distant rapid simple calm wooden broken noble"
)
_NOUNS = several(
    "river garden teacher window zebra box queen jar violin kitchen market farmer bridge lamp forest engine poet "
    "shadow village captain clock pupil dragon feather harbour island jungle kettle lantern meadow needle ocean "
    "pebble quilt rabbit sailor temple uncle valley wizard yard mountain neighbour owl painter rocket stone"
)
_VERBS = several(
    "follows keeps watches joins finds visits warms carries quotes fixes enjoys admires greets leaves moves paints "
    "raises sees teaches values washes zooms past draws builds"
)
_PLACES = several(
    "near home,by noon,at dawn,in spring,on Monday,after work,below deck,inside town,under snow,with joy,every day,"
    "for years,until dusk,next week,without haste,across fields",
    ",",
)
_OTHER_LANGUAGES = {  # one plain sentence or two for each language that the rules can tell
    "ar": "هذا هو النص الذي كتب عن الحياة في المدينة. كان الناس يعملون في هذه المدينة كل يوم مع بعضهم.",
    "bg": "Това е един текст за живота в града. Хората работят заедно и ще бъдат щастливи, когато слънцето изгрее.",
    "bn": "এটি একটি ছোট লেখা যা শহরের জীবন সম্পর্কে। মানুষ প্রতিদিন একসাথে কাজ করে।",
    "de": "Das ist ein kurzer Text über das Leben in der Stadt. Die Menschen arbeiten dort jeden Tag und sind nicht allein.",  # noqa: E501
    "fa": "این یک متن کوتاه درباره زندگی در شهر است که مردم آن را برای خود می‌سازند و با هم کار می‌کنند.",
    "fi": "Tämä on lyhyt teksti siitä, mitä kaupungissa tapahtuu, kun ihmiset ovat siellä ja he tekevät työtä joka päivä.",  # noqa: E501
    "gu": "આ શહેરના જીવન વિશે એક ટૂંકું લખાણ છે. લોકો દરરોજ સાથે કામ કરે છે.",
    "hi": "यह शहर के जीवन के बारे में एक छोटा लेख है। लोग हर दिन एक साथ काम करते हैं और खुश रहते हैं।",
    "it": "Questo è un breve testo sulla vita nella città. Le persone sono più felici quando lavorano insieme, ma non tutti.",  # noqa: E501
    "kn": "ಇದು ನಗರದ ಜೀವನದ ಬಗ್ಗೆ ಒಂದು ಸಣ್ಣ ಬರಹ. ಜನರು ಪ್ರತಿದಿನ ಒಟ್ಟಿಗೆ ಕೆಲಸ ಮಾಡುತ್ತಾರೆ.",
    "ko": "이것은 도시의 생활에 대한 짧은 글입니다. 사람들은 매일 함께 일합니다.",
    "mr": "हा शहरातील जीवनाबद्दल एक लहान लेख आहे. लोक दररोज एकत्र काम करतात आणि ते आनंदी आहेत. त्यांनी हे केले आहे.",
    "ne": "यो सहरको जीवनको बारेमा एउटा छोटो लेख हो। मानिसहरू हरेक दिन सँगै काम गर्छन् र तिनीहरू खुसी छन्।",
    "pa": "ਇਹ ਸ਼ਹਿਰ ਦੀ ਜ਼ਿੰਦਗੀ ਬਾਰੇ ਇੱਕ ਛੋਟਾ ਲੇਖ ਹੈ। ਲੋਕ ਹਰ ਰੋਜ਼ ਇਕੱਠੇ ਕੰਮ ਕਰਦੇ ਹਨ।",
    "pl": "To jest krótki tekst o życiu w mieście, które nie jest duże. Ludzie są tam szczęśliwi, ale tylko razem.",
    "pt": "Este é um texto breve sobre a vida na cidade. As pessoas não estão sozinhas, mas também trabalham muito.",
    "ru": "Это короткий текст о жизни в городе. Люди работают вместе, и они не одни, потому что все это так.",
    "sw": "Hii ni habari fupi kuhusu maisha ya watu katika mji. Kila mtu ana kazi yake na wao wanafanya kwa pamoja.",
    "ta": "இது நகர வாழ்க்கையைப் பற்றிய ஒரு சிறிய கட்டுரை. மக்கள் தினமும் சேர்ந்து வேலை செய்கிறார்கள்.",
    "te": "ఇది నగర జీవితం గురించి ఒక చిన్న వ్యాసం. ప్రజలు ప్రతిరోజూ కలిసి పని చేస్తారు.",
    "th": "นี่คือข้อความสั้น ๆ เกี่ยวกับชีวิตในเมือง ผู้คนทำงานร่วมกันทุกวัน",
    "ur": "یہ شہر کی زندگی کے بارے میں ایک مختصر تحریر ہے۔ لوگ ہر روز ایک ساتھ کام کرتے ہیں اور وہ خوش ہیں۔",
    "vi": "Đây là một bài viết ngắn về cuộc sống của những người trong thành phố. Họ không làm việc một mình và được vui.",  # noqa: E501
}


def obedient(instructions: Sequence[Instruction], rng: np.random.Generator, attempts: int = 60) -> str | None:
    """Return a text that follows every instruction in the hard reading, or None if none was found in `attempts`.

    None means that the instructions clash, or ask for something that this writer does not know how to do.
    """
    for attempt in range(attempts):
        text = _Draft(instructions, rng, attempt).text()
        if all(followed(text, instructions, "hard")):
            return text
    return None


class _Draft:
    """One attempt: sentences, then the shape they stand in, then what goes round everything."""

    def __init__(self, instructions: Sequence[Instruction], rng: np.random.Generator, attempt: int) -> None:
        self.instructions = instructions
        self.rng = rng
        self.attempt = attempt
        self.wanted_words = 0  # in sentences; what the shape adds comes on top
        self._sifted: dict[tuple[str, ...], tuple[list[str], list[str]]] = {}
        self.banned = [
            word.lower()
            for given in self._all("keywords:forbidden_words")
            for word in given["forbidden_words"]
        ] + [
            given["keyword"].strip().lower()
            for given in self._all("keywords:frequency")
            if given["relation"] == "less than"
        ]
        self.avoided = [
            given["letter"].lower()
            for given in self._all("keywords:letter_frequency")
            if given["let_relation"] == "less than"
        ]
        self.loved = [
            (given["letter"].lower(), given["let_frequency"])
            for given in self._all("keywords:letter_frequency")
            if given["let_relation"] == "at least"
        ]

    def _all(self, kind: str) -> list[Mapping[str, Any]]:
        return [given for name, given in self.instructions if name == kind]

    def _one(self, kind: str) -> Mapping[str, Any] | None:
        found = self._all(kind)
        return found[0] if found else None

    def _pick(self, choices: tuple[str, ...]) -> str:
        allowed, loved = self._sifted.get(choices) or self._sift(choices)
        return str(pick(self.rng, loved if loved and self.rng.random() < 0.8 else allowed))

    def _sift(self, choices: tuple[str, ...]) -> tuple[list[str], list[str]]:
        """Return the choices that may be used, and those of them with a letter that is asked for."""
        shunned = (*self.avoided, *self.banned)
        allowed = [choice for choice in choices if not any(part in choice.lower() for part in shunned)]
        allowed = allowed or list(choices)
        loved = [choice for choice in allowed if any(letter in choice.lower() for letter, _ in self.loved)]
        self._sifted[choices] = allowed, loved
        return allowed, loved

    def _sentence(self) -> str:
        language = self._one("language:response_language")
        if language is not None and language["language"] in _OTHER_LANGUAGES:
            foreign = _OTHER_LANGUAGES[language["language"]]
            return foreign.replace(",", "") if self._one("punctuation:no_comma") is not None else foreign
        one = f"{self._pick(_WHICH)} {self._pick(_ADJECTIVES)} {self._pick(_NOUNS)}"
        other = f"{self._pick(_WHICH)} {self._pick(_ADJECTIVES)} {self._pick(_NOUNS)}"
        text = f"{one} {self._pick(_VERBS)} {other} {self._pick(_PLACES)}."
        return text[0].upper() + text[1:]

    def text(self) -> str:
        """Write it, and again with more or less in it where the number of words is not right."""
        least, most = self._bounds("length_constraints:number_words", "num_words")
        self.wanted_words = least
        for _ in range(5):
            text = self._written()
            count = len(words(text))
            if least <= count < most:
                break
            self.wanted_words += int(least - count + 6 if count < least else most - count - 6)
        return text

    def _written(self) -> str:
        text = self._shaped(self._sentences())
        if end := self._one("startend:end_checker"):
            text = f"{text} {end['end_phrase'].strip()}"
        if self._one("change_case:english_capital") is not None:
            text = text.upper()
        elif self._one("change_case:english_lowercase") is not None:
            text = text.lower()
        if self._one("detectable_format:json_format") is not None:
            text = json.dumps({"text": text}, ensure_ascii=False)
        if self._one("startend:quotation") is not None:
            text = f'"{text}"'
        if repeat := self._one("combination:repeat_prompt"):
            text = f"{repeat['prompt_to_repeat'].strip()}\n{text}"
        return text

    def _sentences(self) -> list[str]:
        _, most_words = self._bounds("length_constraints:number_words", "num_words")
        least, most = self._bounds("length_constraints:number_sentences", "num_sentences")
        listed: list[str] = []
        for letter, many in self.loved:
            if not letter.isalnum():  # a sign that no word holds
                listed.append(f"Look here {letter * (many + 3)}")
        if self._one("detectable_format:constrained_response") is not None:
            listed.append(f"My answer is {('yes', 'no', 'maybe')[int(self.rng.integers(3))]}.")
        for given in self._all("keywords:existence"):
            listed += [f"They speak of {word}." for word in given["keywords"]]
        for given in self._all("keywords:frequency"):
            if given["relation"] == "at least":
                listed += [
                    f"{self._sentence()[:-1]} with {given['keyword'].strip()}."
                    for _ in range(given["frequency"])
                ]
        wanted = max(least, len(self._all("length_constraints:number_paragraphs")), 1)
        # attempts differ in length, so that a bound that is met too closely is left
        spare = self.attempt % 6 if most_words == float("inf") else 0
        count = sum(len(words(sentence)) for sentence in listed)
        while len(listed) < _MAX_SENTENCES and len(listed) + 1 < most:
            missing = any(" ".join(listed).lower().count(letter) < many + 3 for letter, many in self.loved)
            if len(listed) >= wanted + spare and count >= self.wanted_words and not missing:
                break
            listed.append(self._sentence())
            count += len(words(listed[-1]))
        return listed or ["Fine indeed."]

    def _bounds(self, kind: str, name: str) -> tuple[int, float]:
        least, most = 0, float("inf")
        for given in self._all(kind):
            if given["relation"] == "at least":
                least = max(least, int(given[name]))
            else:
                most = min(most, given[name])
        return least, most

    def _shaped(self, sentences: list[str]) -> str:
        paragraphs = self._one("length_constraints:number_paragraphs")
        first_word = self._one("length_constraints:nth_paragraph_first_word")
        sections = self._one("detectable_format:multiple_sections")
        two = self._one("combination:two_responses") is not None
        count, between = 1, "\n"
        if first_word:
            count, between = int(first_word["num_paragraphs"]), "\n\n"
        elif paragraphs:
            count, between = int(paragraphs["num_paragraphs"]), "\n***\n"
        elif sections:
            count = int(sections["num_sections"])
        elif two:
            count, between = 2, "\n******\n"
        while len(sentences) < count:
            sentences.append(self._sentence())
        parts = [" ".join(sentences[index::count]) for index in range(count)]
        if sections:
            name = str(sections["section_spliter"]).strip()
            number = int(sections["num_sections"])
            if count == number:
                parts = [f"{name} {index}\n{part}" for index, part in enumerate(parts, 1)]
            else:
                more = "\n".join(f"{name} {index}\n{self._sentence()}" for index in range(1, number + 1))
                parts[-1] = f"{parts[-1]}\n{more}"
        if two and between != "\n******\n":
            parts[0] = f"{parts[0]}\n******\n{self._sentence()}"
        if first_word:
            nth = int(first_word["nth_paragraph"]) - 1
            parts[nth] = f"{first_word['first_word']} {parts[nth]}"
        self._decorate(parts)
        return between.join(parts)

    def _decorate(self, parts: list[str]) -> None:
        """Add what stands inside the text or at its end, to the last part but for the title."""
        for given in self._all("change_case:capital_word_frequency"):
            if given["capital_relation"] == "at least":
                shouted = (
                    self._pick(_NOUNS) + " " + self._pick(_ADJECTIVES)
                    for _ in range(given["capital_frequency"])
                )
                parts[-1] += f" {' '.join(shouted).upper()}."
        if highlights := self._one("detectable_format:number_highlighted_sections"):
            for index in range(int(highlights["num_highlights"])):  # the number keeps them different
                parts[-1] += f" See *{self._pick(_ADJECTIVES)} {self._pick(_NOUNS)} {index}*."
        if placeholders := self._one("detectable_content:number_placeholders"):
            for index in range(int(placeholders["num_placeholders"])):
                parts[-1] += f" [{_NOUNS[index % len(_NOUNS)]}{index // len(_NOUNS) or ''}]"
        if self._one("detectable_format:title") is not None:
            parts[0] += f"\n<<{self._pick(_ADJECTIVES)} {self._pick(_NOUNS)}>>"
        if bullets := self._one("detectable_format:number_bullet_lists"):
            parts[-1] += "".join(f"\n* {self._sentence()}" for _ in range(int(bullets["num_bullets"])))
        if postscript := self._one("detectable_content:postscript"):
            parts[-1] += f"\n{postscript['postscript_marker'].strip()} {self._sentence()}"
