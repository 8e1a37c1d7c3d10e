"""A run that is killed at any moment and resumed ends as the run that was never killed: bit for bit."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from quintain.rl.checkpoint import checkpoints
from quintain.rl.metrics import read_metrics

CONFIG = """
name = "killed"
seed = 3
threads = 1
[run]
checkpoint_every = 1
[env]
id = "quintain/Calculator-v0"
kwargs = { max_turns = 2 }
[model]
device = "cpu"
tiny = { layers = 1, width = 32, mlp = 32, vocabulary = 300, context = 256 }
[rollout]
turn_tokens = 8
episode_tokens = 256
[sft]
steps = 4
episodes = 12
tokens_per_step = 256
warmup_steps = 0
[rl]
algorithm = "ppo"
steps = 9
groups = 4
group_size = 2
minibatches = 2
resample_rounds = 1
curriculum = { bucket = "tag" }
kl = { coef = 0.01, target = 0.05 }
entropy = { coef = 0.01, target = 2.0 }
[eval]
problems = 4
every = 4
"""
AHEAD = CONFIG.replace("checkpoint_every = 1", "checkpoint_every = 3").replace(
    'algorithm = "ppo"',
    'algorithm = "ppo"\nstaleness = 2\nold_logprobs = "learner"\nimportance = { kind = "truncate" }',
)
"""Between two checkpoints, episodes of two later steps are played while a step trains."""

STARTER = """
import os, sys, time, traceback
from transformers import TrainerCallback
from trl import SFTTrainer
import quintain.report, quintain.rl.train
from quintain.cli import main
print("ready", flush=True)
for line in sys.stdin:
    seconds, *words = line.rstrip("\\n").split("\\t")
    until = time.monotonic() + float(seconds)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.dup2(2, 1)
            code = main(words)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    ended, status = os.waitpid(child, os.WNOHANG)
    while not ended:
        time.sleep(0.005)
        if time.monotonic() > until:
            os.kill(child, 9)
        ended, status = os.waitpid(child, os.WNOHANG)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""
"""Runs commands, each in a process of its own that has all loaded (a kill falls into the work, not into the imports)
and is killed after the seconds that stand before it."""


@contextmanager
def starter(said: Path) -> Iterator[Callable[[float, list[str]], int]]:
    """Give what runs a command and returns its exit code, -9 if it was killed."""
    with (
        said.open("wb") as errors,
        subprocess.Popen(
            [sys.executable, "-c", STARTER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "ready\n", said.read_text()

        def run(seconds: float, words: list[str]) -> int:
            print(seconds, *words, sep="\t", file=process.stdin, flush=True)
            return int(process.stdout.readline())

        yield run


def numbers(folder: Path) -> list[tuple[object, ...]]:
    clock = ("memory_mb", "time_s")
    return [
        (
            r.phase,
            r.step,
            r.message,
            {k: v for k, v in r.metrics.items() if not k.endswith("_s") and k not in clock},
        )
        for r in read_metrics(folder / "metrics.jsonl")
    ]


def played(folder: Path) -> dict[str, str]:
    return {p.name: p.read_text() for p in sorted((folder / "trajectories").glob("*.jsonl"))}


@pytest.mark.slow
@pytest.mark.parametrize(("settings", "kills_wanted"), [(CONFIG, 10), (AHEAD, 2)], ids=["in turn", "ahead"])
def test_a_run_killed_at_random_moments_ends_as_if_nothing_had_happened(
    tmp_path: Path, settings: str, kills_wanted: int
):
    """With episodes played ahead, those that were journaled or are in the checkpoint are learned from, too."""
    config, said = tmp_path / "killed.toml", tmp_path / "said.txt"
    config.write_text(settings)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    draws = random.Random(7)
    with starter(said) as run:
        began = time.monotonic()
        assert run(600, ["train", str(config), "--run-dir", str(whole)]) == 0, said.read_text()
        took = time.monotonic() - began
        kills = 0
        while kills < kills_wanted:
            resume = (killed / "config.toml").exists()
            words = ["--resume", str(killed)] if resume else [str(config), "--run-dir", str(killed)]
            code = run(draws.uniform(0.1, 0.9) * took, ["train", *words])
            assert code in (0, -signal.SIGKILL), said.read_text()
            kills += 1
            if code == 0:  # it was through before it was killed: once more from the start of its last steps
                for checkpoint in checkpoints(killed)[-2:]:
                    if checkpoint.step > 0:
                        (checkpoint.path / "trainer.pt").unlink()
    last = [sys.executable, "-m", "quintain", "train", "--resume", str(killed)]
    subprocess.run(last, check=True, capture_output=True, timeout=600)

    assert numbers(killed) == numbers(whole)
    assert played(killed) == played(whole)
    mine, theirs = (
        torch.load(checkpoints(f)[-1].path / "trainer.pt", weights_only=True) for f in (killed, whole)
    )
    assert mine["tasks"] == theirs["tasks"]
    assert mine["learner"]["kl_coef"] == theirs["learner"]["kl_coef"]
    one, other = (checkpoints(f)[-1].path / "model.safetensors" for f in (killed, whole))
    assert one.read_bytes() == other.read_bytes()
