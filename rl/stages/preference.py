"""Preferences: which of two answers to one prompt is better, how much so, and who said it.

The file is JSONL, one preference a row, readable as it stands by `datasets` and by TRL (conversational, explicit
prompt), with more columns beside: `strength`, `margin`, `source`, `id`, `tools`, `info` and `tokens`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, get_args

from ...tools.atomic import write_lines
from ...tools.chat import Message
from ...tools.errors import UserError
from .chat_rows import OnBad, RowError, Rows, Skipped, messages_of, read_rows, tools_of

TIES = (4, 5)
"""The middle of the scale of 1 to 8: as good as each other, with a shade to the one or the other side."""

Ties = Literal["refuse", "skip", "both"]
"""What a tie gets: an error with its row, to be left out, or to be learned in both orders."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """One side as tokens, prompt and answer, exactly as it was sampled. The sequences have equal length T."""

    ids: tuple[int, ...]
    """Token ids."""
    mask: tuple[bool, ...]
    """Whether the model wrote the token: only these are learned."""

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.mask) or not any(self.mask):
            raise ValueError(
                f"the tokens of a side need one mark for each of its {len(self.ids)} ids, and some that the model "
                f"wrote, got {len(self.mask)} marks, {sum(self.mask)} of them set"
            )

    @property
    def begin(self) -> int:
        """Where the answer begins: the first token that the model wrote."""
        return self.mask.index(True)


@dataclass(frozen=True, slots=True)
class Preference:
    """Two answers to one prompt, the better one first.

    Raises `ValueError` for an empty prompt or answer, for identical answers, for an answer that does not begin
    with the assistant's turn, a strength out of 4 to 8 and a margin that is negative.
    """

    prompt: tuple[Message, ...]
    """The conversation up to the answer."""
    chosen: tuple[Message, ...]
    """The better answer: the assistant's message, and for tools those that follow, to the end."""
    rejected: tuple[Message, ...]
    """The other answer."""
    strength: int | None = None
    """How clear it is, on the scale that ends in 8, far better; 7 better, 6 a little; 5 and 4 a tie."""
    margin: float | None = None
    """By how much the chosen one was better in the unit of the source (a score, a place), at least 0."""
    source: str = ""
    """Who said so: `verifier`, `judge`, `reward_model`, `person:NAME` ..."""
    tools: tuple[dict[str, Any], ...] = ()
    """The schemas of the tools that the prompt shows."""
    id: str = ""
    """Names the comparison; pairs out of one group or ranking share what stands before the last `/`."""
    tokens: tuple[Tokens, Tokens] | None = None
    """Both sides as they were sampled, where they were; `tokenizer` says by which."""
    tokenizer: str = ""
    """The mark of the tokenizer of `tokens` (`tokenizer_mark`)."""
    info: Mapping[str, Any] = field(default_factory=dict)
    """More fields of the row, in plain JSON data."""

    def __post_init__(self) -> None:
        if not self.prompt:
            raise ValueError("the prompt is empty")
        for name, side in (("chosen", self.chosen), ("rejected", self.rejected)):
            if not side or side[0]["role"] != "assistant":
                raise ValueError(f"{name} does not begin with the assistant's message")
            if side[-1]["role"] != "assistant":
                raise ValueError(f"{name} does not end with the assistant's message")
            if self.tokens is None and not any(says_something(message) for message in side):
                raise ValueError(f"{name} is empty")
        if self.tokens is not None:
            if self.tokens[0].ids == self.tokens[1].ids:
                raise ValueError("identical sides")
        elif self.chosen == self.rejected:
            raise ValueError("identical sides")
        if self.strength is not None and (
            isinstance(self.strength, bool)
            or not isinstance(self.strength, int)
            or not 4 <= self.strength <= 8
        ):
            raise ValueError(
                f"strength must be 4 to 8 (8: chosen is far better; 4, 5: a tie), got {self.strength}"
            )
        if self.margin is not None and not 0 <= self.margin < float("inf"):
            raise ValueError(f"margin must be a number of at least 0, got {self.margin}")

    @property
    def tie(self) -> bool:
        """Whether neither side was found better."""
        return self.strength in TIES

    @property
    def swapped(self) -> Preference:
        """The same comparison with its sides exchanged; for ties alone.

        Raises `ValueError` for any other: it would say the opposite.
        """
        if not self.tie:
            raise ValueError("only a tie can be swapped")
        tokens = None if self.tokens is None else (self.tokens[1], self.tokens[0])
        strength = None if self.strength is None else 9 - self.strength
        return replace(self, chosen=self.rejected, rejected=self.chosen, tokens=tokens, strength=strength)

    @property
    def group(self) -> str:
        """What pairs of one group or ranking share, which a split keeps together; without an `id` the prompt."""
        return self.id.rpartition("/")[0] or json.dumps(self.prompt, sort_keys=True)

    def to_json(self) -> str:
        """Return the preference as one line of JSON."""
        row: dict[str, Any] = {
            "prompt": list(self.prompt),
            "chosen": list(self.chosen),
            "rejected": list(self.rejected),
        }
        for name in ("strength", "margin"):
            if getattr(self, name) is not None:
                row[name] = getattr(self, name)
        for name in ("source", "id"):
            if getattr(self, name):
                row[name] = getattr(self, name)
        if self.tools:
            row["tools"] = list(self.tools)
        if self.info:
            row["info"] = dict(self.info)
        if self.tokens is not None:
            row["tokens"] = [
                {"ids": list(side.ids), "mask": [int(mark) for mark in side.mask]} for side in self.tokens
            ]
            row["tokenizer"] = self.tokenizer
        return json.dumps(row, ensure_ascii=False, separators=(",", ":"))


