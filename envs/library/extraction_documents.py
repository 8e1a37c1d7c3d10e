"""Invented documents with the facts that stand in them: invoices, events, parcels, job notices, minutes.

Each maker draws the facts first and then writes them down, so that the gold record is known and not read back.
At difficulty 1 a document is a short form, at 2 it is prose with facts beside the point, at 3 it is longer, numbers
and hours are written out, and a fact may be missing.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .sources import pick, several, some

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Document:
    """A text and what can be read out of it."""

    text: str
    """What the model sees."""
    record: dict[str, Any]
    """The facts, by the fields of the schema."""
    schema: Schema
    """JSON schema of the record; the descriptions say how a value is to be written."""


_FIRST = several(
    "Ada Bela Cleo Dario Edda Femi Gita Hugo Ines Jonas Kaya Lars Mila Nils Oona Pavel Rosa Sven Tara Uma"
)
_LAST = several(
    "Abelin Brodal Casimir Dornow Ekdal Farkas Gorlitz Halloran Ivarsen Jankov Kessler Lindholm Marchetti Novak "
    "Orlandi Petrov Quist Rautio Sandoval Tamm"
)
_CITIES = several("Aldermoor Brackwell Corveth Dunsable Eastmarch Fennholt Greywick Harrowell Ilmenhof")
_FIRMS = several(
    "Northlight Bluefin Hartwell Orbis Pinecrest Quayside Redstone Silverlake Tamarind Westbrook"
)
_KINDS = ("Ltd", "GmbH", "Inc", "Partners", "& Sons", "Works")
_GOODS = (
    "desk lamp", "office chair", "filing cabinet", "label printer", "desk fan", "whiteboard", "paper shredder",
    "coat rack", "footrest", "monitor arm", "cable tray", "wall clock",
)  # fmt: skip
_SMALL = several("zero one two three four five six seven eight nine ten eleven twelve")
_MONTHS = several("January February March April May June July August September October November December")
_CURRENCIES = {"EUR": "€", "USD": "$", "GBP": "£"}


def _name(rng: np.random.Generator) -> str:
    return f"{pick(rng, _FIRST)} {pick(rng, _LAST)}"


def _names(rng: np.random.Generator, count: int) -> list[str]:
    firsts, lasts = some(rng, _FIRST, count), some(rng, _LAST, count)
    return [f"{first} {last}" for first, last in zip(firsts, lasts, strict=True)]


def _firm(rng: np.random.Generator) -> str:
    return f"{pick(rng, _FIRMS)} {pick(rng, _KINDS)}"


def _code(rng: np.random.Generator, form: str) -> str:
    """Return a code: `#` is a digit, `@` a letter."""
    kinds = {"#": "0123456789", "@": "ABCDEFGHJKLMNPRSTUVWXYZ"}
    return "".join(pick(rng, kinds[c]) if c in kinds else c for c in form)


def _date(rng: np.random.Generator) -> datetime.date:
    return datetime.date(2021, 1, 1) + datetime.timedelta(days=int(rng.integers(5 * 365)))


def _said_date(rng: np.random.Generator, day: datetime.date) -> str:
    # by hand: strftime's month names are those of the locale
    month = _MONTHS[day.month - 1]
    form = int(rng.integers(3))
    return (f"{day.day} {month} {day.year}", f"{month} {day.day}, {day.year}", day.isoformat())[form]


def _said_number(rng: np.random.Generator, number: int, difficulty: int) -> str:
    return _SMALL[number] if difficulty > 2 and number < len(_SMALL) and rng.random() < 0.6 else f"{number:,}"


def _said_time(rng: np.random.Generator, minutes: int, difficulty: int) -> str:
    hour, minute = divmod(minutes, 60)
    half = "in the morning" if hour < 12 else "in the afternoon" if hour < 18 else "in the evening"
    if difficulty > 2 and minute in (0, 30):
        words = f"{_SMALL[(hour - 1) % 12 + 1]} {half}"
        return words if minute == 0 else f"half past {words}"
    if rng.random() < 0.5:
        return f"{hour:02}:{minute:02}"
    return f"{(hour - 1) % 12 + 1}:{minute:02} {'am' if hour < 12 else 'pm'}"


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _object(**properties: Schema) -> Schema:
    """Return the schema of an object with just these properties, all of them required."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _field(kind: str, description: str, null: bool = False) -> Schema:
    return {"type": [kind, "null"] if null else kind, "description": description}


def _array(items: Schema, description: str) -> Schema:
    return {"type": "array", "items": items, "description": description}


_TEXT: Schema = {"type": "string"}
_DAY = "YYYY-MM-DD"


