"""Units: their spellings, and which words mean one at all."""

from __future__ import annotations

import re

_SPELLINGS = {
    "m": "m meter meters metre metres",
    "cm": "cm centimeter centimeters centimetre centimetres",
    "mm": "mm millimeter millimeters millimetre millimetres",
    "km": "km kilometer kilometers kilometre kilometres kms",
    "nm": "nm nanometer nanometers",
    "um": "um micrometer micrometers micron microns",
    "dm": "dm decimeter decimeters",
    "in": "in inch inches",
    "ft": "ft foot feet",
    "yd": "yd yds yard yards",
    "mi": "mi mile miles",
    "s": "s sec secs second seconds",
    "ms": "ms millisecond milliseconds",
    "min": "min mins minute minutes",
    "h": "h hr hrs hour hours",
    "day": "day days",
    "week": "week weeks",
    "month": "month months",
    "yr": "yr yrs year years",
    "g": "g gram grams gramme grammes",
    "kg": "kg kgs kilogram kilograms kilo kilos",
    "mg": "mg milligram milligrams",
    "lb": "lb lbs pound pounds",
    "oz": "oz ounce ounces",
    "ton": "ton tons tonne tonnes",
    "L": "l liter liters litre litres",
    "mL": "ml milliliter milliliters millilitre millilitres",
    "gal": "gal gallon gallons",
    "N": "n newton newtons",
    "J": "j joule joules",
    "kJ": "kj kilojoule kilojoules",
    "cal": "cal calorie calories",
    "kcal": "kcal",
    "eV": "ev",
    "W": "w watt watts",
    "kW": "kw kilowatt kilowatts",
    "V": "v volt volts",
    "A": "amp amps ampere amperes",
    "ohm": "ohm ohms",
    "Pa": "pa pascal pascals",
    "kPa": "kpa",
    "atm": "atm",
    "Hz": "hz hertz",
    "kHz": "khz",
    "MHz": "mhz",
    "K": "kelvin kelvins",
    "mol": "mol mols mole moles",
    "bit": "bit bits",
    "byte": "byte bytes",
    "kB": "kb",
    "MB": "mb",
    "GB": "gb",
    "ha": "ha hectare hectares",
    "acre": "acre acres",
    "rad": "rad rads radian radians",
    "deg": "deg degs degree degrees",
    "$": "dollar dollars usd bucks buck",
    "cent": "cent cents",
    "EUR": "euro euros eur",
    "GBP": "gbp",
    "JPY": "yen jpy",
    "CNY": "yuan cny rmb",
    "INR": "rupee rupees inr rs",
}
_UNITS = {spelling: unit for unit, spellings in _SPELLINGS.items() for spelling in spellings.split()}
_CASED = {
    "K": "K",
    "C": "degC",
    "F": "degF",
    "A": "A",
    "M": "M",
    "Mg": "Mg",
}  # one letter in another case is another

COMPOUND: dict[str, tuple[tuple[str, int], ...]] = {
    "mph": (("mi", 1), ("h", -1)),
    "kph": (("km", 1), ("h", -1)),
    "kmh": (("km", 1), ("h", -1)),
}
"""Units written as one word that are made of others."""
COMPOUND["cc"] = (("cm", 3),)
COMPOUND["sqft"] = (("ft", 2),)
COMPOUND["fps"] = (("ft", 1), ("s", -1))

MULTIPLES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
"""Words that multiply the number before them."""

PERCENT = frozenset({"percent", "pct", "percentage", "per cent"})
"""Words that stand for `%`."""

SINGLE = frozenset("mshgLlNJWV")
"""Letters that are units after a number and a space; elsewhere they are variables."""

_NO_UNIT = frozenset(
    {"unit", "units", "square units", "sq units", "cubic units", "square unit", "cubic unit"}
)


def known_unit(word: str) -> bool:
    """Return whether a word of two letters or more is a unit, a multiple or a percent word."""
    lower = word.lower()
    return len(word) > 1 and (
        lower in _UNITS
        or lower in COMPOUND
        or lower in MULTIPLES
        or lower in PERCENT
        or lower in {"units", "unit"}
    )


def unit_powers(words: str) -> dict[str, int]:
    """Read the words after a number as a product of units: `square meters per second` is m^2 s^-1.

    Words that are no known unit name themselves, so that 5 apples are not 5 oranges; "units" means none.
    """
    words = re.sub(r"[().,~]", " ", words).strip()
    words = re.sub(r"\s+", " ", words)
    if words.lower() in _NO_UNIT or not words:
        return {}
    powers: dict[str, int] = {}
    sign, power = 1, 1
    unknown: list[str] = []
    for word in re.findall(r"[A-Za-zµ°$€£¥']+|\^?\{?-?\d+\}?|[/*·]", words):
        lower = word.lower()
        if word in "*·":
            continue
        if lower in {"per", "/"}:
            sign = -1
        elif lower in {"square", "sq"}:
            power = 2
        elif lower == "cubic":
            power = 3
        elif lower == "squared" or lower == "cubed":
            for name in list(powers)[-1:]:
                powers[name] *= 2 if lower == "squared" else 3
        elif re.fullmatch(r"\^?\{?-?\d+\}?", word):
            for name in list(powers)[-1:]:
                powers[name] *= int(re.sub(r"[^\d-]", "", word)[:3] or "1")
        elif lower in COMPOUND:
            for name, own in COMPOUND[lower]:
                powers[name] = powers.get(name, 0) + own * sign
        else:
            known = _CASED.get(word) or _UNITS.get(lower)
            if known is None:
                unknown.append(lower)
                continue
            powers[known] = powers.get(known, 0) + sign * power
            power = 1
    if unknown and not powers:
        return {"words " + " ".join(_singular(word) for word in unknown): 1}
    if "deg" in powers and unknown:
        powers.pop("deg")
        scale = {"celsius": "degC", "fahrenheit": "degF"}.get(unknown[0], "deg")
        powers[scale] = 1
    return powers


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