def says_something(message: Message) -> bool:
    """Say whether an assistant's message has any words or calls."""
    return message["role"] == "assistant" and bool(message["content"].strip() or message.get("tool_calls"))


def from_rating(
    prompt: Sequence[Message],
    first: Sequence[Message],
    second: Sequence[Message],
    rating: int,
    **more: Any,
) -> Preference:
    """Return the preference of a rating from 1 (the first is far better) to 8 (the second is).

    4 and 5 are ties, leaning to the first and to the second. `more` are further fields of `Preference`. Raises
    `ValueError` for a rating outside of the scale.
    """
    if isinstance(rating, bool) or not isinstance(rating, int) or not 1 <= rating <= 8:
        raise ValueError(f"a rating must be a whole number from 1 to 8, got {rating!r}")
    better, worse = (second, first) if rating >= 5 else (first, second)
    return Preference(tuple(prompt), tuple(better), tuple(worse), strength=max(rating, 9 - rating), **more)


def from_ranking(
    prompt: Sequence[Message],
    answers: Sequence[Sequence[Message]],
    places: Sequence[int],
    *,
    name: str,
    **more: Any,
) -> list[Preference]:
    """Return all pairs of a ranking of k answers (InstructGPT, arXiv 2203.02155, section 3.5), the better first.

    `places`: of each answer, 1 for the best; equal places are ties, which come with strength 5. The margin is the
    difference of places. Pairs of identical answers say nothing and are left out. The ids are `name/n`, so that the
    pairs, which are not independent, stay together in a split. Raises `ValueError` if there is not one place for each
    of at least two answers.
    """
    if len(places) != len(answers) or len(answers) < 2:
        raise ValueError(
            f"a ranking needs a place for each of 2 or more answers, got {len(places)} for {len(answers)}"
        )
    found: list[Preference] = []
    for one, other in combinations(range(len(answers)), 2):
        better, worse = (one, other) if places[one] <= places[other] else (other, one)
        if tuple(answers[one]) == tuple(answers[other]):
            continue
        gap = places[worse] - places[better]
        found.append(
            Preference(
                tuple(prompt),
                tuple(answers[better]),
                tuple(answers[worse]),
                strength=None if gap else 5,
                margin=float(gap),
                id=f"{name}/{len(found)}",
                **more,
            )
        )
    return found


def read_preferences(path: Path, on_bad: OnBad = "refuse", *, what: str = "preferences") -> Rows[Preference]:
    """Read a file of preferences: our own rows, and those of TRL and Hugging Face.

    A row has `chosen` and `rejected`, each a list of messages or a text, and a `prompt` (explicit), or both sides
    begin with it (implicit: what they have in common is the prompt; texts as in Anthropic's HH are cut at their
    turns). A prompt or an answer that is a text is one message of the user and of the assistant. A `strength` of
    1 to 3 says that the rejected side is better, so the sides are exchanged.

    With `on_bad = "refuse"` raises `UserError` that names the rows which cannot be used; with `"skip"` they are left
    out and counted in the result.
    """
    return read_rows(path, lambda row, _: preference_of(row), what=what).settle(
        f"{what}: {path}", on_bad, "on_bad = 'skip'"
    )


