"""A made-up run: what the report, the display and the viewer are shown in tests, without training anything.

A small agent learns word problems with a calculator. Everything in it follows from a seed: metrics, episodes with the
tokens of a vocabulary of its own, log-probabilities, and what each token was given.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from quintain.rl.config import Config, EnvConfig, RlConfig, SftConfig
from quintain.rl.metrics import Event, MetricsLog
from quintain.rl.trajectory import StopReason, Trajectory, Turn
from quintain.tools.chat import Message
from quintain.verifiers.base import Score

SYSTEM = "Solve the problem. Use the calculator for every step.\n# Tools\n..."


class Words:
    """A vocabulary that grows: digits, words with the space before them, marks."""

    def __init__(self) -> None:
        self.ids: dict[str, int] = {"<|im_start|>": 0, "<|im_end|>": 1, "<tool_call>": 2, "</tool_call>": 3}

    def encode(self, text: str) -> list[int]:
        found = re.findall(r"<\|\w+\|>|</?tool_call>|\d| ?[^\W\d]+|\s|.", text)
        return [self.ids.setdefault(word, len(self.ids)) for word in found]

    def save(self, folder: Path) -> None:
        """Write a `tokenizer.json` in GPT-2's spelling."""
        folder.mkdir(parents=True)
        own = [*range(33, 127), *range(161, 173), *range(174, 256)]
        others = [byte for byte in range(256) if byte not in own]
        table = {byte: chr(byte) for byte in own} | {byte: chr(256 + n) for n, byte in enumerate(others)}
        vocab = {"".join(table[byte] for byte in word.encode()): number for word, number in self.ids.items()}
        data = {
            "model": {"type": "BPE", "vocab": vocab},
            "decoder": {"type": "ByteLevel"},
            "added_tokens": [],
        }
        (folder / "tokenizer.json").write_text(json.dumps(data))


def write_run(
    folder: Path,
    *,
    rl_steps: int = 60,
    sft: bool = True,
    model_text: str = "",
    stop_after: int | None = None,
    seed: int = 7,
    name: str = "calculator_agent",
    evaluations: Mapping[int, float] = MappingProxyType({}),
) -> None:
    """Write config, metrics, trajectories and a tokenizer; `model_text` goes into everything that a model writes."""
    rng = random.Random(seed)
    config = Config(
        name="calculator_agent",
        seed=seed,
        env=EnvConfig(id="quintain/Calculator-v0", eval_kwargs={"split": "test"}),
        sft=SftConfig(steps=270) if sft else None,
        rl=RlConfig(steps=rl_steps, minibatches=4) if rl_steps else None,
    )
    (folder / "trajectories").mkdir(parents=True)
    (folder / "config.toml").write_text(config.to_toml().replace('"calculator_agent"', json.dumps(name), 1))
    with MetricsLog(folder / "metrics.jsonl") as log:
        log.write(_evaluation(0, 0.0, "before"))
        for step in range(1, 271 if sft else 1):
            fade = math.exp(-step / 45)
            loss = 0.28 + 3.2 * fade + rng.gauss(0, 0.05 * fade + 0.012)
            accuracy = 0.93 - 0.9 * fade + rng.gauss(0, 0.006)
            values = {"loss": loss, "token_accuracy": accuracy, "lr": 0.004, "tokens_per_s": 14000.0}
            log.write(Event("sft", step, 270, values))
        if sft:
            log.write(_evaluation(0, 0.41, "after SFT"))
        for step in range(1, (stop_after or rl_steps) + 1):
            log.write(_rl_step(step, rl_steps, rng))
            if step % 20 == 0:
                log.write(_evaluation(step, 0.41 + 0.56 * (1 - math.exp(-step / 18)), f"step {step}"))
    words = Words()
    for step in range(1, (stop_after or rl_steps) + 1, 10):
        write_step(folder, step, rng, words, model_text)
    for step, share in evaluations.items():
        write_evaluation(folder, step, share, words)
    words.save(folder / "checkpoints" / f"step-{rl_steps:06}")


