"""Invented functions with ways to ask for them in plain words: the material of `function_calls`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .sources import pick, several, some

_CITIES = several(
    "Lisbon Oslo Nairobi Quito Hanoi Tallinn Porto Zagreb Perth Bergen Lima Turin Accra Leeds Osaka"
)
_PEOPLE = several("Ada Bela Cleo Dario Edda Femi Gita Hugo Ines Jonas Kaya Lars Mila Nils Oona Pavel")
_THINGS = several(
    "milk,bread,rice,apples,tea,olive oil,soap,batteries,lentils,honey,paper towels,coffee", ","
)
_SONGS = several(
    "Blue Lantern,Paper Moon,Cold River,Seven Stairs,Old Harbour,Glass Rain,Night Ferry,Amber Road", ","
)
_ROOMS = several("kitchen,bedroom,hall,office,garage,living room,bathroom,attic", ",")
_SUBJECTS = several(
    "roof repair,summer party,budget,new logo,team lunch,safety training,printer,moving day", ","
)
_LANGUAGES = several("French Polish Swahili Finnish Korean Dutch Greek Turkish")
_SENTENCES = several(
    "Where is the station,I would like to pay,The soup is cold,It is closed today,My bag is gone,How far is the beach,"
    "We need two rooms,The train is late,Is this seat free,I am allergic to nuts,Please speak slowly,It is my birthday",
    ",",
)
_MESSAGES = several(
    "I am late,Call me back,The keys are under the mat,See you tomorrow,Dinner is ready,I found your scarf,"
    "Bring a torch,The meeting is over,We won the match,Do not wait for me",
    ",",
)


@dataclass(frozen=True, slots=True)
class Slot:
    """A parameter: its schema, and the values that a request may name."""

    schema: Mapping[str, Any]
    """Its JSON schema; one with a default is optional."""
    values: tuple[Any, ...] = ()
    """The values to choose from; none for a number, which lies in the schema's bounds."""
    many: int = 0
    """For a list: how many of the values at most."""

    def draw(self, rng: np.random.Generator) -> Any:
        """Return a value that is not the default."""
        if self.many:
            return some(rng, self.values, int(rng.integers(2, self.many + 1)))
        if self.values:
            return pick(rng, [value for value in self.values if value != self.schema.get("default")])
        low, high = self.schema["minimum"], self.schema["maximum"]
        if self.schema["type"] == "number":
            return int(rng.integers(low * 10, high * 10)) / 10
        return int(rng.integers(low, high + 1))


@dataclass(frozen=True, slots=True)
class Wish:
    """A function and how one asks for it."""

    name: str
    """The function's name."""
    description: str
    """What the model is told about it."""
    slots: Mapping[str, Slot]
    """Its parameters."""
    requests: tuple[str, ...]
    """Sentences with the required parameters in braces."""
    extras: Mapping[str, str] = field(default_factory=dict)
    """For each optional parameter the words that ask for it, put behind the sentence."""

    @property
    def schema(self) -> dict[str, Any]:
        """The function as a model is shown it."""
        properties = {name: dict(slot.schema) for name, slot in self.slots.items()}
        required = [name for name, slot in self.slots.items() if "default" not in slot.schema]
        return {
            "name": self.name,
            "description": self.description,
            "parameters": {"type": "object", "properties": properties, "required": required},
        }

    def draw(self, rng: np.random.Generator) -> tuple[str, dict[str, Any]]:
        """Return a request and the arguments that it means."""
        arguments = {n: slot.draw(rng) for n, slot in self.slots.items() if "default" not in slot.schema}
        asked = str(pick(rng, self.requests))
        for name, words in self.extras.items():
            if rng.random() < 0.5:
                arguments[name] = self.slots[name].draw(rng)
                asked += f" {words}"
        return asked.format(**{name: _said(value) for name, value in arguments.items()}) + ".", arguments


def _said(value: Any) -> str:
    return f"{', '.join(value[:-1])} and {value[-1]}" if isinstance(value, list) else str(value)


def _text(description: str, values: tuple[str, ...], **more: Any) -> Slot:
    return Slot({"type": "string", "description": description, **more}, values)


