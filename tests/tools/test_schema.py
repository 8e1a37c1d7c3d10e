"""The schema of a tool: hints of every kind, three styles of docstring, and schemas that are given."""

from __future__ import annotations

import dataclasses
import enum
import functools
import typing
from typing import Annotated, Any, Literal

import pydantic
import pytest

from quintain.tools import Tool, ToolCall, UserError, tool
from quintain.tools.docstring import read_docstring


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(enum.IntEnum):
    SMALL = 1


class Point(typing.TypedDict):
    x: int
    label: typing.NotRequired[str]


@dataclasses.dataclass
class Box:
    low: list[int]
    wide: float = 1.0


class Book(pydantic.BaseModel):
    title: str
    pages: int = 10


def call(**arguments: object) -> ToolCall:
    return ToolCall("call_0", "f", arguments)


def kind(
    a: str,
    b: int | None,
    c: Literal["x", "y"],
    d: Colour,
    e: list[Point],
    f: dict[str, float],
    g: Box,
    h: Book,
    i: Annotated[int, "How many."],
    j: Annotated[int, pydantic.Field(ge=1, description="At least one.")],
    k: Any = None,
    m: Colour = Colour.RED,
    n: bool = False,
    o: tuple[int, str] | None = None,
) -> str:
    """Take all kinds."""
    return repr((b, c, d, e, g, h, m, o))


def test_hints_of_every_kind_have_a_schema():
    properties = Tool(kind).parameters["properties"]

    assert properties["a"] == {"type": "string"}
    assert properties["b"] == {"anyOf": [{"type": "integer"}, {"type": "null"}]}
    assert properties["c"] == {"type": "string", "enum": ["x", "y"]}
    assert properties["d"] == {"type": "string", "enum": ["red", "blue"]}
    assert properties["e"] == {"type": "array", "items": {"$ref": "#/$defs/Point"}}
    assert properties["f"] == {"type": "object", "additionalProperties": {"type": "number"}}
    assert properties["i"] == {"type": "integer", "description": "How many."}
    assert properties["j"] == {"type": "integer", "minimum": 1, "description": "At least one."}
    assert properties["m"] == {"type": "string", "enum": ["red", "blue"], "default": "red"}
    defs = Tool(kind).parameters["$defs"]
    assert sorted(defs) == ["Book", "Box", "Point"]
    assert defs["Point"]["required"] == ["x"]
    assert Tool(kind).parameters["required"] == list("abcdefghij")


async def test_the_function_gets_the_types_it_asks_for():
    result = await Tool(kind).call(
        call(
            a="",
            b=None,
            c="x",
            d="blue",
            e=[{"x": "1"}],
            f={},
            g={"low": ["2"]},
            h={"title": "t"},
            i=1,
            j=1,
        )
    )
    assert result.content == repr(
        (None, "x", Colour.BLUE, [{"x": 1}], Box([2]), Book(title="t"), Colour.RED, None)
    )


async def test_what_is_wrong_inside_an_argument_is_named_by_its_path():
    result = await Tool(kind).call(
        call(a="", b=None, c="x", d="blue", e=[{"y": 1}], f={}, g={}, h={}, i=1, j=0)
    )
    assert "missing argument 'e.0.x'" in result.content
    assert "missing argument 'g.low'" in result.content
    assert "argument 'j': Input should be greater than or equal to 1, got 0" in result.content


async def test_parameters_may_have_any_name():
    def odd(json: str, model_config: int, _hidden: str, schema: bool, copy: int = 2, self_: int = 1) -> str:
        """Take odd names."""
        return f"{json}{model_config}{_hidden}{schema}{copy}"

    arguments = {"json": "a", "model_config": 1, "_hidden": "b", "schema": True}
    assert (await Tool(odd).call(call(**arguments))).content == "a1bTrue2"


GOOGLE = """Search.

More words.

Args:
    query (str): What to look for,
        in words.
    top: How many: at most ten.

Returns:
    query: not a parameter
"""
NUMPY = """Search.

More words.

Parameters
----------
query : str
    What to look for,
    in words.
top : int, optional
    How many: at most ten.

Returns
-------
query : str
    Not a parameter.
"""
SPHINX = """Search.

More words.

:param str query: What to look for,
    in words.
:param top: How many: at most ten.
:type top: int
:returns: not a parameter
:raises ValueError: never
"""


@pytest.mark.parametrize("text", [GOOGLE, NUMPY, SPHINX], ids=["google", "numpy", "sphinx"])
def test_three_styles_of_docstring_say_the_same(text):
    assert read_docstring(text) == (
        "Search. More words.",
        {"query": "What to look for, in words.", "top": "How many: at most ten."},
    )


def test_several_names_of_a_numpy_entry_share_its_text():
    assert read_docstring("Do.\n\nParameters\n----------\na, b : int\n    Numbers.\n")[1] == {
        "a": "Numbers.",
        "b": "Numbers.",
    }


def test_a_docstring_wins_over_nothing_and_an_annotation_speaks_where_it_is_silent():
    def f(a: Annotated[int, "From the hint."], b: Annotated[int, "Unused."]) -> None:
        """Do.

        Args:
            b: From the docstring.
        """

    assert [part["description"] for part in Tool(f).parameters["properties"].values()] == [
        "From the hint.",
        "From the docstring.",
    ]


# --- methods, partials, objects


