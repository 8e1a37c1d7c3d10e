"""Rollouts: what the framework itself costs, and how it compares with what others do. Each part runs alone, or all.

    python benchmarks/rollouts.py overhead        # the framework alone: 20 s
    python benchmarks/rollouts.py tools           # a slow tool, beside TRL's tool loop: 2 minutes
    python benchmarks/rollouts.py generate        # the transformers engine, beside padded model.generate: 6 minutes
    python benchmarks/rollouts.py vllm            # multi-turn episodes, beside plain prompts to vLLM: 7 minutes

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

from common import finish, machine, parser, ratio, spread, table

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
    with tempfile.TemporaryDirectory() as folder:
        plain, kept = [], []
        for n in range(rounds):
            plain.append(step_ms(None))
            kept.append(step_ms(Path(folder) / f"{n}.jsonl"))
    held = asyncio.run(memory_mb())
    rows = [
        ("a step, CPU-ms", min(plain), 0.15),
        ("a step, with the journal, CPU-ms", min(kept), 0.15),
        ("1,000 episodes in flight, MiB above the base", held, 300),
    ]
    table("What the framework costs", ("", "measured", "at most"), rows)
    return {
        "step_cpu_ms": spread(plain),
        "step_with_journal_cpu_ms": spread(kept),
        "thousand_episodes_mib": held,
    }


def tools(rounds: int) -> dict[str, Any]:
    from tool_loop import CALLS, EPISODES, TOOL_S, compare

    found = compare(rounds)
    rows = [
        ("ours", found["ours_wall_s"], found["ours_cpu_s"], 1.0, 1.0),
        (
            "TRL",
            found["trl_wall_s"],
            found["trl_cpu_s"],
            ratio(found["ratio_wall"]),
            ratio(found["ratio_cpu"]),
        ),
        ("sampling the same replies alone", found["sampling_wall_s"], found["sampling_cpu_s"], "", ""),
    ]
    title = f"{EPISODES} episodes, {CALLS} calls each of a tool that sleeps {TOOL_S} s"
    table(title, ("", "wall s", "CPU s", "wall / ours", "CPU / ours"), rows)
    idle = EPISODES * CALLS * TOOL_S + found["trl_cpu_s"]
    print(f"ours / critical path, wall: {found['ours_over_critical_path']:.2f} (at most 1.3)")
    print(
        "without waiting for a core, CPU and sleep added up: "
        f"TRL {idle:.1f} s, ours {CALLS * TOOL_S + found['ours_cpu_s']:.1f} s, "
        f"{idle / (CALLS * TOOL_S + found['ours_cpu_s']):.1f} x"
    )
    return found


def generate(rounds: int) -> dict[str, Any]:
    from padded_generate import compare

    both = {name: compare(name, rounds) for name in ("tiny", "smollm2")}
    rows = [
        (
            name,
            found["episodes"],
            found["sampled_tokens"],
            found["ours_tokens_per_cpu_s"],
            found["generate_tokens_per_cpu_s"],
            ratio(found["ratio_cpu"]),
            ratio(found["ratio_wall"]),
        )
        for name, found in both.items()
    ]
    head = ("", "episodes", "tokens", "ours, tokens/CPU-s", "generate", "ratio", "ratio of wall")
    table("Multi-turn episodes: the transformers engine and padded model.generate", head, rows)
    return both


def vllm(rounds: int) -> dict[str, Any]:
    from engine_use import compare

    games = {
        "smollm2": ("SmolLM2, calculator", 64),
        "guess": ("SmolLM2, guessing numbers", 48),
        "tiny": ("the embedded model, calculator", 512),
    }
    measured = {name: compare(name, episodes, rounds) for name, (_, episodes) in games.items()}
    for name, found in measured.items():
        rows = [
            (
                "episodes",
                found["episodes_tokens_per_s"],
                found["episodes_tokens_per_cpu_s"],
                found["episodes_steps"],
            ),
            (
                "the same requests as plain prompts",
                found["plain_tokens_per_s"],
                found["plain_tokens_per_cpu_s"],
                found["plain_steps"],
            ),
            ("episodes / plain", ratio(found["utilisation_wall"]), ratio(found["utilisation_cpu"]), ""),
        ]
        title = f"{games[name][0]}: {found['episodes']} episodes, {found['requests']} requests, on vLLM"
        table(title, ("", "tokens/s, wall", "tokens/CPU-s", "steps of vLLM"), rows)
        print(f"of the processor time of the episodes on the event loop: {found['event_loop_cpu']:.1%}\n")
    return measured


PARTS: dict[str, Callable[[int], dict[str, Any]]] = {
    "overhead": overhead,
    "tools": tools,
    "generate": generate,
    "vllm": vllm,
}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART", help=", ".join(PARTS))
    options.add_argument("--rounds", type=int, default=3, help="rounds of both sides; the best counts")
    options.add_argument("--threads", type=int, default=1, help="of torch")
    chosen = options.parse_args()
    if chosen.parts != ["overhead"]:
        import torch

        torch.set_num_threads(chosen.threads)
    before = machine()
    found = {name: PARTS[name](chosen.rounds) for name in chosen.parts or PARTS}
    finish(chosen, before, found)


if __name__ == "__main__":
    main()
