"""What the regression gate measures: pairs of the same work, ours and something that does not change with ours.

A figure is the ratio of their processor time, measured by turns in one process, so it hardly depends on the machine.
Each function here makes one pair; `FIGURES` names them.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from common import own_cpu, tree_cpu


@dataclass(frozen=True)
class Pair:
    """Two works whose processor time is compared."""

    ours: Callable[[], object]
    beside: Callable[[], object]
    """Takes some 20 to 100 ms, as `ours` does."""
    clock: Callable[[], float] = time.process_time
    """Processor seconds of everything that takes part."""


def repeated(work: Callable[[], object], times: int) -> Callable[[], None]:
    """Return `work` done so many times."""

    def run() -> None:
        for _ in range(times):
            work()

    return run


def yardstick() -> Fraction:
    """Do a fixed amount of what our Python mostly does: JSON, regular expressions, small objects, exact numbers."""
    total = Fraction(0)
    for number in range(40):
        said = {
            "role": "user",
            "content": f"I think it is {number}/7 of {number + 1}.",
            "calls": [number] * 4,
        }
        content = json.loads(json.dumps(said))["content"]
        top, bottom, whole = map(int, re.findall(r"\d+", content))
        total += Fraction(top, bottom) * whole
    return total


# --- environments


def chat_steps(times: int) -> Callable[[], None]:
    """Return steps of a Gymnasium environment that keeps a conversation by hand, as `gymnasium.make` gives it."""
    import gymnasium
    from game import by_gymnasium

    return repeated(by_gymnasium.steps(gymnasium.make("bench/Chat-v0")), times)


@contextmanager
def text_env_step() -> Iterator[Pair]:
    """`TextEnv.step` / a Gymnasium environment from `gymnasium.make` that keeps the conversation by hand."""
    from game import by_gymnasium
    from game.by_quintain import Guess

    yield Pair(repeated(by_gymnasium.steps(Guess(max_turns=100)), 400), chat_steps(400))


@contextmanager
def tool_step() -> Iterator[Pair]:
    """A reply with a call read, the tool called, the answer's messages out / the yardstick."""
    from game import SECRET, by_quintain

    env = by_quintain.with_tool(by_quintain.guess, str(SECRET))
    replies = [*(by_quintain.called("guess", n) for n in by_quintain.GUESSES), str(SECRET)]

    async def play() -> None:
        for seed in range(200):
            await by_quintain.played(env, replies, seed)

    with asyncio.Runner() as runner:
        yield Pair(lambda: runner.run(play()), repeated(yardstick, 100))


# --- rollouts


@contextmanager
def rollout_step() -> Iterator[Pair]:
    """A step of a rollout with the scripted engine, tokens recorded and nothing sampled / the yardstick."""
    import rollouts

    from quintain.rl.engines.scripted import ScriptedEngine
    from quintain.rl.rollout import rollout

    codec = rollouts.codec()
    reply = codec.encode_reply(rollouts.REPLY)
    engine = ScriptedEngine(lambda ids, sampling: reply)
    env = rollouts.Talk(max_turns=rollouts.TURNS)

    async def play() -> None:
        await rollout(env, engine, codec, rollouts.starts(100), rollouts.LIMITS)

    with asyncio.Runner() as runner:
        yield Pair(lambda: runner.run(play()), repeated(yardstick, 100))


@contextmanager
def decode() -> Iterator[Pair]:
    """The transformers engine on multi-turn episodes of the tiny model / padded `model.generate` of the same."""
    import padded_generate

    model, words = padded_generate.tiny()
    played = padded_generate.episodes(8, 4, seed=1, words=words, stop=padded_generate.STOP, turns=(1, 3))
    yield Pair(
        lambda: padded_generate.with_ours(model, played),
        lambda: padded_generate.with_generate(model, played),
    )


# --- verifiers and sandboxes