def write_step(folder: Path, step: int, rng: random.Random, words: Words, model_text: str = "") -> None:
    """Write the episodes of one step and what their tokens were given."""
    episodes = []
    for group in range(6):
        problem = (rng.randint(3, 60), rng.randint(3, 60), rng.randint(1, 9))
        for member in range(4):
            right = rng.random() < 0.3 + 0.01 * step
            episodes.append(
                episode(rng, words, f"rl-{step}-{group}-{member}", group, member, problem, right, model_text)
            )
    _write(folder / "trajectories" / f"rl-{step:06}.jsonl", [t.to_json() for t in episodes])
    lines = []
    for trajectory in (t for t in episodes if t.graded):
        mean = [t.reward for t in episodes if t.graded and t.group == trajectory.group]
        advantage = round(trajectory.reward - sum(mean) / len(mean), 6)
        own = [p + rng.gauss(0, 0.08) for p, m in zip(trajectory.logprobs, trajectory.mask, strict=True) if m]
        lines.append(
            json.dumps(
                {"id": trajectory.id, "advantages": [[advantage, len(own)]], "logprobs": own},
                separators=(",", ":"),
            )
        )
    _write(folder / "credit" / f"rl-{step:06}.jsonl", lines)


def write_evaluation(folder: Path, step: int, share: float, words: Words, problems: int = 24) -> None:
    """Write the episodes of an evaluation; those of two steps are about the same problems."""
    rng = random.Random(f"{folder.name} {step}")
    lines = []
    for number in range(problems):
        draw = random.Random(number)
        problem = (draw.randint(3, 60), draw.randint(3, 60), draw.randint(1, 9))
        name, right = f"eval-{step}-{number}-0", rng.random() < share
        lines.append(episode(rng, words, name, number, 0, problem, right, task=f"test/{number}").to_json())
    label = "during" if step else "before"
    _write(folder / "trajectories" / f"eval-{label}-{step:06}.jsonl", lines)


def _write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines), "utf-8")


def _evaluation(step: int, success: float, message: str) -> Event:
    metrics = {
        "success_greedy": success,
        "success_sampled": 0.93 * success,
        "ci_low": max(0.0, success - 0.07),
        "ci_high": min(1.0, success + 0.06),
        "problems": 200.0,
        "success_greedy/1 step": min(1.0, success * 1.2),
        "success_greedy/2 steps": success,
        "success_greedy/3 steps": success * 0.9,
    }
    return Event("eval", step, 60, metrics, message)


def _rl_step(step: int, steps: int, rng: random.Random) -> Event:
    share = 1 - math.exp(-step / 18)
    reward = 0.31 + 0.62 * share + rng.gauss(0, 0.025)
    metrics = {
        "reward": reward,
        "success": reward,
        "kl": 0.004 + 0.01 * rng.random() * (1 - share),
        "entropy": 0.42 - 0.24 * share + rng.gauss(0, 0.008),
        "clip_fraction": 0.02 + 0.02 * rng.random(),
        "ratio_max": 2.1,
        "grad_norm": 0.5 + 0.3 * rng.random(),
        "loss": rng.gauss(0, 0.01),
        "lr": 5e-4 * (1 - 0.9 * step / steps),
        "sampled_tokens": 9000.0 + rng.gauss(0, 300),
        "tokens_per_s": 7800.0 + rng.gauss(0, 500),
        "turns": 2.4 + 0.5 * share,
        "reply_tokens": 47 + 9 * share + rng.gauss(0, 1),
        "truncated": 0.03 * (1 - share),
        "ungraded": 0.0,
        "parse_errors": 0.11 * (1 - share),
        "tool_errors": 0.02,
        "zero_variance": 0.2 + 0.5 * share,
        "sampler_mismatch": 2e-6 * rng.random(),
        "rollout_s": 0.9 + 0.1 * rng.random(),
        "learn_s": 0.8 + 0.1 * rng.random(),
    }
    return Event("rl", step, steps, metrics)


