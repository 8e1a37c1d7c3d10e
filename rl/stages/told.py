"""Rows that are worked on one by one and kept as they come: a stage that was killed asks nobody twice."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...tools.atomic import write_lines
from ...tools.chat import Message, user
from ...tools.errors import UserError
from ..metrics import Event
from .chat_rows import RowError, Rows, Skipped, messages_of, read_rows
from .constitution import Principle
from .constitution_config import PromptsConfig
from .stage import StageRun

Told = dict[str, Any]
"""What was said about a row: its number `row` from 1, `of`, a mark of the row and the principles, and `failed` with a
reason where it did not work out."""
Prompts = Rows[tuple[tuple[Message, ...], str]]
"""Prompts, each with its answer or an empty text."""


def read_prompts(data: PromptsConfig) -> Prompts:
    """Return the prompts of a file.

    Raises `UserError` with the numbers of rows that cannot be used, if they are refused.
    """

    def make(row: dict[str, Any], number: int) -> tuple[tuple[Message, ...], str]:
        given = row.get("prompt")
        if given in (None, "", []):
            raise RowError("no prompt")
        if isinstance(given, str) and not given.strip():
            raise RowError("no prompt")
        prompt = (user(given),) if isinstance(given, str) else messages_of(given, "prompt")
        if prompt[-1]["role"] != "user":
            raise RowError("the prompt does not end with the user's message")
        answer = row.get("answer") or ""
        if not isinstance(answer, str):
            raise RowError("answer is not a text")
        return prompt, answer

    rows = read_rows(data.path, make, what="data.path")
    return rows.settle(f"data.path: {data.path}", data.on_bad, "data.on_bad = 'skip'")


async def tell_all(
    path: Path,
    prompts: Prompts,
    principles: Sequence[Principle],
    one: Callable[[int], Awaitable[Told]],
    at_once: int,
) -> list[Told]:
    """Return what `one(place)` says about each prompt, in order.

    Each is in the JSONL file `path` as soon as it is there. What the file holds already is not done again, unless it
    failed, or the row or the principles have changed since; a torn last line is cut off. An exception of `one` is a
    failure of that row.
    """
    marks = [_mark(row, principles) for row in prompts.kept]
    known = {(told["row"], told.get("of")): told for told in read_told(path) if "failed" not in told}
    gate = asyncio.Semaphore(at_once)
    _write(path, known.values())
    with path.open("a", encoding="utf-8") as file:

        async def held(place: int, number: int) -> Told:
            if (number, marks[place]) in known:
                return known[number, marks[place]]
            begun = {"row": number, "of": marks[place]}
            async with gate:
                try:
                    told = {**begun, **await one(place)}
                except Exception as error:
                    told = {**begun, "failed": f"{type(error).__name__}: {error}"[:500]}
            file.write(json.dumps(told, ensure_ascii=False) + "\n")
            file.flush()
            return told

        found = await asyncio.gather(*(held(place, number) for place, number in enumerate(prompts.numbers)))
    _write(path, found)  # in the order of the rows
    return found


def read_told(path: Path) -> list[Told]:
    """Return the rows of a file; lines that cannot be read are left out."""
    found: list[Told] = []
    if path.is_file():
        for line in path.read_bytes().splitlines():
            try:
                told = json.loads(line.decode())
                found += [told] if isinstance(told["row"], int) else []
            except (ValueError, KeyError, TypeError):
                continue
    return found


def _mark(row: tuple[tuple[Message, ...], str], principles: Sequence[Principle]) -> str:
    text = json.dumps([list(row[0]), row[1], [asdict(one) for one in principles]], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _write(path: Path, rows: Any) -> None:
    write_lines(path, (json.dumps(told, ensure_ascii=False) for told in rows))


def settle(
    run: StageRun[Any],
    data: PromptsConfig,
    path: Path,
    told: Sequence[Told],
    more: Mapping[str, int],
    bad: Rows[Any],
) -> list[Told]:
    """Return what worked out, and tell the counts; `more` are further ones.

    Raises `UserError` with the numbers of the rows that failed, if they are refused, and where nothing is left.
    """
    kept = [one for one in told if "failed" not in one]
    failed: Rows[Told] = Rows(
        kept=kept, skipped=[Skipped(t["row"], t["failed"]) for t in told if "failed" in t]
    )
    counts = {"rows": len(kept), "rows_bad": len(bad.skipped), "rows_failed": len(failed.skipped), **more}
    said = "; ".join(
        filter(None, (bad.report(), failed.report(), *(f"{n} {k}" for k, n in more.items() if n)))
    )
    run.tell(
        Event("prepare", 0, 0, {k: float(n) for k, n in counts.items()}, message=said or f"{len(kept)} rows")
    )
    failed.settle(str(path), data.on_failed, "data.on_failed = 'skip', or go on with --resume to ask again")
    if not kept:
        raise UserError(f"{path}: nothing worked out: {failed.report()}")
    return kept
