"""Demonstrations: rows of every kind as trajectories, with the mask on exactly what the assistant wrote.

A row is a conversation (`messages`), a `prompt` with its `completion`, a bare `text`, or a trajectory as our runs
write them. Nothing of the chat template is needed but that it works: the masks come from `ChatCodec`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from ...tools.errors import UserError
from ..chat import ChatCodec
from ..stored import open_run, stored_trajectories
from ..trajectory import StopReason, Trajectory, Turn
from .chat_rows import OnBad, RowError, Rows, Skipped, messages_of, read_rows, tools_of
from .encode import Learn, converse, made, tokenizer_mark

Form = Literal["chat", "plain"]


def read_demonstrations(
    path: Path,
    codec: ChatCodec,
    *,
    form: Form = "chat",
    learn: Learn = "all",
    on_bad: OnBad = "refuse",
    what: str = "sft.demonstrations",
) -> Rows[Trajectory]:
    """Read a JSONL file of demonstrations; the kind of each row is seen from its keys.

    With `on_bad = "refuse"` raises `UserError` that names the rows which cannot be used.
    """
    found = read_rows(path, lambda row, number: demonstration_of(row, number, codec, form, learn), what=what)
    return found.settle(f"{what}: {path}", on_bad, "data.on_bad = 'skip'" if what.startswith("data") else "")


def read_run(folder: Path, codec: ChatCodec, kind: str) -> Rows[Trajectory]:
    """Read the trajectories of a run. Raises `UserError` if it was sampled with another tokenizer, or has none."""
    with_codec = open_run(folder)
    try:
        same = tokenizer_mark(with_codec.codec.tokenizer) == tokenizer_mark(codec.tokenizer)
    finally:
        with_codec.close()
    if not same:
        raise UserError(
            f"data.path: the trajectories of {folder} were sampled with another tokenizer than this model's; "
            "write their conversations to a JSONL file of messages and give that"
        )
    kept = [trajectory for _, trajectory in stored_trajectories(folder, kind)]
    if not kept:
        raise UserError(f"data.path: the run {folder} has no trajectories of the kind {kind!r}")
    return Rows(kept, list(range(1, len(kept) + 1)))


def demonstration_of(
    row: Mapping[str, Any], number: int, codec: ChatCodec, form: Form = "chat", learn: Learn = "all"
) -> Trajectory:
    """Return a row as a trajectory. Raises `RowError` for one that is none."""
    if "ids" in row and "mask" in row:
        return _stored(row, codec)
    if "messages" in row:
        messages = messages_of(row["messages"], "messages")
        return converse(codec, messages, tools_of(row.get("tools")), number, row.get("id"), learn=learn)
    if "text" in row:
        return _plain("", row["text"], number, row.get("id"), codec)
    if "prompt" not in row or "completion" not in row:
        raise RowError("no messages, no prompt with a completion, no text and no trajectory")
    prompt, completion = row["prompt"], row["completion"]
    if form == "plain":
        return _plain(prompt, completion, number, row.get("id"), codec)
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    if isinstance(completion, str):
        completion = [{"role": "assistant", "content": completion}]
    before, after = messages_of(prompt, "prompt"), messages_of(completion, "completion")
    tools = tools_of(row.get("tools"))
    return converse(codec, (*before, *after), tools, number, row.get("id"), learn=learn, begin=len(before))


def _plain(prompt: object, completion: object, number: int, name: object, codec: ChatCodec) -> Trajectory:
    """Return bare text: the completion and the token that ends a reply are learned, the prompt is not."""
    if not isinstance(prompt, str) or not isinstance(completion, str):
        raise RowError("plain rows have a prompt and a completion (or a text) that are texts")
    if not completion.strip():
        raise RowError("the completion is empty")
    given, written = codec.encode(prompt), codec.encode_reply(completion)
    start = max(len(given), 1)  # the first token of all has nothing that predicts it
    ids = [*given, *written]
    mask = [at >= start for at in range(len(ids))]
    return made(ids, mask, [(start, len(ids))], [0], [], number, name)


def _stored(row: Mapping[str, Any], codec: ChatCodec) -> Trajectory:
    try:
        found = Trajectory.from_json(json.dumps(row))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        raise RowError("not a trajectory as a run writes it") from None
    size = len(codec.tokenizer)
    if any(not 0 <= token < size for token in found.ids):
        raise RowError(f"token ids beyond the {size} of this model's tokenizer")
    return found


def choose_verified(
    rows: Rows[Trajectory],
    *,
    min_score: float,
    per_task: int | None,
    only: Iterable[StopReason] | None = None,
) -> Rows[Trajectory]:
    """Return the trajectories that are worth learning; the others are left out and counted.

    Out go those that are ungraded, those with a score below `min_score`, those that wrote nothing, and of each task
    the repeated ones and those beyond `per_task`. Demonstrations (no trajectory of a run) stay as they are.
    """
    found: Rows[Trajectory] = Rows(skipped=list(rows.skipped))
    seen: dict[str, set[tuple[int, ...]]] = {}
    for number, one in zip(rows.numbers, rows.kept, strict=True):
        reason = ""
        if not one.id.startswith("demonstration-"):
            answers = seen.setdefault(one.task_id, set())
            if not one.turns or not one.trainable:
                reason = "without a reply in tokens"
            elif not one.graded:
                reason = "ungraded"
            elif one.score.value < min_score:
                reason = "below the score"
            elif tuple(one.ids) in answers:
                reason = "repeated"
            elif per_task is not None and len(answers) >= per_task:
                reason = "beyond per_task"
            else:
                answers.add(tuple(one.ids))
        if reason:
            found.skipped.append(Skipped(number, reason))
        else:
            found.kept.append(one)
            found.numbers.append(number)
    found.skipped.sort(key=lambda skipped: skipped.row)
    return found


def fit_length(
    rows: Rows[Trajectory], longest: int, on_long: Literal["refuse", "skip", "cut"], where: str
) -> Rows[Trajectory]:
    """Return the trajectories of at most `longest` tokens; longer ones are refused, left out, or cut at their end.

    One that would have nothing to learn after the cut is left out and counted. Raises `UserError` with the row numbers
    where long ones are refused.
    """

    def fitted(one: Trajectory) -> Trajectory:
        if one.length <= longest:
            return one
        if on_long != "cut":
            raise RowError(f"longer than {longest} tokens")
        shorter = cut(one, longest)
        if shorter is None:
            raise RowError(f"nothing to learn within {longest} tokens")
        return shorter

    found = rows.refine(fitted)
    long = [skipped.row for skipped in found.skipped if skipped.reason == f"longer than {longest} tokens"]
    if long and on_long == "refuse":
        raise UserError(
            f"{where}: {len(long)} rows are longer than {longest} tokens (rows {', '.join(map(str, long[:5]))}"
            f"{', ...' if len(long) > 5 else ''}); set data.on_long = 'skip' to leave them "
            "out or 'cut' to cut their ends"
        )
    return found


def cut(one: Trajectory, longest: int) -> Trajectory | None:
    """Return a trajectory whose sequences end after `longest` tokens each; None if nothing is left to learn."""
    keep: list[int] = []
    samples: list[int] = []
    for start, end in pairwise([*one.samples, len(one.ids)]):
        samples.append(len(keep))
        keep += range(start, min(end, start + longest))
    mask = [one.mask[at] for at in keep]
    if not any(mask):
        return None
    return replace(
        one,
        ids=[one.ids[at] for at in keep],
        mask=mask,
        logprobs=[one.logprobs[at] for at in keep],
        versions=[one.versions[at] for at in keep],
        turns=[Turn(start, end, 0.0) for start, end in _runs(mask)],
        samples=samples,
    )


def _runs(mask: Sequence[bool]) -> list[tuple[int, int]]:
    edges = [at for at in range(len(mask) + 1) if (at < len(mask) and mask[at]) != (at > 0 and mask[at - 1])]
    return list(zip(edges[::2], edges[1::2], strict=True))