def _choice(description: str, *values: str, **more: Any) -> Slot:
    return Slot({"type": "string", "enum": list(values), "description": description, **more}, values)


def _whole(description: str, low: int, high: int, **more: Any) -> Slot:
    return Slot({"type": "integer", "minimum": low, "maximum": high, "description": description, **more})


def _decimal(description: str, low: int, high: int, **more: Any) -> Slot:
    return Slot({"type": "number", "minimum": low, "maximum": high, "description": description, **more})


def _list(description: str, values: tuple[str, ...], many: int) -> Slot:
    return Slot({"type": "array", "items": {"type": "string"}, "description": description}, values, many)


WISHES: tuple[Wish, ...] = (
    Wish(
        "get_weather_forecast",
        "Return the weather forecast of a city.",
        {
            "city": _text("Name of the city.", _CITIES),
            "days": _whole("Days to look ahead.", 1, 14),
            "unit": _choice("Unit of temperature.", "celsius", "fahrenheit", default="celsius"),
        },
        (
            "What will the weather be like in {city} over the next {days} days",
            "I need the weather for {city}, {days} days ahead",
        ),
        {"unit": "with temperatures in {unit}"},
    ),
    Wish(
        "convert_currency",
        "Convert an amount of money from one currency into another.",
        {
            "amount": _decimal("Amount in the first currency.", 5, 900),
            "source": _choice("Currency of the amount.", "EUR", "USD", "GBP"),
            "target": _choice("Currency wanted.", "JPY", "SEK", "CHF"),
        },
        ("How much is {amount} {source} in {target}", "Change {amount} {source} into {target} for me"),
    ),
    Wish(
        "set_alarm",
        "Set an alarm on the phone.",
        {
            "hour": _whole("Hour of the day, 0 to 23.", 0, 23),
            "minute": _whole("Minute, 0 to 59.", 10, 59),
            "label": _text(
                "What the alarm is for.",
                ("medicine", "laundry", "school run", "bread dough"),
                default="alarm",
            ),
        },
        ("Wake me at {hour}:{minute}", "Set an alarm for {hour}:{minute}"),
        {"label": "and label it {label}"},
    ),
    Wish(
        "book_table",
        "Book a table in a restaurant.",
        {
            "restaurant": _text(
                "Name of the restaurant.", ("Blue Door", "Casa Verde", "The Anchor", "Lotus", "Mill House")
            ),
            "guests": _whole("Number of people.", 2, 12),
            "hour": _whole("Hour of the day, 0 to 23.", 17, 22),
        },
        (
            "Get me a table at {restaurant} for {guests} people at {hour}:00",
            "We are {guests} and want to eat at {restaurant} at {hour}:00",
        ),
    ),
    Wish(
        "send_message",
        "Send a text message to a contact.",
        {
            "recipient": _text("First name of the contact.", _PEOPLE),
            "text": _text("The message.", _MESSAGES),
            "urgent": Slot(
                {"type": "boolean", "description": "Whether to mark it as urgent.", "default": False}, (True,)
            ),
        },
        ('Tell {recipient} "{text}"', 'Text {recipient}: "{text}"'),
        {"urgent": "and mark it as urgent"},
    ),
    Wish(
        "add_to_shopping_list",
        "Put things on the shopping list.",
        {"items": _list("What to buy.", _THINGS, 4)},
        ("Put {items} on the shopping list", "I have to buy {items}; note that"),
    ),
    Wish(
        "play_song",
        "Play a song in a room of the house.",
        {
            "title": _text("Title of the song.", _SONGS),
            "room": _text("Where to play it.", _ROOMS),
            "volume": _whole("Volume in percent.", 5, 95, default=50),
        },
        ("Play {title} in the {room}", "I want to hear {title} in the {room}"),
        {"volume": "at volume {volume}"},
    ),
    Wish(
        "set_thermostat",
        "Set the temperature of a room in the house.",
        {"room": _text("The room.", _ROOMS), "celsius": _decimal("Degrees Celsius.", 15, 25)},
        ("Heat the {room} to {celsius} degrees", "Make it {celsius} degrees in the {room}"),
    ),
    Wish(
        "switch_light",
        "Switch the light of a room on or off.",
        {
            "room": _text("The room.", _ROOMS),
            "state": _choice("Wanted state.", "on", "off"),
            "after_minutes": _whole("Minutes to wait before.", 1, 120, default=0),
        },
        ("Turn the light in the {room} {state}", "Switch the light {state} in the {room}"),
        {"after_minutes": "in {after_minutes} minutes"},
    ),
    Wish(
        "find_flights",
        "Find flights between two cities.",
        {
            "origin": _text("City of departure.", _CITIES[:7]),
            "destination": _text("City of arrival.", _CITIES[7:]),
            "date": _text(
                "Day, YYYY-MM-DD.", tuple(f"2026-0{m}-{d}" for m in range(1, 10) for d in (11, 17, 23, 28))
            ),
            "cabin": _choice("Class.", "economy", "business", default="economy"),
        },
        (
            "Find me a flight from {origin} to {destination} on {date}",
            "On {date} I fly from {origin} to {destination}; what is there",
        ),
        {"cabin": "in {cabin} class"},
    ),
    Wish(
        "create_event",
        "Put a meeting into the calendar.",
        {
            "title": _text("What it is about.", _SUBJECTS),
            "date": _text(
                "Day, YYYY-MM-DD.", tuple(f"2026-1{m}-{d}" for m in range(3) for d in (12, 16, 21, 27))
            ),
            "attendees": _list("First names.", _PEOPLE, 3),
        },
        (
            "Plan a meeting about the {title} on {date} with {attendees}",
            "Invite {attendees} to talk about the {title} on {date}",
        ),
    ),
    Wish(
        "track_parcel",
        "Tell where a parcel is.",
        {"tracking_number": _whole("Number on the slip.", 100_000, 999_999)},
        ("Where is parcel {tracking_number}", "Has the parcel {tracking_number} arrived yet"),
    ),
    Wish(
        "mortgage_payment",
        "Compute the monthly payment of a mortgage.",
        {
            "principal": _whole("Amount borrowed.", 50_000, 600_000),
            "annual_rate": _decimal("Interest rate in percent a year.", 1, 9),
            "years": _whole("Years to pay it back.", 5, 35),
        },
        ("What do I pay a month for a mortgage of {principal} at {annual_rate} percent over {years} years",),
    ),
    Wish(
        "translate_text",
        "Translate a sentence into another language.",
        {
            "text": _text("The sentence.", _SENTENCES),
            "language": _choice("Language wanted.", *_LANGUAGES),
        },
        ('What is "{text}" in {language}', 'Say "{text}" in {language}'),
    ),
    Wish(
        "start_timer",
        "Start a countdown timer.",
        {"minutes": _whole("Minutes until it rings.", 1, 180)},
        ("Remind me in {minutes} minutes", "Start a timer of {minutes} minutes"),
    ),
    Wish(
        "body_mass_index",
        "Compute the body mass index.",
        {
            "weight_kg": _decimal("Weight in kilograms.", 45, 120),
            "height_cm": _whole("Height in centimetres.", 150, 200),
        },
        ("What is the body mass index of somebody of {weight_kg} kg and {height_cm} cm",),
    ),
    Wish(
        "order_taxi",
        "Order a taxi.",
        {
            "pickup": _text(
                "Where to be picked up.", ("Main Square", "North Station", "City Museum", "Harbour Gate")
            ),
            "passengers": _whole("How many people ride.", 1, 6),
            "when_minutes": _whole("Minutes from now.", 5, 90, default=0),
        },
        ("A taxi at {pickup} for {passengers} people", "Send a cab for {passengers} to {pickup}"),
        {"when_minutes": "in {when_minutes} minutes"},
    ),
    Wish(
        "value_shares",
        "Return what a number of shares is worth now.",
        {
            "symbol": _choice("Ticker symbol.", "QNTN", "BLFN", "ORBX", "TMRD", "PNCR"),
            "count": _whole("Number of shares.", 2, 900),
            "currency": _choice("Currency of the value.", "USD", "EUR", default="USD"),
        },
        (
            "What are {count} shares of {symbol} worth",
            "I hold {count} shares of {symbol}; what would I get for them",
        ),
        {"currency": "in {currency}"},
    ),
)
"""The functions, each of another kind, so that a request can be served by one of them only."""