def episode(
    rng: random.Random,
    words: Words,
    name: str,
    group: int,
    member: int,
    problem: tuple[int, int, int],
    right: bool,
    model_text: str = "",
    task: str = "",
) -> Trajectory:
    """Return one episode: a word problem, a calculator call for each of its steps, an answer."""
    boxes, pens, lost = problem
    broken = not right and rng.random() < 0.3
    ungraded = group == 5 and member == 1
    answer = boxes * pens - lost if right else boxes * pens + lost
    question = f"Mia has {boxes} boxes of {pens} pens and loses {lost}. How many pens are left?"
    messages: list[Message] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
    if broken:
        messages += [
            {"role": "assistant", "content": f'<tool_call>{{"name": "calculator", "argum{model_text}'},
            {"role": "user", "content": "The call could not be read: the JSON ends too early."},
        ]
    for expression, result in [(f"{boxes}*{pens}", boxes * pens), (f"{boxes * pens}-{lost}", answer)]:
        arguments: dict[str, Any] = {"expression": expression + model_text}
        call = {"name": f"calculator{model_text}", "arguments": arguments}
        messages += [
            {
                "role": "assistant",
                "content": "",
                "reasoning_content": f"now {expression}{model_text}",
                "tool_calls": [{"id": "c1", "type": "function", "function": call}],  # type: ignore[typeddict-item]
            },
            {"role": "tool", "content": f"{result}{model_text}", "name": "calculator", "tool_call_id": "c1"},
        ]
    messages.append({"role": "assistant", "content": f"The answer is {answer}.{model_text}"})
    ids, mask, turns = _tokens(messages, words, 1.0 if right else 0.0, broken=broken)
    logprobs = [round(-(rng.expovariate(1.0) ** 2) / 6, 6) if sampled else 0.0 for sampled in mask]
    reason = f"the last number of the reply is {answer}, expected {boxes * pens - lost}{model_text}"
    score = (
        Score.ungraded("the sandbox was gone: connection reset by peer")
        if ungraded
        else Score(float(right), {"final_number": float(right), f"brevity{model_text}": 0.75}, reason=reason)
    )
    return Trajectory(
        id=name,
        task_id=f"{task or f'train/{name}'.rpartition('-')[0]}{model_text}",
        group=group,
        ids=ids,
        mask=mask,
        logprobs=logprobs,
        versions=[int(name.split("-")[1]) if sampled else -1 for sampled in mask],
        turns=turns,
        messages=messages,
        score=score,
        stop=StopReason.ERROR if ungraded else StopReason.TERMINATED,
    )


def _tokens(
    messages: list[Message], words: Words, reward: float, *, broken: bool
) -> tuple[list[int], list[bool], list[Turn]]:
    """Return the conversation as tokens in a ChatML of ours: ids, who wrote them, and the turns."""
    ids: list[int] = []
    mask: list[bool] = []
    turns: list[Turn] = []
    replies = sum(message["role"] == "assistant" for message in messages)
    for message in messages:
        head = words.encode(f"<|im_start|>{message['role']}\n")
        said = str(message.get("reasoning_content", "")) + str(message["content"])
        for part in message.get("tool_calls", ()):
            said += f"<tool_call>{json.dumps(part['function'])}</tool_call>"
        own = message["role"] == "assistant"
        body = words.encode(said + "<|im_end|>")
        if own:
            start, first = len(ids) + len(head), not turns
            last = len(turns) + 1 == replies
            unreadable = broken and first
            calls = 0 if last or unreadable else 1
            turns.append(Turn(start, start + len(body), reward if last else 0.0, calls, 0, unreadable))
        after = words.encode("\n")
        ids += head + body + after
        mask += [False] * len(head) + [own] * len(body) + [False] * len(after)
    return ids, mask, turns