def _invoice(rng: np.random.Generator, difficulty: int) -> Document:
    number, old = _code(rng, "@@-#####"), _code(rng, "@@-#####")
    day = _date(rng)
    customer, seller = (f"{firm} {pick(rng, _KINDS)}" for firm in some(rng, _FIRMS, 2))
    currency = pick(rng, sorted(_CURRENCIES))
    sign = _CURRENCIES[currency]
    items = [
        {
            "name": name,
            "quantity": int(rng.integers(2, 13)),
            "unit_price": int(rng.integers(500, 30_000)) / 100,
        }
        for name in some(rng, _GOODS, int(rng.integers(1, 3)) + difficulty)
    ]
    cents = sum(item["quantity"] * round(item["unit_price"] * 100) for item in items)
    due = (
        None
        if difficulty > 2 and rng.random() < 0.5
        else day + datetime.timedelta(days=int(rng.integers(7, 60)))
    )
    lines = [
        f"{_said_number(rng, item['quantity'], difficulty)} x {item['name']} at {sign}{item['unit_price']:,.2f} each"
        for item in items
    ]
    total, payment = (
        f"{sign}{cents / 100:,.2f}",
        "" if due is None else f"Payment is due by {_said_date(rng, due)}.",
    )
    if difficulty == 1:
        text = "\n".join(
            [
                f"INVOICE {number}",
                f"Date: {_said_date(rng, day)}",
                f"From: {seller}",
                f"To: {customer}",
                *lines,
                f"Total: {total}",
                payment,
            ]
        )
    else:
        beside = _said_date(rng, day - datetime.timedelta(days=int(rng.integers(20, 90))))
        text = (
            f"Dear colleagues at {customer},\n\nthis is invoice {number}, issued by {seller} on "
            f"{_said_date(rng, day)}. It replaces invoice {old} of {beside}, which was wrong and should be thrown "
            f"away. You ordered:\n\n"
            + "\n".join(f"- {line}" for line in lines)
            + f"\n\nThat makes {total} in all. {payment} A late payment costs {sign}{int(rng.integers(15, 60))}.00."
        )
    schema = _object(
        invoice_number=_field("string", "as printed"),
        date=_field("string", f"of issue, {_DAY}"),
        seller=_TEXT,
        customer=_TEXT,
        currency={"enum": sorted(_CURRENCIES)},
        items=_array(
            _object(
                name=_TEXT, quantity=_field("integer", "pieces"), unit_price=_field("number", "for one piece")
            ),
            "in the order of the document",
        ),
        total=_field("number", "for everything"),
        due=_field("string", f"{_DAY}, or null if it is not said", null=True),
    )
    record = {
        "invoice_number": number,
        "date": day.isoformat(),
        "seller": seller,
        "customer": customer,
        "currency": currency,
        "items": items,
        "total": cents / 100,
        "due": None if due is None else due.isoformat(),
    }
    return Document(text.strip(), record, schema)


def _event(rng: np.random.Generator, difficulty: int) -> Document:
    title = f"{pick(rng, ('Open', 'Winter', 'Summer', 'City', 'Young'))} {pick(rng, _EVENTS)}"
    day, city, hall = _date(rng), pick(rng, _CITIES), f"{pick(rng, _LAST)} Hall"
    start = 30 * int(rng.integers(18, 38))
    end = start + 30 * int(rng.integers(2, 9))
    speakers = _names(rng, 1 + difficulty)
    price = None if difficulty > 2 and rng.random() < 0.5 else int(rng.integers(4, 60))
    register = bool(rng.random() < 0.5)
    cost = "" if price is None else f"A ticket costs {_said_number(rng, price, difficulty)} euros."
    entry = "You have to register beforehand." if register else "There is no need to register."
    begins, ends = _said_time(rng, start, difficulty), _said_time(rng, end, difficulty)
    if difficulty == 1:
        text = (
            f"{title}\n{_said_date(rng, day)}, {begins} to {ends}\n{hall}, {city}\n"
            f"Speakers: {', '.join(speakers)}\n{cost}\n{entry}"
        )
    else:
        last = _said_date(rng, day - datetime.timedelta(days=int(rng.integers(340, 380))))
        text = (
            f"After the great success of {last}, when {_name(rng)} spoke in {pick(rng, _CITIES)}, the {title} is "
            f"back. This time it takes place in {hall} in {city}, on {_said_date(rng, day)}. Doors open at "
            f"{_clock(start - 45)}; the first talk starts at {begins}, and we close at {ends}. "
            f"You will hear {_listed(speakers)}, in this order. {cost} {entry} Parking is "
            f"{int(rng.integers(2, 9))} euros an hour."
        )
    schema = _object(
        title=_TEXT,
        date=_field("string", _DAY),
        start=_field("string", "of the first talk, HH:MM on a 24-hour clock"),
        end=_field("string", "HH:MM on a 24-hour clock"),
        venue=_field("string", "without the city"),
        city=_TEXT,
        speakers=_array(_TEXT, "first and last names, in the order of the document"),
        ticket_price=_field("number", "in euros, or null if it is not said", null=True),
        registration_required={"type": "boolean"},
    )
    record = {
        "title": title,
        "date": day.isoformat(),
        "start": _clock(start),
        "end": _clock(end),
        "venue": hall,
        "city": city,
        "speakers": speakers,
        "ticket_price": price,
        "registration_required": register,
    }
    return Document(text.strip(), record, schema)