class Shop:
    def __init__(self, name: str) -> None:
        self.name = name

    @tool
    def price(self, item: str, self_service: bool = True) -> str:
        """Look up a price.

        Args:
            item: What.
        """
        return f"{item} at {self.name}"

    @tool(timeout_s=1)
    async def order(self, item: str) -> str:
        """Order it."""
        return f"{item} from {self.name}"

    def plain(self, item: str) -> str:
        """Say it."""
        return item


async def test_a_decorated_method_is_a_tool_of_each_object():
    one, other = Shop("here"), Shop("there")

    assert list(Shop.price.parameters["properties"]) == ["item", "self_service"]
    assert (await one.price.call(call(item="tea"))).content == "tea at here"
    assert (await other.order.call(call(item="tea"))).content == "tea from there"
    assert (await Tool(one.plain).call(call(item="tea"))).content == "tea"
    assert one.price.schema == Shop.price.schema
    with pytest.raises(UserError, match="'price' is a method without its object"):
        Shop.price.call_inline(call(item="tea"))


async def test_a_partial_and_an_object_that_can_be_called_are_tools():
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    class Adder:
        """Add three."""

        async def __call__(self, a: int) -> int:
            return a + 3

    half = functools.partial(add, b=2)
    assert (await Tool(Adder(), name="adder").call(call(a=1))).content == "4"
    assert (await Tool(half, name="half", description="Add two.").call(call(a=1))).content == "3"


def local_types():
    class Inner:
        pass

    def f(x: Inner) -> None:
        """Do."""

    return f


def generator(n: int):
    """Count."""
    yield n


def positional(x: int, /) -> None:
    """Do."""


def half_hinted(x: int, y) -> None:
    """Do."""


def double(x: int, **more: int) -> None:
    """Do."""


def callback(x: typing.Callable[[int], int]) -> None:
    """Do."""


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (half_hinted, "the parameter 'y' has no type hint; write, for example, `y: str`"),
        (double, r"the parameter '\*\*more' cannot be passed by name"),
        (positional, "cannot be passed by name"),
        (
            callback,
            "a parameter has no JSON schema .*use str, int, float, bool, list, dict, Literal, an Enum, a TypedDict",
        ),
        (local_types(), "its type hints cannot be evaluated: name 'Inner' is not defined"),
        (generator, "is a generator: return a text or a list"),
        (dict.get, "cannot be passed by name|not known"),
    ],
)
def test_what_cannot_be_a_tool_says_what_to_write(function, said):
    with pytest.raises(UserError, match=said):
        Tool(function)


# --- schemas that are given

BOOKING = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "minLength": 2},
        "nights": {"type": "integer", "minimum": 1, "maximum": 30},
        "room": {"$ref": "#/$defs/room"},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
        "when": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "pair": {"type": "array", "prefixItems": [{"type": "integer"}, {"const": "x"}]},
    },
    "required": ["city"],
    "additionalProperties": False,
    "$defs": {
        "room": {
            "type": "object",
            "properties": {"kind": {"enum": ["single", "double"]}},
            "required": ["kind"],
        }
    },
}


def book(**arguments: object) -> dict[str, object]:
    return arguments


booking = Tool(book, description="Book.", parameters=BOOKING)


async def test_a_given_schema_is_shown_as_it_is_and_the_function_gets_what_was_written():
    assert booking.parameters == BOOKING
    assert (await booking.call(call(city="Rome", nights=2))).content == '{"city": "Rome", "nights": 2}'


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "missing argument 'city'"),
        ({"city": "R"}, "argument 'city' does not fit minLength 2, it has 1"),
        ({"city": 3}, "argument 'city' must be string, got 3"),
        ({"city": "Rome", "nights": True}, "argument 'nights' must be integer, got True"),
        ({"city": "Rome", "nights": 31}, "argument 'nights' does not fit maximum 30, got 31"),
        (
            {"city": "Rome", "room": {"kind": "huge"}},
            "'room.kind' must be one of ['single', 'double'], got 'huge'",
        ),
        ({"city": "Rome", "tags": ["a", 1]}, "argument 'tags.1' must be string, got 1"),
        ({"city": "Rome", "tags": ["a", "b", "c"]}, "argument 'tags' does not fit maxItems 2, it has 3"),
        ({"city": "Rome", "when": 3}, "argument 'when' fits none of what it may be"),
        ({"city": "Rome", "pair": [1, "y"]}, "argument 'pair.1' must be 'x', got 'y'"),
        ({"city": "Rome", "town": ""}, "unknown argument 'town'"),
    ],
)
async def test_arguments_that_do_not_fit_a_given_schema_are_named(arguments, said):
    result = await booking.call(call(**arguments))
    assert result.error == "arguments"
    assert said in result.content
    assert "book takes: city (string), nights (integer), room (object)" in result.content


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"x": {"type": "strange", "pattern": "(a+)+$", "format": "date"}}},
        {"properties": {"x": {"$ref": "#/nowhere"}}},
        {"properties": {"x": {"$ref": "#/properties/x"}}},
        {"type": "object"},
        {},
    ],
)
async def test_what_a_given_schema_says_strangely_is_not_checked(schema):
    lenient = Tool(book, description="Do.", parameters=schema)
    assert (await lenient.call(call(x="aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!"))).error is None


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "string"}, "must be the JSON schema of an object"),
        ([], "must be the JSON schema of an object"),
        ({"x": {1, 2}}, "are no plain JSON"),
        ({"properties": []}, "properties must be an object and required a list"),
    ],
)
def test_a_given_schema_that_is_none_is_refused(schema, said):
    with pytest.raises(UserError, match=said):
        Tool(book, description="Do.", parameters=schema)