ANSWERS = (
    ("18", "She has 9 * 2 = 18 eggs.\n#### 18"),
    ("\\frac{1}{2}", "so it is \\boxed{0.5}"),
    ("x^2+2x+1", "Expanding gives $\\boxed{(x+1)^2}$."),
    ("(1, 2)", "The point is \\boxed{(1,2)}."),
    ("2\\sqrt{3}", "we get \\boxed{\\sqrt{12}}"),
    ("5", "The answer is 6."),
    ("\\{1, 2, 3\\}", "\\boxed{\\{3, 2, 1\\}}"),
    ("[0, 1)", "$\\boxed{0 \\le x < 1}$"),
    ("\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}", "\\boxed{\\begin{bmatrix}1&2\\\\3&4\\end{bmatrix}}"),
    ("30^\\circ", "The angle is \\boxed{30} degrees."),
)
"""Gold and reply; each is judged with another number in front, so that nothing is known already."""


@contextmanager
def math_answer() -> Iterator[Pair]:
    """`MathAnswer` on ten kinds of answers / the yardstick."""
    from quintain.verifiers import MathAnswer, Task

    judge, numbers = MathAnswer(), itertools.count()

    def judged() -> None:
        number = next(numbers)
        for gold, reply in ANSWERS:
            judge(f"Try {number}. {reply}", Task(f"t{number}", "", gold))

    yield Pair(repeated(judged, 30), repeated(yardstick, 100))


@contextmanager
def sandbox_run() -> Iterator[Pair]:
    """A fresh sandbox for a run of `pass` / `python -I -S -c pass`, which is not isolated at all."""
    from quintain.sandboxes import open_pool
    from quintain.sandboxes.machine import find_interpreter

    bare = find_interpreter()
    command = [f"{bare.base}/{bare.executable}", "-I", "-S", "-c", "pass"]
    with open_pool("local") as pool:
        yield Pair(
            repeated(lambda: pool.run_sync("pass"), 30),
            repeated(lambda: subprocess.run(command, check=True), 30),
            clock=lambda: own_cpu() + tree_cpu(),
        )


# --- the learner


@contextmanager
def learner_update() -> Iterator[Pair]:
    """A GRPO update of the tiny model on multi-turn episodes / padded forward, backward, AdamW of the same tokens."""
    import copy

    import learner
    import numpy as np
    import padded_generate
    import torch

    from quintain.rl.credit import assign
    from quintain.rl.learner import Learner

    model, words = padded_generate.tiny()
    rows = []
    episodes = padded_generate.episodes(8, 8, seed=3, words=words, stop=padded_generate.STOP)
    for number, episode in enumerate(episodes):
        ids = [token for given, reply in episode for token in (*given, *reply)]
        mask = [mine for given, reply in episode for mine in (*[0] * len(given), *[1] * len(reply))]
        rows.append({"ids": ids, "mask": mask, "prompt": len(episode[0][0]), "group": number // 8})
    batch = learner.trajectories(rows)
    config = learner.grpo(groups=1, minibatches=1)
    ours = Learner(
        copy.deepcopy(model), config, temperature=1.0, generator=np.random.default_rng(0), longest=600
    )

    def update() -> None:
        measured = ours.measure(batch)
        ours.update(batch, assign(batch, config, measured), measured)

    plain = model.train()
    plain.set_attn_implementation("sdpa")
    optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-6)
    width = max(len(row["ids"]) for row in rows)

    def padded(name: str) -> Any:
        return torch.tensor([[*row[name], *[0] * (width - len(row[name]))] for row in rows])

    ids_BT, mask_BT = padded("ids"), padded("mask").bool()
    seen_BT = torch.tensor([[1] * len(row["ids"]) + [0] * (width - len(row["ids"])) for row in rows])

    def plainly() -> None:
        logits_BTV = plain(input_ids=ids_BT, attention_mask=seen_BT).logits
        logps_BT = logits_BTV[:, :-1].log_softmax(-1).gather(-1, ids_BT[:, 1:, None])[..., 0]
        (-logps_BT * mask_BT[:, 1:]).sum().div(mask_BT.sum()).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    yield Pair(update, plainly)


FIGURES: dict[str, Callable[[], AbstractContextManager[Pair]]] = {
    made.__name__: made
    for made in (
        text_env_step, tool_step, rollout_step, math_answer, sandbox_run, learner_update, decode,
    )
}  # fmt: skip
