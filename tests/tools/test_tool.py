"""A typed function is a tool: its schema, its checks, its limits, its failures."""

from __future__ import annotations

import asyncio
import threading
from typing import Literal

import pydantic
import pytest

from quintain.sandboxes.base import WorkerDied
from quintain.tools import InfrastructureError, Tool, ToolCall, ToolError, UserError, tool
from quintain.tools.tool import as_tools, unknown_tool


@tool
def search(query: str, top: int = 3, mode: Literal["exact", "fuzzy"] = "exact") -> str:
    """Search the library.

    It knows
    ten books.

    Args:
        query: What to look for,
            in words.
        top (int): How many.

    Returns:
        The titles.
    """
    return f"{query}/{top}/{mode}"


def call(name: str = "f", **arguments: object) -> ToolCall:
    return ToolCall("call_0", name, arguments)


# --- the schema


def test_the_schema_comes_from_hints_and_docstring():
    assert search.schema == {
        "type": "function",
        "function": {
            "name": "search",
            "description": "Search the library. It knows ten books.",
            "parameters": {
                "type": "object",
                "properties": {
                    "query": {"type": "string", "description": "What to look for, in words."},
                    "top": {"type": "integer", "description": "How many.", "default": 3},
                    "mode": {"type": "string", "enum": ["exact", "fuzzy"], "default": "exact"},
                },
                "required": ["query"],
                "additionalProperties": False,
            },
        },
    }


def test_a_parameter_may_be_named_title_and_a_model_may_be_nested():
    class Book(pydantic.BaseModel):
        title: str

    def shelve(title: str, book: Book) -> None:
        """Put a book away."""

    shelve.__annotations__["book"] = Book
    properties = Tool(shelve).parameters["properties"]

    assert properties["title"] == {"type": "string"}
    assert Tool(shelve).parameters["$defs"]["Book"]["properties"] == {"title": {"type": "string"}}


def unhinted(x):
    """Do."""


def star(*words: str):
    """Do."""


def undescribed(x: int): ...


class Opaque:
    pass


def strange(x: Opaque):
    """Do."""


def misdescribed(width: int):
    """Do.

    Args:
        widht: In metres.
    """


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (unhinted, "the parameter 'x' has no type hint; write, for example, `x: str`"),
        (star, r"the parameter '\*words' cannot be passed by name"),
        (undescribed, "no description: write a docstring"),
        (strange, "has no JSON schema"),
        (misdescribed, "describes 'widht', which is no parameter; did you mean 'width'"),
        (lambda: None, "a tool's name must be letters"),
    ],
)
def test_a_function_that_cannot_be_a_tool_says_what_to_write(function, said):
    with pytest.raises(UserError, match=said):
        Tool(function)


def test_a_lazy_tool_says_it_when_the_schema_is_asked_for():
    lazy = Tool(unhinted, lazy=True)
    with pytest.raises(UserError, match="the parameter 'x' has no type hint"):
        _ = lazy.parameters


def test_two_tools_of_one_name_are_refused():
    with pytest.raises(UserError, match="two tools are named 'search'"):
        as_tools([search, search])


# --- calling


async def test_arguments_are_checked_and_defaults_filled_in():
    assert (await search.call(call(query="x"))).content == "x/3/exact"
    assert (await search.call(call(query="x", top="5"))).content == "x/5/exact"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "missing argument 'query'"),
        ({"query": "x", "limit": 1}, "unknown argument 'limit'"),
        ({"query": "x", "top": "many"}, "argument 'top': Input should be a valid integer"),
        ({"query": "x", "mode": "loose"}, "argument 'mode': Input should be 'exact' or 'fuzzy'"),
        ({"query": 3}, "argument 'query': Input should be a valid string, got 3"),
    ],
)
async def test_wrong_arguments_are_named_to_the_model(arguments, said):
    result = await search.call(call(**arguments))

    assert result.error == "arguments"
    assert said in result.content
    assert result.content.endswith("search takes: query (string), top (integer), mode (string).")


async def test_what_is_not_text_is_written_as_json():
    @tool
    def facts() -> dict[str, object]:
        """Tell."""
        return {"a": [1, None], "b": "é"}

    assert (await facts.call(call())).content == '{"a": [1, null], "b": "é"}'


async def test_a_tool_that_raises_tells_the_model_the_error_and_the_person_the_traceback():
    @tool
    def broken() -> str:
        """Break."""
        raise KeyError("x" * 20_000)

    result = await broken.call(call())

    assert result.error == "raised"
    assert result.content.startswith("Error: broken raised KeyError: 'xxx")
    assert len(result.content) <= broken.output_chars
    assert "Traceback" not in result.content
    assert result.detail is not None
    assert len(result.detail) <= 8_000


async def test_a_tool_error_is_for_the_model_alone():
    @tool
    def picky() -> str:
        """Refuse."""
        raise ToolError("ask something else")

    result = await picky.call(call())

    assert (result.content, result.error, result.detail) == ("Error: ask something else", "raised", None)


@pytest.mark.parametrize("blocking", [False, True])
async def test_a_failure_of_ours_is_no_result(blocking):
    def run() -> str:
        """Run."""
        raise WorkerDied("gone")

    with pytest.raises(InfrastructureError, match="sandbox: WorkerDied: gone"):
        await Tool(run, blocking=blocking).call(call())


async def test_output_is_capped_with_a_mark_in_the_middle():
    @tool(output_chars=200)
    def flood() -> str:
        """Flood."""
        return "a" * 5_000 + "z"

    content = (await flood.call(call())).content

    assert len(content) <= 200
    assert "characters left out" in content
    assert (content[0], content[-1]) == ("a", "z")


async def test_output_that_cannot_be_encoded_is_replaced():
    @tool
    def half() -> str:
        """Return half a surrogate pair."""
        return "a\ud800b"

    assert (await half.call(call())).content == "a?b"


@pytest.mark.parametrize("kind", ["asynchronous", "blocking"])
async def test_a_tool_that_hangs_is_given_up(kind):
    async def hang() -> None:
        """Hang."""
        await asyncio.sleep(30)

    released = threading.Event()

    def block() -> None:
        """Hang."""
        released.wait(60)

    slow = (
        Tool(hang, timeout_s=0.05) if kind == "asynchronous" else Tool(block, timeout_s=0.05, blocking=True)
    )
    result = await asyncio.wait_for(slow.call(call()), 20)
    released.set()

    assert result.error == "timeout"
    assert "did not finish within 0.05 s" in result.content


async def test_a_timeout_inside_a_tool_is_the_tools_own():
    @tool
    async def impatient() -> None:
        """Wait."""
        raise TimeoutError("the other side")

    assert (await impatient.call(call())).error == "raised"


async def test_blocking_tools_run_beside_each_other_however_many():
    all_forty = threading.Barrier(40)

    @tool(blocking=True)
    def wait() -> str:
        """Wait for the others."""
        all_forty.wait(60)
        return "done"

    results = await asyncio.gather(*(wait.call(call()) for _ in range(40)))

    assert {result.content for result in results} == {"done"}


async def test_a_plain_tool_runs_inline_without_yielding_to_the_loop():
    coroutine = search.call(call(query="x"))
    with pytest.raises(StopIteration) as done:
        coroutine.send(None)
    assert done.value.value.content == "x/3/exact"


def test_a_call_to_a_tool_that_does_not_exist_names_the_nearest():
    result = unknown_tool(call("serch"), {"search": search})

    assert result.error == "unknown_tool"
    assert result.content == "Error: there is no tool 'serch'; did you mean 'search'?"
