"""No input makes a verifier raise, hang or leave a reply ungraded."""

# ruff: noqa: E501 - rows of a table

from __future__ import annotations

import ast
import asyncio
import contextlib
import json
import os
import random
import re
import string
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quintain.sandboxes import Limits, SandboxUnavailable, open_pool
from quintain.verifiers import (
    Choice,
    CodeTests,
    Endpoint,
    ExactMatch,
    FinalNumber,
    FirstGraded,
    FuzzyMatch,
    Gate,
    Instructions,
    JsonFields,
    JsonSchema,
    Judge,
    MathAnswer,
    Minimum,
    RegexMatch,
    RewardModel,
    Tags,
    Task,
    ToolCalls,
    Verifier,
    WeightedSum,
    WordOverlap,
    verifier,
)
from quintain.verifiers.instruction_rules import RULES
from quintain.verifiers.math_extract import extract
from quintain.verifiers.math_nodes import Unreadable
from quintain.verifiers.math_reader import read

ARGUMENTS = {
    "keywords": ["a", "b("], "keyword": "a", "relation": "at least", "frequency": 2, "forbidden_words": ["x"], "letter": "e",
    "let_relation": "less than", "let_frequency": 9, "language": "fr", "num_sentences": 3, "num_paragraphs": 2,
    "num_words": 9, "first_word": "a", "nth_paragraph": 1, "num_placeholders": 1, "postscript_marker": "P.S.",
    "num_bullets": 2, "num_highlights": 1, "section_spliter": "Section", "num_sections": 2, "prompt_to_repeat": "a",
    "end_phrase": "b", "capital_relation": "at least", "capital_frequency": 2,
}  # fmt: skip

JUDGES: list[tuple[Verifier, Task]] = [
    *((MathAnswer(), Task("t", "", gold)) for gold in ("42", "\\frac{x+1}{2}", "(1,2)", "[0,1)", "x<3", "\\{1,2\\}", "D", "y=2x", "\\begin{pmatrix}1&2\\end{pmatrix}", "5\\text{ cm}", "yes", "1, 2")),
    (FinalNumber(), Task("t", "", 42)),
    *((Instructions(mode), Task("t", "", {"instruction_id_list": sorted(RULES), "kwargs": [ARGUMENTS] * 25})) for mode in ("strict", "loose", "hard")),
    (ToolCalls(), Task("t", "", [{"f": {"a": [1, ""]}}])),
    (ExactMatch(), Task("t", "", "Paris")),
    (FuzzyMatch(), Task("t", "", "Paris")),
    (WordOverlap(), Task("t", "", "Paris is it")),
    (WordOverlap("rouge_l"), Task("t", "", "Paris is it")),
    (Choice(), Task("t", "", "B")),
    (RegexMatch(), Task("t", "", r"\d+")),
    (JsonSchema(), Task("t", "", {"type": "object", "properties": {"a": {"type": "integer"}}})),
    (JsonFields(), Task("t", "", {"a": 1})),
    (Tags(), Task("t", "")),
]  # fmt: skip

PIECES = [
    *"0123456789+-*/^_=<>()[]{}|,;:.!%&$#@~'\"\\ \n\txyzabcDEFie",
    "\\frac", "\\sqrt", "\\boxed{", "\\text{", "\\left", "\\right", "\\begin{pmatrix}", "\\end{pmatrix}", "\\\\", "\\cup", "\\in",
    "\\infty", "\\pm", "\\pi", "\\sin", "\\log_", "\\sum_{k=1}^{n}", "\\int", "\\binom", "\\le", "\\ne", "^{", "_{", "{{", "}}", "<think>",
    "</think>", "<answer>", "</answer>", "####", "the answer is ", " or ", " and ", "**", "$$", "\\[", "\\]", "10^{10^{10}}", "9!", "½", "²",
    "−", "∞", "√", "π", "\u200b", "\ud800", "🙂", "１２", "```json\n", '{"a": ', "[f(a=", "null", "NaN", "1e999", "cm", "\\%", "\\overline{3}",
    "x=3", "(1,2)", "\\{", "\\}", "\\mid", "\\choose", "\\over", "0.\\overline{", "\x00", "A.", "* ", "[x]", "P.S.",
]  # fmt: skip


def soup(random_: random.Random, length: int) -> str:
    return "".join(random_.choice(PIECES) for _ in range(length))


def judged(reply: str, limit_s: float = 5.0) -> None:
    for judge, task in JUDGES:
        started = time.thread_time()
        score = judge(reply, task)
        seconds = time.thread_time() - started
        assert score.graded, (type(judge).__name__, task.answer, reply[:300], score.reason)
        assert seconds < limit_s, (type(judge).__name__, task.answer, reply[:300], seconds)


