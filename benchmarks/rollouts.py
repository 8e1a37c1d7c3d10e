"""Rollouts: what the framework itself costs, and how it compares with what others do. Each part runs alone, or all.

    python benchmarks/rollouts.py overhead        # the framework alone: 20 s
    python benchmarks/rollouts.py tools           # a slow tool, beside TRL's tool loop: 2 minutes
    python benchmarks/rollouts.py generate        # the transformers engine, beside padded model.generate: 6 minutes
    python benchmarks/rollouts.py vllm            # multi-turn episodes, beside plain prompts to vLLM: 9 minutes

`overhead`: CPU time of one step (one reply and its answer) with the scripted engine, where nothing is sampled and the
environment only answers a text, so what is left is ours; and the memory of 1,000 episodes in flight. The other parts
are described in `tool_loop`, `padded_generate` and `engine_use`. Both sides of a comparison run in the same process, by
turns; of several rounds the best counts, and a ratio is given as the middle and the range of the rounds.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from common import at_least, finish, machine, one_of, parser, ratio, spread, table

from quintain.envs.base import TextEnv
from quintain.rl.chat import ChatCodec
from quintain.rl.config import RolloutConfig, TinyModelConfig
from quintain.rl.engines.scripted import ScriptedEngine
from quintain.rl.journal import Journal
from quintain.rl.rollout import Start, rollout
from quintain.rl.tiny import build_tokenizer

EPISODES, TURNS = 500, 8
REPLY = "I look at the board again, and then I move the tower two fields to the left."


class Talk(TextEnv):
    """Answers every reply with a text of its own."""

    def begin(self, task):
        """Show the board."""
        return "You see a board with a tower on it. What do you do?"

    def respond(self, reply):
        """Answer with another text each time."""
        return f"You have moved {len(self.messages) // 2} times. What do you do now?"


class Waiting(Talk):
    """Does so when all episodes have come to the same place."""

    def __init__(self, gate: asyncio.Event, **options):
        super().__init__(**options)
        self.gate, self.there = gate, [0]

    async def arespond(self, reply):
        """Wait for the others."""
        self.there[0] += 1
        await self.gate.wait()
        return self.respond(reply)


def codec() -> ChatCodec:
    return ChatCodec(build_tokenizer([REPLY] * 4, TinyModelConfig(vocabulary=320, context=4096)))


def starts(count: int) -> list[Start]:
    return [Start(f"e{n}", n, n) for n in range(count)]


LIMITS = RolloutConfig(turn_tokens=512, episode_tokens=100_000, concurrency=1000)


def step_ms(journal: Path | None) -> float:
    """Return the CPU milliseconds of one step."""
    codec_ = codec()
    reply = codec_.encode_reply(REPLY)
    engine = ScriptedEngine(lambda ids, sampling: reply)

    async def play(count: int) -> None:
        book = Journal(journal) if journal is not None else None
        await rollout(Talk(max_turns=TURNS), engine, codec_, starts(count), LIMITS, journal=book)
        if book is not None:
            book.close()

    asyncio.run(play(20))  # templates are compiled, deltas are rendered
    if journal is not None:
        journal.unlink()
    began = time.process_time()
    asyncio.run(play(EPISODES))
    return 1000 * (time.process_time() - began) / (EPISODES * TURNS)


def resident_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


async def memory_mb(count: int = 1000, turns: int = 4) -> float:
    """Return the memory of `count` episodes that are all in flight, or done and kept, whichever is more, in MiB."""
    codec_ = codec()
    reply = codec_.encode_reply(REPLY)
    engine = ScriptedEngine(lambda ids, sampling: reply)
    await rollout(Talk(max_turns=2), engine, codec_, starts(2), LIMITS)
    before = resident_mb()
    gate = asyncio.Event()
    env = Waiting(gate, max_turns=turns)
    phase = asyncio.ensure_future(rollout(env, engine, codec_, starts(count), LIMITS))
    while env.there[0] < count:
        await asyncio.sleep(0.01)
    held = resident_mb() - before
    gate.set()
    await phase
    return max(held, resident_mb() - before)


def overhead(rounds: int) -> dict[str, Any]:
    """Measure what the framework costs."""
    with tempfile.TemporaryDirectory() as folder:
        plain, kept = [], []
        for n in range(rounds):
            plain.append(step_ms(None))
            kept.append(step_ms(Path(folder) / f"{n}.jsonl"))
    held = asyncio.run(memory_mb())
    return {
        "step_cpu_ms": spread(plain),
        "step_with_journal_cpu_ms": spread(kept),
        "thousand_episodes_mib": held,
    }


def show_overhead(figures: dict[str, Any]) -> None:
    """Print it."""
    if "overhead" not in figures:
        return
    found = figures["overhead"]
    rows = [
        ("a step, CPU-ms", f"{found['step_cpu_ms']['low']:.3f}", 0.15),
        (
            "a step, every episode written to the journal, CPU-ms",
            f"{found['step_with_journal_cpu_ms']['low']:.3f}",
            0.15,
        ),
        ("1,000 episodes in flight, MiB above the base", f"{found['thousand_episodes_mib']:.0f}", 300),
    ]
    table("What the framework itself costs:", ("", "measured", "at most"), rows)


def tools(rounds: int) -> dict[str, Any]:
    """Compare episodes with a slow tool."""
    from tool_loop import compare

    return compare(rounds)


def show_tools(figures: dict[str, Any]) -> None:
    """Print it."""
    if "tools" not in figures:
        return
    found = figures["tools"]
    sides = (("**ours**", "ours"), ("TRL", "trl"), ("sampling the same replies alone", "sampling"))
    over = {
        "ours": (1, 1),
        "trl": (ratio(found["ratio_wall"]), ratio(found["ratio_cpu"])),
        "sampling": ("", ""),
    }
    rows = [
        (name, f"{found[f'{side}_wall_s']:.2f}", f"{found[f'{side}_cpu_s']:.2f}", *over[side])
        for name, side in sides
    ]
    title = f"{found['episodes']} episodes with a slow tool, {found['sampled_tokens']:,} sampled tokens:"
    table(title, ("", "wall s", "CPU s", "wall / ours", "CPU / ours"), rows)
    print(f"\nours / critical path, wall: {found['ours_over_critical_path']:.2f} (at most 1.3)")


def generate(rounds: int) -> dict[str, Any]:
    """Compare the transformers engine with padded `model.generate`."""
    from padded_generate import compare

    return {name: compare(name, rounds) for name in ("tiny", "smollm2")}


def show_generate(figures: dict[str, Any]) -> None:
    """Print it."""
    if "generate" not in figures:
        return
    names = {"tiny": "embedded model, float32", "smollm2": "SmolLM2-135M, bfloat16"}
    rows = [
        (
            names[name],
            found["episodes"],
            found["sampled_tokens"],
            f"{found['ours_tokens_per_cpu_s']:,.0f}",
            f"{found['generate_tokens_per_cpu_s']:,.0f}",
            ratio(found["ratio_cpu"]),
            ratio(found["ratio_wall"]),
        )
        for name, found in figures["generate"].items()
    ]
    head = ("", "episodes", "tokens", "ours, tokens / CPU s", "`generate`", "ratio", "ratio of wall")
    table("Episodes of several turns, the transformers engine and padded `model.generate`:", head, rows)


def vllm(rounds: int) -> dict[str, Any]:
    """Compare episodes on vLLM with plain prompts."""
    from engine_use import compare

    return {name: compare(name, episodes, rounds) for name, (_, episodes) in GAMES.items()}


GAMES = {
    "smollm2": ("SmolLM2, calculator", 64),
    "guess": ("SmolLM2, guessing numbers", 48),
    "tiny": ("the embedded model, calculator", 512),
}
"""What is played on vLLM, and how many episodes of it."""


def show_vllm(figures: dict[str, Any]) -> None:
    """Print it: a row for everything that was played."""
    if "vllm" not in figures:
        return
    rows = [
        (
            GAMES[name][0],
            found["episodes"],
            found["requests"],
            found["tokens"],
            f"{found['episodes_tokens_per_cpu_s']:,.0f}",
            f"{found['plain_tokens_per_cpu_s']:,.0f}",
            ratio(found["utilisation_cpu"]),
            ratio(found["utilisation_wall"]),
            f"{found['episodes_steps']} / {found['plain_steps']}",
            f"{found['event_loop_cpu']:.1%}",
        )
        for name, found in figures["vllm"].items()
    ]
    head = (
        "", "episodes", "requests", "tokens", "episodes, tokens / CPU s", "plain prompts", "ratio", "ratio of wall",
        "steps of vLLM", "on the event loop",
    )  # fmt: skip
    table("Episodes on vLLM, and the same requests as plain prompts:", head, rows)
    print("\nWanted: a ratio of at least 0.9.")


PARTS: dict[str, Callable[[int], dict[str, Any]]] = {
    "overhead": overhead,
    "tools": tools,
    "generate": generate,
    "vllm": vllm,
}
SHOWN = {"overhead": show_overhead, "tools": show_tools, "generate": show_generate, "vllm": show_vllm}
"""What prints the table of a part."""


def main() -> None:
    options = parser(__doc__)
    options.add_argument("parts", nargs="*", type=one_of(PARTS), metavar="PART", help=", ".join(PARTS))
    options.add_argument(
        "--rounds", type=at_least(1), default=3, help="rounds of both sides; the best counts"
    )
    options.add_argument("--threads", type=at_least(1), default=1, help="of torch")
    chosen = options.parse_args()
    if chosen.parts != ["overhead"]:
        import torch

        torch.set_num_threads(chosen.threads)
    before = machine()
    found = {}
    for name in [name for name in PARTS if name in (chosen.parts or PARTS)]:  # memory is told before it grows
        found[name] = PARTS[name](chosen.rounds)
        SHOWN[name](found)
    finish(chosen, before, found)


if __name__ == "__main__":
    main()