_EVENTS = (
    "Robotics Day", "Poetry Night", "Garden Forum", "Chess Congress", "Film Evening", "Energy Summit", "Book Fair",
    "Science Slam", "Jazz Meeting",
)  # fmt: skip


def _parcel(rng: np.random.Generator, difficulty: int) -> Document:
    order, tracking, other = _code(rng, "#######"), _code(rng, "@@#########"), _code(rng, "@@#########")
    carrier = pick(rng, ("Swiftship", "Parcelo", "Redvan", "Ostrich Express"))
    name, city = _name(rng), pick(rng, _CITIES)
    grams = int(rng.integers(2, 180)) * 100
    items: list[dict[str, Any]] = [
        {"sku": _code(rng, "@##-@@#"), "quantity": int(rng.integers(1, 10))}
        for _ in range(int(rng.integers(1, 3)) + difficulty - 1)
    ]
    day = _date(rng)
    expected = (
        None
        if difficulty > 2 and rng.random() < 0.5
        else day + datetime.timedelta(days=int(rng.integers(2, 9)))
    )
    listed = [f"{item['sku']} ({_said_number(rng, item['quantity'], difficulty)})" for item in items]
    arrives = "" if expected is None else f"It should arrive on {_said_date(rng, expected)}."
    if difficulty == 1:
        text = (
            f"Order {order} has left our house on {_said_date(rng, day)}.\nCarrier: {carrier}, tracking {tracking}\n"
            f"To: {name}, {city}\nWeight: {grams / 1000} kg\nContents (article, pieces): {', '.join(listed)}\n{arrives}"
        )
    else:
        earlier = _said_date(rng, day - datetime.timedelta(days=int(rng.integers(3, 15))))
        text = (
            f"Hello {name.split()[0]},\n\nyour earlier parcel ({other}) was handed over on {earlier}. Today, "
            f"{_said_date(rng, day)}, the rest of order {order} went out with {carrier}; you can follow it as "
            f"{tracking}. It weighs {grams:,} grams, goes to {name} in {city}, and holds these articles, with the "
            f"number of pieces in brackets: {_listed(listed)}. {arrives} Returns are free for "
            f"{int(rng.integers(2, 5)) * 7} days."
        )
    schema = _object(
        order_id=_TEXT,
        shipped=_field("string", f"the day it was sent, {_DAY}"),
        carrier=_TEXT,
        tracking=_field("string", "of the parcel that was sent last"),
        recipient=_object(name=_field("string", "first and last name"), city=_TEXT),
        weight_kg=_field("number", "in kilograms"),
        items=_array(
            _object(sku=_TEXT, quantity=_field("integer", "pieces")), "in the order of the document"
        ),
        expected=_field("string", f"day of arrival, {_DAY}, or null if it is not said", null=True),
    )
    record = {
        "order_id": order,
        "shipped": day.isoformat(),
        "carrier": carrier,
        "tracking": tracking,
        "recipient": {"name": name, "city": city},
        "weight_kg": grams / 1000,
        "items": items,
        "expected": None if expected is None else expected.isoformat(),
    }
    return Document(text.strip(), record, schema)


_JOBS = (
    "baker",
    "data analyst",
    "gardener",
    "nurse",
    "welder",
    "translator",
    "bookkeeper",
    "electrician",
    "librarian",
)
_SKILLS = (
    "first aid", "spreadsheets", "driving licence", "night shifts", "Spanish", "public speaking", "forklift permit",
    "statistics", "proofreading", "customer care",
)  # fmt: skip


