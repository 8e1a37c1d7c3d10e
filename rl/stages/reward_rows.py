"""The rows that a reward model learns from, as tokens: pairs, judged answers, judged steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...tools.chat import Message, user
from ...tools.errors import UserError
from ...verifiers.reward_tokens import conversation_ids, step_ids
from .chat_rows import RowError, Rows, messages_of, read_rows
from .preference import Preference, preference_of, settle_ties
from .reward_model_config import RewardModelConfig


@dataclass(frozen=True, slots=True)
class Side:
    """A conversation as the reward model reads it."""

    ids: tuple[int, ...]
    """Its tokens."""
    ends: tuple[int, ...]
    """The places at which the model is asked."""


@dataclass(frozen=True, slots=True)
class RewardRow:
    """One row: two sides, the better one first, or one side with a label for each of its ends."""

    sides: tuple[Side, ...]
    """Two for pairs, else one."""
    labels: tuple[float, ...] = ()
    """In [0, 1], one for each end; none for pairs."""
    margin: float = 0.0
    """By how much the first side is better, in the unit of its source; 0 where nobody said."""
    category: str = ""
    """What accuracy is told apart by."""
    group: str = ""
    """Rows of one group stay on one side of a split."""


def read_reward_rows(config: RewardModelConfig, tokenizer: Any, longest: int) -> Rows[RewardRow]:
    """Read the rows of the config's file as tokens.

    `longest`: the most tokens of a conversation. A longer one is refused, skipped, or loses its beginning, as the
    verifier does it. Raises `UserError` with row numbers for those that are refused.
    """
    data, where = config.data, f"data.path: {config.data.path}"
    found: Rows[RewardRow]
    if data.kind == "pairs":
        categories: dict[int, str] = {}

        def pair(row: dict[str, Any], number: int) -> Preference:
            made = preference_of(row)
            categories[id(made)] = _category(row, data.category) or made.source
            return made

        pairs = read_rows(data.path, pair, what="data.path")
        pairs = settle_ties(pairs.settle(where, config.rows.on_bad, "rows.on_bad = 'skip'"), data.ties, where)
        found = pairs.refine(lambda one: _pair(one, categories.get(id(one), one.source), tokenizer))
    else:
        make = _outcome if data.kind == "outcome" else _steps
        found = read_rows(
            data.path, lambda row, number: make(row, data.category, tokenizer), what="data.path"
        )
    found = found.settle(where, config.rows.on_bad, "rows.on_bad = 'skip'")
    return _fitted(found, config, longest, where)


def _pair(one: Preference, category: str, tokenizer: Any) -> RewardRow:
    sides = []
    for answer in (one.chosen, one.rejected):
        ids = tuple(conversation_ids(tokenizer, [*one.prompt, *answer]))
        sides.append(Side(ids, (len(ids) - 1,)))
    if sides[0].ids == sides[1].ids:
        raise RowError("identical sides, as the reward model reads them")
    return RewardRow((sides[0], sides[1]), margin=one.margin or 0.0, category=category, group=one.group)


def _outcome(row: Mapping[str, Any], key: str, tokenizer: Any) -> RewardRow:
    prompt = _prompt(row)
    response = row.get("response")
    if not isinstance(response, str) or not response.strip():
        raise RowError("no response")
    ids = tuple(conversation_ids(tokenizer, [*prompt, {"role": "assistant", "content": response}]))
    side = Side(ids, (len(ids) - 1,))
    return RewardRow((side,), (_label(row.get("label")),), category=_category(row, key), group=str(prompt))


def _steps(row: Mapping[str, Any], key: str, tokenizer: Any) -> RewardRow:
    prompt, steps, labels = _prompt(row), row.get("steps"), row.get("labels")
    if not isinstance(steps, list) or not steps or not all(isinstance(s, str) and s.strip() for s in steps):
        raise RowError("no list of steps")
    if not isinstance(labels, list) or len(labels) != len(steps):
        raise RowError("not one label for each step")
    ids, ends = step_ids(tokenizer, prompt, [step.rstrip("\n") + "\n" for step in steps])
    return RewardRow(
        (Side(tuple(ids), tuple(ends)),),
        tuple(_label(label) for label in labels),
        category=_category(row, key),
        group=str(prompt),
    )


def _prompt(row: Mapping[str, Any]) -> tuple[Message, ...]:
    prompt = row.get("prompt")
    if isinstance(prompt, str) and prompt.strip():
        return (user(prompt),)
    if prompt in (None, "", []):
        raise RowError("no prompt")
    return messages_of(prompt, "prompt")


def _label(label: object) -> float:
    if not isinstance(label, bool | int | float) or not 0 <= label <= 1:
        raise RowError("a label that is neither true or false nor in [0, 1]")
    return float(label)


def _category(row: Mapping[str, Any], key: str) -> str:
    info = row.get("info")
    inside = info.get(key) if isinstance(info, Mapping) else None
    return str(inside if inside is not None else row.get(key) or "")


def _fitted(rows: Rows[RewardRow], config: RewardModelConfig, longest: int, where: str) -> Rows[RewardRow]:
    """Deal with conversations of more than `longest` tokens."""

    def fit(row: RewardRow) -> RewardRow:
        if all(len(side.ids) <= longest for side in row.sides):
            return row
        if config.rows.on_long != "cut":
            raise RowError(f"more than {longest} tokens")
        sides = tuple(_cut(side, longest) for side in row.sides)
        if len(sides) == 2 and sides[0].ids == sides[1].ids:
            raise RowError(f"the same last {longest} tokens on both sides")
        lost = len(row.sides[0].ends) - len(sides[0].ends)
        return RewardRow(sides, row.labels[lost:], row.margin, row.category, row.group)

    before = len(rows.skipped)
    found = rows.refine(fit)
    if len(found.skipped) > before and config.rows.on_long == "refuse":
        raise UserError(
            f"{where}: {found.report()}; raise rows.max_tokens, or set rows.on_long = 'skip' or 'cut'"
        )
    if not found.kept:
        raise UserError(f"{where}: no row is left; {found.report()}")
    return found


def _cut(side: Side, longest: int) -> Side:
    lost = max(len(side.ids) - longest, 0)
    return Side(side.ids[lost:], tuple(end - lost for end in side.ends if end >= lost))