@pytest.mark.parametrize("seed", range(20))
def test_soups_of_tokens(seed: int) -> None:
    random_ = random.Random(f"soup {seed}")
    judged(soup(random_, random_.choice([3, 10, 30, 100])))


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200))
def test_any_text(reply: str) -> None:
    judged(reply)


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=string.printable + "½²−∞", max_size=60))
def test_any_boxed_text(reply: str) -> None:
    judged(f"\\boxed{{{reply}}}")


HUGE = {
    "one megabyte of letters": "a" * 10**6,
    "one megabyte of words": "word " * 200_000,
    "one megabyte of digits": "7" * 10**6,
    "one megabyte of numbers": "12 " * 333_333,
    "one megabyte of spaces": " " * 10**6,
    "one megabyte of newlines": "\n" * 10**6,
    "open boxes": "\\boxed{" * 140_000,
    "open and closed boxes": "\\boxed{1}" * 110_000,
    "open thinking": "<think>" * 140_000,
    "closed thinking": "</think>" * 120_000,
    "open answers": "<answer>" * 120_000,
    "dollars": "$" * 10**6,
    "dollars and digits": "$1" * 500_000,
    "display dollars": "$$x" * 330_000,
    "open parentheses": "(" * 10**6,
    "open braces": "{" * 10**6,
    "open brackets of JSON": "[" * 10**6,
    "fractions": "\\boxed{" + "\\frac{" * 100_000,
    "a tall power": "\\boxed{" + "9^" * 100_000 + "9}",
    "a boxed text of 100,000 characters": "\\boxed{" + "x" * 100_000 + "}",
    "a boxed sum of 100,000 terms": "\\boxed{" + "1+" * 100_000 + "1}",
    "stars": "*" * 10**6,
    "bold stars": "**a" * 330_000,
    "hashes": "####" * 250_000,
    "answer is": "the answer is " * 70_000,
    "answers and dollars": "answer: $" * 110_000,
    "calculator notes": "<<" * 500_000,
    "align": "\\begin{align}" * 75_000,
    "display brackets": "\\[" * 500_000,
    "angle brackets": "<" * 10**6,
    "full stops": ". " * 500_000,
    "commas and numbers": "1, " * 330_000,
    "or and numbers": "1 or " * 200_000,
    "quotes": '"' * 10**6,
    "backslashes": "\\" * 10**6,
    "texts": "\\text{" * 160_000,
    "surrogates": "\ud800" * 100_000,
    "emoji": "🙂" * 250_000,
    "random bytes": random.Random(1).randbytes(10**6).decode("latin-1"),
    "random unicode": "".join(map(chr, random.Random(2).choices(range(1, 0xD7FF), k=250_000))),
    "random tokens": soup(random.Random(3), 200_000),
    "fences": "```\n" * 250_000,
    "section headings": "Section 1 " * 100_000,
    "six stars": "******" * 160_000,
    "placeholders": "[" * 500_000 + "]" * 500_000,
    "tool calls": "<tool_call>" * 90_000,
    "json calls": '[{"name":' * 110_000,
}


@pytest.mark.parametrize("name", HUGE)
def test_no_pattern_repeated_makes_a_verifier_hang(name: str) -> None:
    judged(HUGE[name][:5_000], limit_s=2.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", HUGE)
def test_no_megabyte_makes_a_verifier_hang(name: str) -> None:
    judged(HUGE[name], limit_s=20.0)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="0123456789+-*/^_=<>()[]{}|,;:.!%\\ xyabei", max_size=40))
def test_the_reader_reads_or_says_why_not(text: str) -> None:
    try:
        read(text)
    except Unreadable as error:
        assert str(error)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300))
def test_extraction_finds_text_that_is_there_or_nothing(text: str) -> None:
    assert extract(text).how in {
        "boxed",
        "answer tag",
        "####",
        "answer is",
        "whole",
        "formula",
        "bold",
        "number",
        "words",
        "missing",
    }


@settings(max_examples=200, deadline=None)
@given(st.integers(-(10**30), 10**30), st.integers(1, 10**6))
def test_any_fraction_is_read_in_every_spelling(top: int, bottom: int) -> None:
    task = Task("t", "", f"{top}/{bottom}")
    judge = MathAnswer()
    for spelling in (
        f"\\frac{{{top}}}{{{bottom}}}",
        f"\\dfrac{{{-top}}}{{-{bottom}}}",
        f"{2 * top}/{2 * bottom}",
    ):
        assert judge(f"\\boxed{{{spelling}}}", task).value == 1, spelling
    assert judge(f"\\boxed{{\\frac{{{top + 1}}}{{{bottom}}}}}", task).value == 0


