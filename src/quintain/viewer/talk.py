"""One episode for people: who said what, which calls came back how, what each token was, what it was worth."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..rl.trajectory import Trajectory
from ..run_folder import kind_of, step_of


def verdict_of(trajectory: Trajectory) -> str:
    """Return `right`, `wrong` or `ungraded`."""
    if not trajectory.graded:
        return "ungraded"
    return "right" if trajectory.success else "wrong"


def when(path: Path) -> str:
    """Return what a file of trajectories holds: `RL step 20`, `evaluation at step 20`."""
    kind, step = kind_of(path), step_of(path)
    label = re.sub(r"[-_]?\d+$", "", path.stem.removeprefix(kind)).strip("-_").replace("-", " ")
    if kind == "sft":
        return "demonstrations"
    if kind == "eval":
        return f"evaluation {label}" if label in ("before", "after SFT") else f"evaluation at step {step}"
    if kind == "nonfinite":
        return f"not finite at step {step}"
    return f"RL step {step}" if kind == "rl" else path.stem


def calls_of(message: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the tool calls of a message as (name, arguments in JSON)."""
    calls = []
    for call in message.get("tool_calls") or ():
        function = call.get("function", {})
        arguments = function.get("arguments", {})
        text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        calls.append((str(function.get("name", "")), text))
    return calls


def conversation(trajectory: Trajectory) -> list[dict[str, Any]]:
    """Return the messages as the template `_talk.html` wants them, each reply with what its turn recorded."""
    replies = sum(message["role"] == "assistant" for message in trajectory.messages)
    turns = list(trajectory.turns) if len(trajectory.turns) == replies else []
    messages = []
    for message in trajectory.messages:
        turn = turns.pop(0) if message["role"] == "assistant" and turns else None
        messages.append(
            {
                "role": message["role"],
                "content": message.get("content") or "",
                "reasoning": message.get("reasoning_content") or "",
                "name": message.get("name", ""),
                "calls": calls_of(message),
                "tokens": turn.end - turn.start if turn is not None else 0,
                "parse_error": turn is not None and turn.parse_error,
                "failed": turn.tool_errors if turn is not None else 0,
                "reward": turn.reward if turn is not None else 0.0,
            }
        )
    return messages


def judgement(trajectory: Trajectory) -> dict[str, Any]:
    """Return the score and the end of an episode as `_talk.html` wants them."""
    return {
        "verdict": verdict_of(trajectory),
        "value": trajectory.score.value,
        "parts": sorted(trajectory.score.parts.items()),
        "reason": trajectory.score.reason,
        "stop": str(trajectory.stop).replace("_", " "),
        "info": [(str(key), _shown(value)) for key, value in trajectory.info.items()],
    }


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


COLOURS = {
    "who": "who wrote it",
    "logprob": "log-probability",
    "advantage": "advantage",
    "ratio": "importance ratio",
}
"""What tokens can be coloured by."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Tokens in a row that one side wrote."""

    sampled: bool
    """Whether the model wrote them."""
    title: str
    """`reply 2`, `context` ..."""
    tokens: Sequence[tuple[str, str, str]]
    """(class, facts for people, text) of each."""


def stretches(
    trajectory: Trajectory,
    pieces: Sequence[str],
    colour: str,
    *,
    advantages: Sequence[float] | None = None,
    ratios: Sequence[float] | None = None,
    first: int = 0,
    last: int | None = None,
) -> list[Stretch]:
    """Return the tokens `first` to `last` in stretches, coloured by one of `COLOURS`.

    `advantages` and `ratios` are of the sampled tokens alone, in order; None where they are not stored.
    """
    bounds = set(trajectory.samples) | {0, len(trajectory.ids)}
    bounds |= {at for turn in trajectory.turns for at in (turn.start, turn.end)}
    starts = {turn.start: number for number, turn in enumerate(trajectory.turns, 1)}
    largest = max((abs(a) for a in advantages or ()), default=0.0)
    shown: list[Stretch] = []
    tokens: list[tuple[str, str, str]] = []
    title, sampled, count = "context", False, 0
    end = len(trajectory.ids) if last is None else min(last, len(trajectory.ids))
    for at in range(end):
        if at in bounds or trajectory.mask[at] != sampled:
            if tokens:
                shown.append(Stretch(sampled, title, tokens))
            tokens, sampled = [], bool(trajectory.mask[at])
            title = f"reply {starts[at]}" if at in starts else "context" if not sampled else title
        place, count = count, count + sampled
        if at < first:
            continue
        facts = [f"token {trajectory.ids[at]}"]
        kind = "" if not sampled else "w"
        if sampled:
            logprob = trajectory.logprobs[at]
            facts.append(f"log-probability {logprob:.3f} ({100 * math.exp(min(logprob, 0.0)):.3g} %)")
            facts.append(f"weights of step {trajectory.versions[at]}")
            if colour == "logprob":
                kind = f"p{probability_class(logprob)}"
            if advantages is not None and place < len(advantages):
                facts.append(f"advantage {advantages[place]:+.3f}")
                if colour == "advantage":
                    kind = signed_class("a", advantages[place], largest)
            if ratios is not None and place < len(ratios):
                facts.append(f"ratio {ratios[place]:.4f}")
                if colour == "ratio":
                    kind = signed_class("r", math.log(max(ratios[place], 1e-9)), math.log(2.0))
        tokens.append((kind, " · ".join(facts), pieces[at]))
    if tokens:
        shown.append(Stretch(sampled, title, tokens))
    return shown


def probability_class(logprob: float) -> int:
    """Return 0 (surely so, above 0.9) to 5 (a surprise, below 0.01)."""
    return next((n for n, bound in enumerate((0.9, 0.5, 0.2, 0.05, 0.01)) if logprob >= math.log(bound)), 5)


def signed_class(prefix: str, value: float, largest: float) -> str:
    """Return `a+3` ... `a-3` for a value between `largest` and `-largest`; `a0` for none."""
    if largest <= 0 or not math.isfinite(value) or abs(value) < 1e-9:
        return f"{prefix}0"
    step = min(3, max(1, math.ceil(3 * abs(value) / largest)))
    return f"{prefix}{'p' if value > 0 else 'n'}{step}"