def preference_of(row: Mapping[str, Any]) -> Preference:
    """Return the preference that a row says. Raises `RowError` for one that says none; see `read_preferences`."""
    missing = [name for name in ("chosen", "rejected") if row.get(name) in (None, "", [])]
    if missing:
        raise RowError(f"no {' and no '.join(missing)}")
    prompt, chosen, rejected = _sides(row)
    strength, margin = row.get("strength"), row.get("margin")
    if isinstance(strength, int) and not isinstance(strength, bool) and 1 <= strength < 4:
        raise RowError("strength below 4: the rejected side is the better one; exchange them")
    if margin is not None and (isinstance(margin, bool) or not isinstance(margin, int | float)):
        raise RowError("margin is not a number")
    try:
        return Preference(
            prompt,
            chosen,
            rejected,
            strength=strength,
            margin=None if margin is None else float(margin),
            source=str(row.get("source") or ""),
            tools=tools_of(row.get("tools")),
            id=str(row.get("id") or ""),
            tokens=_tokens(row.get("tokens")),
            tokenizer=str(row.get("tokenizer") or ""),
            info=dict(row.get("info") or {}),
        )
    except RowError:
        raise
    except (ValueError, TypeError) as error:
        raise RowError(str(error)) from None


def _tokens(given: object) -> tuple[Tokens, Tokens] | None:
    if given is None:
        return None
    try:
        one, other = (
            Tokens(tuple(int(i) for i in side["ids"]), tuple(bool(m) for m in side["mask"]))
            for side in given  # type: ignore[attr-defined]
        )
    except (ValueError, TypeError, LookupError):
        raise RowError("tokens are not two objects with ids and a mask of equal length") from None
    return one, other


def _sides(row: Mapping[str, Any]) -> tuple[tuple[Message, ...], tuple[Message, ...], tuple[Message, ...]]:
    from .formats import dialogue_of

    chosen, rejected, prompt = row["chosen"], row["rejected"], row.get("prompt")
    if prompt not in (None, "", []):
        before = _as_messages(prompt, "user", "prompt")
        return (
            before,
            _as_messages(chosen, "assistant", "chosen"),
            _as_messages(rejected, "assistant", "rejected"),
        )
    if isinstance(chosen, str) and isinstance(rejected, str):
        one, other = dialogue_of(chosen), dialogue_of(rejected)
    else:
        one, other = messages_of(chosen, "chosen"), messages_of(rejected, "rejected")
    shared = 0
    while shared < min(len(one), len(other)) - 1 and one[shared] == other[shared]:
        shared += 1
    while shared and (one[shared]["role"], other[shared]["role"]) != ("assistant", "assistant"):
        shared -= 1
    if not shared:
        raise RowError("no prompt, and the sides have no beginning in common")
    return one[:shared], one[shared:], other[shared:]


def _as_messages(given: object, role: Literal["user", "assistant"], name: str) -> tuple[Message, ...]:
    return messages_of([{"role": role, "content": given}] if isinstance(given, str) else given, name)


def write_preferences(path: Path, preferences: Iterable[Preference]) -> int:
    """Write a file of preferences, whole or not at all, and return how many. Raises `OSError` as the system does."""
    return write_lines(path, (preference.to_json() for preference in preferences))


def settle_ties(rows: Rows[Preference], ties: Ties, where: str) -> Rows[Preference]:
    """Return the rows without ties: left out and counted (`skip`), or each in both orders (`both`).

    With `refuse` raises `UserError` that names their rows: a tie says nothing about which side to prefer.
    """
    if ties not in get_args(Ties):
        raise UserError(f"ties must be one of {', '.join(get_args(Ties))}, got {ties!r}")
    found: Rows[Preference] = Rows(skipped=list(rows.skipped))
    for number, one in zip(rows.numbers, rows.kept, strict=True):
        if one.tie and ties != "both":
            found.skipped.append(Skipped(number, "ties"))
            continue
        for each in (one, one.swapped) if one.tie else (one,):
            found.kept.append(each)
            found.numbers.append(number)
    tied = [skipped.row for skipped in found.skipped if skipped.reason == "ties"]
    if tied and ties == "refuse":
        raise UserError(
            f"{where}: {len(tied)} rows are ties ({', '.join(map(str, tied[:5]))}{', ...' if len(tied) > 5 else ''}), "
            "which say nothing about the side to prefer; set ties = 'skip' to leave them out, or 'both' to learn each "
            "in both orders"
        )
    found.skipped.sort(key=lambda skipped: skipped.row)
    return found