def test_verdicts_are_the_same_from_any_thread_under_load() -> None:
    cases = [
        ("x^2-9", "(x-3)(x+3)"),
        ("\\sec^2 y", "\\tan^2 y+1"),
        ("\\frac{1}{2}", "0.5"),
        ("\\sin 2u", "2\\sin u"),
        ("[0,1)", "0\\le x<1"),
    ]
    judge = MathAnswer()

    def verdicts(_: int) -> list[float]:
        return [judge(f"\\boxed{{{answer}}}", Task("t", "", gold)).value for gold, answer in cases]

    with ThreadPoolExecutor(8) as threads:
        assert set(map(tuple, threads.map(verdicts, range(200)))) == {(1, 1, 1, 0, 1)}
    assert threading.active_count() < 20


def fuzzed(count: int) -> Iterator[str]:
    for seed in range(count):
        random_ = random.Random(f"many {seed}")
        text = soup(random_, random_.choice([1, 2, 5, 10, 20, 40]))
        yield text if seed % 2 else f"\\boxed{{{text}}}"


FUZZED = int(os.environ.get("QUINTAIN_FUZZ_REPLIES", "10000"))


@pytest.mark.slow
def test_ten_thousand_replies_through_every_verifier_of_texts() -> None:
    for text in fuzzed(FUZZED):
        judged(text)


def test_every_verifier_of_the_library_is_fuzzed_here() -> None:
    """A verifier that is added must be added to these tests too."""
    import quintain.verifiers as library

    public = {
        n for n in library.__all__ if isinstance(v := getattr(library, n), type) and issubclass(v, Verifier)
    }
    fuzzed_here = {type(judge).__name__ for judge, _ in JUDGES}
    served = {
        "CodeTests",
        "Judge",
        "RewardModel",
        "WeightedSum",
        "Gate",
        "Minimum",
        "FirstGraded",
        "FunctionVerifier",
    }
    assert public - {"Verifier"} == fuzzed_here | served


PROGRAM_PIECES = [
    *"()[]{}:,.=+-*/%0123456789 \n\t'\"\\#@_abxyz", "def f(x):\n", "    return ", "return x * x\n", "import ", "os", "sys", "lambda: ", "while True: pass\n",
    "raise ", "class f:\n", "exit()", "print(1)\n", "```python\n", "```\n", "async ", "await ", "yield ", "f(", "None", "b'", "f'{", "x = ", "\x00", "é", "\ud800", "if x:\n",
]  # fmt: skip


def programs(count: int) -> Iterator[str]:
    for seed in range(count):
        random_ = random.Random(f"program {seed}")
        body = "".join(random_.choice(PROGRAM_PIECES) for _ in range(random_.choice([1, 3, 8, 20])))
        yield body if seed % 3 else f"def f(x):\n    {body}\n"


def telling(texts: Iterable[str]) -> list[tuple[str, bool]]:
    """`FUZZED` different texts, those that Python reads before all others, and whether it does."""
    read: list[tuple[str, bool]] = []
    unread: list[tuple[str, bool]] = []
    for text in dict.fromkeys(texts):
        try:
            ast.parse(text)
            read.append((text, True))
        except (SyntaxError, ValueError):
            unread.append((text, False))
    return [*read, *unread][:FUZZED]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::SyntaxWarning")
async def test_ten_thousand_programs_through_code_tests() -> None:
    """What Python reads goes through each kind of test; what it does not, where one is like another, through one."""
    try:
        pool = open_pool(limits=Limits(wall_s=2, memory_mb=128))
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    judge = CodeTests(wall_s=2, memory_mb=128, pool=pool)
    calls = Task("t", "", {"entry_point": "f", "tests": [{"args": [3], "expected": 9}]})
    stdio = Task("t", "", {"tests": [{"stdin": "3", "stdout": "9"}]})
    asserts = Task("t", "", {"test_list": ["assert f(3) == 9"]})
    whole = Task(
        "t",
        "",
        {"level": "C", "test_files": {"test_a.py": "from solution import f\ndef test(): assert f(3) == 9\n"}},
    )
    following = iter(enumerate(telling([*programs(FUZZED), *fuzzed(FUZZED)])))

    async def work() -> None:
        for index, (text, reads) in following:
            tasks = [calls, stdio, asserts] if reads else [calls] if index % 2 else [stdio]
            for task in tasks if index % 200 else [*tasks, whole]:
                score = await asyncio.wait_for(judge.acall(text, task), 120)
                assert score.graded, (text, score.reason)

    async with pool:
        await asyncio.gather(*(work() for _ in range(8)))
        assert (await judge.acall("def f(x): return x * x", calls)).value == 1