def _job(rng: np.random.Generator, difficulty: int) -> Document:
    title, other = some(rng, _JOBS, 2)
    firm, city = _firm(rng), pick(rng, _CITIES)
    low = 100 * int(rng.integers(200, 400))
    high = low + 100 * int(rng.integers(20, 120))
    skills = some(rng, _SKILLS, 1 + difficulty)
    remote, day = bool(rng.random() < 0.5), _date(rng)
    hours = int(rng.integers(20, 41))
    mail = f"{pick(rng, _LAST).lower()}@{firm.split()[0].lower()}.example"
    contact = None if difficulty > 2 and rng.random() < 0.5 else mail
    where = "You may work from home." if remote else "Working from home is not possible."
    write = "" if contact is None else f"Write to {contact}."
    if difficulty == 1:
        text = (
            f"{firm} ({city}) is hiring: {title}\nSalary: {low:,} to {high:,} a year\nHours a week: {hours}\n"
            f"Needed: {', '.join(skills)}\n{where}\nApply by {_said_date(rng, day)}. {write}"
        )
    else:
        text = (
            f"{firm}, with {int(rng.integers(20, 900))} people in {city}, has found its new {other} and now "
            f"looks for a {title}. For {_said_number(rng, hours, difficulty)} hours a week we pay at least {low:,} "
            f"and at most {high:,} a year; until now it was {low - 100 * int(rng.integers(5, 40)):,}. We ask for "
            f"{_listed(skills)}. {where} "
            f"Your application should reach us by {_said_date(rng, day)}. {write}"
        )
    schema = _object(
        title=_field("string", "of the open position"),
        company=_TEXT,
        city=_TEXT,
        salary_min=_field("integer", "a year"),
        salary_max=_field("integer", "a year"),
        hours_per_week={"type": "integer"},
        skills=_array(_TEXT, "as written, in the order of the document"),
        remote=_field("boolean", "whether one may work from home"),
        apply_by=_field("string", _DAY),
        contact=_field("string", "e-mail address, or null if it is not said", null=True),
    )
    record = {
        "title": title,
        "company": firm,
        "city": city,
        "salary_min": low,
        "salary_max": high,
        "hours_per_week": hours,
        "skills": skills,
        "remote": remote,
        "apply_by": day.isoformat(),
        "contact": contact,
    }
    return Document(text.strip(), record, schema)


_CHORES = (
    "order the new chairs", "call the insurance", "write the newsletter", "repair the gate", "book the bus",
    "check the fire doors", "update the price list", "invite the mayor", "count the stock",
)  # fmt: skip


def _minutes(rng: np.random.Generator, difficulty: int) -> Document:
    people = _names(rng, 4 + difficulty)
    away = people[-int(rng.integers(1, 3)) :]
    present = people[: len(people) - len(away)]
    day = _date(rng)
    actions = [
        {
            "task": task,
            "owner": pick(rng, present),
            "due": (day + datetime.timedelta(days=int(rng.integers(3, 30)))).isoformat(),
        }
        for task in some(rng, _CHORES, 1 + difficulty)
    ]
    budget = 10 * int(rng.integers(20, 900))
    following = (
        None
        if difficulty > 2 and rng.random() < 0.5
        else day + datetime.timedelta(days=int(rng.integers(14, 60)))
    )
    todo = [
        f"{action['owner']} will {action['task']} by {_said_date(rng, datetime.date.fromisoformat(action['due']))}"
        for action in actions
    ]
    meet = "" if following is None else f"The next meeting is on {_said_date(rng, following)}."
    if difficulty == 1:
        text = (
            f"Minutes of {_said_date(rng, day)}\nChair: {present[0]}\nPresent: {', '.join(present)}\n"
            f"Excused: {', '.join(away)}\nBudget agreed: {budget:,} euros\n" + "\n".join(todo) + f"\n{meet}"
        )
    else:
        text = (
            f"On {_said_date(rng, day)} we met under the chair of {present[0]}; {_listed(present[1:])} had come too, "
            f"while {_listed(away)} had asked to be excused. The minutes of "
            f"{_said_date(rng, day - datetime.timedelta(days=int(rng.integers(14, 60))))} were approved. "
            f"{pick(rng, present)} had asked for {budget + 10 * int(rng.integers(5, 60)):,} euros; we "
            f"agreed on a budget of {budget:,} euros. {'. '.join(todo)}. {meet}"
        )
    schema = _object(
        date=_field("string", f"of this meeting, {_DAY}"),
        chair=_field("string", "first and last name"),
        present=_array(_TEXT, "everybody who came, the chair first, in the order of the document"),
        excused=_array(_TEXT, "in the order of the document"),
        budget=_field("integer", "that was agreed, in euros"),
        actions=_array(
            _object(
                task=_field("string", "as written, without 'will'"), owner=_TEXT, due=_field("string", _DAY)
            ),
            "in the order of the document",
        ),
        next_meeting=_field("string", f"{_DAY}, or null if it is not said", null=True),
    )
    record = {
        "date": day.isoformat(),
        "chair": present[0],
        "present": present,
        "excused": away,
        "budget": budget,
        "actions": actions,
        "next_meeting": None if following is None else following.isoformat(),
    }
    return Document(text.strip(), record, schema)


MAKERS: dict[str, Callable[[np.random.Generator, int], Document]] = {
    "invoice": _invoice,
    "event": _event,
    "parcel": _parcel,
    "job": _job,
    "minutes": _minutes,
}
"""Each kind of document with its maker, which takes a generator and a difficulty from 1 to 3."""