@pytest.mark.slow
async def test_ten_thousand_replies_through_judges_and_compositions() -> None:
    """The server answers each as told by its text: right, unreadable, or not at all."""
    from aiohttp import web

    async def answer(request: web.Request) -> web.Response:
        asked = await request.json()
        mark = re.findall(r"VERDICT (\w+)", asked["messages"][0]["content"])[0]
        shown = asked["messages"][1]["content"]
        if len(shown) % 11 == 0:
            return web.Response(status=400, text="no")
        grade = "A" if "submission-A" in shown else "1"
        said = f"VERDICT {mark}: {grade}" if len(shown) % 7 else "I cannot say."
        return web.json_response({"choices": [{"message": {"content": said}}]})

    app = web.Application(client_max_size=1 << 24)
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    endpoint = Endpoint(f"http://127.0.0.1:{runner.addresses[0][1]}/v1", "m", attempts=1)
    judges: list[Verifier] = [
        Judge(endpoint),
        Judge(endpoint, kind="rubric", rubric="Is it?"),
        Judge(endpoint, kind="pairwise"),
        Gate(Tags(("answer",)), Judge(endpoint)),
        0.5 * MathAnswer() + 0.5 * ExactMatch(),
        WeightedSum({"a": (0.5, MathAnswer()), "b": (0.5, Minimum([Tags(), FinalNumber()]))}),
        FirstGraded([Judge(endpoint), MathAnswer()]),
        verifier(lambda reply, task: len(reply) % 2 == 0),
    ]
    task = Task("t", "Half of 84?", "42")
    following = iter(enumerate(fuzzed(FUZZED)))
    ungraded = 0

    async def work() -> None:
        nonlocal ungraded
        for index, text in following:
            for judge in judges if index % 10 == 0 else judges[4:6]:
                score = await asyncio.wait_for(judge.acall(text, task), 60)
                ungraded += not score.graded
                assert score.graded or "unreadable" in score.reason or "gave no answer" in score.reason, (
                    score.reason
                )

    try:
        await asyncio.gather(*(work() for _ in range(16)))
    finally:
        await runner.cleanup()
    assert ungraded > 0


@pytest.mark.slow
async def test_ten_thousand_replies_through_a_reward_model(tiny_reward_model: Path) -> None:
    judge = RewardModel(str(tiny_reward_model), device="cpu", batch_size=64, max_tokens=256)
    task = Task("t", "Half of 84?", "42")
    texts = list(fuzzed(FUZZED))
    for start in range(0, len(texts), 500):
        scores = await asyncio.gather(*(judge.acall(text, task) for text in texts[start : start + 500]))
        assert all(score.graded and 0 <= score.value <= 1 for score in scores)


@pytest.mark.slow
def test_a_megabyte_through_a_reward_model(tiny_reward_model: Path) -> None:
    judge = RewardModel(str(tiny_reward_model), device="cpu", max_tokens=128)
    assert all(
        judge(HUGE[name], Task("t", "")).graded
        for name in ("random bytes", "one megabyte of words", "surrogates")
    )


# --- properties


def golds(data: Path) -> list[str]:
    found = []
    for name in ("math_verify_sample", "math_verify_public"):
        with (data / f"{name}.jsonl").open(encoding="utf-8") as lines:
            found += [json.loads(line)["gold"] for line in lines]
    rows = Path(__file__).with_name("math_rows.txt").read_text(encoding="utf-8").splitlines()
    return sorted({*found, *(row[2:].partition(" ::")[0] for row in rows if row[0] in "+-")})


def test_every_gold_answer_is_right(data_dir: Path) -> None:
    failed = []
    for gold in golds(data_dir):
        if (
            gold.count("\\boxed") or "$" in gold
        ):  # a whole solution or a formula in its delimiters is its own reply
            reply = gold
        else:
            reply = f"\\boxed{{{gold}}}"
        score = MathAnswer()(reply, Task("t", "", gold))
        if score.value != 1:
            failed.append((gold, score.reason))
    assert failed == []


@pytest.mark.slow
def test_equality_is_symmetric(data_dir: Path) -> None:
    """Of two readable answers of one kind, each is right for the other or neither is."""
    judge = MathAnswer()
    rows = Path(__file__).with_name("math_rows.txt").read_text(encoding="utf-8").splitlines()
    kind, differing = "", []
    for row in rows:
        if row.startswith("["):
            kind = row.strip("[]")
            continue
        if kind not in {
            "integers",
            "decimals_rounding",
            "fractions",
            "mixed_numbers",
            "algebraic",
            "polynomials",
            "trig_log",
            "complex",
            "matrices",
            "sets",
            "scientific_notation",
            "percentages",
            "symbolic_constants",
        }:
            continue
        gold, _, answer = row[2:].partition(" :: ")
        with contextlib.suppress(ValueError):
            judge.check(Task("t", "", answer))
            there = judge(f"\\boxed{{{answer}}}", Task("t", "", gold)).value
            back = judge(f"\\boxed{{{gold}}}", Task("t", "", answer)).value
            if there != back:
                differing.append((gold, answer, there, back))
    assert differing == []
