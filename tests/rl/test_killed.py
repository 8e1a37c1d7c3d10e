"""A run that is killed at any moment and resumed ends as the run that was never killed: bit for bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
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
steps = 6
episodes = 12
tokens_per_step = 256
warmup_steps = 0
[rl]
algorithm = "ppo"
steps = 12
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


def command(config: Path, folder: Path, *, resume: bool) -> list[str]:
    run = ["--resume", str(folder)] if resume else [str(config), "--run-dir", str(folder)]
    return [sys.executable, "-m", "quintain", "train", *run]


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
    config = tmp_path / "killed.toml"
    config.write_text(settings)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    began = time.monotonic()
    subprocess.run(command(config, whole, resume=False), check=True, capture_output=True, timeout=600)
    took = time.monotonic() - began

    draws = random.Random(7)
    kills = 0
    while True:
        run = subprocess.Popen(
            command(config, killed, resume=(killed / "config.toml").exists()),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            # After the first moments, in which nothing is loaded yet; the last run is let through.
            wait = draws.uniform(0.35, 1.0) * took if kills < kills_wanted else 600
            _, errors = run.communicate(timeout=wait)
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            run.communicate()
            kills += 1
            continue
        assert run.returncode == 0, errors.decode()
        if (
            kills < kills_wanted
        ):  # it was through before it was killed: once more from the start of its last steps
            for checkpoint in checkpoints(killed)[-2:]:
                if checkpoint.step > 0:
                    (checkpoint.path / "trainer.pt").unlink()
            kills += 1
            continue
        break

    assert numbers(killed) == numbers(whole)
    assert played(killed) == played(whole)
    mine, theirs = (
        torch.load(checkpoints(f)[-1].path / "trainer.pt", weights_only=True) for f in (killed, whole)
    )
    assert mine["tasks"] == theirs["tasks"]
    assert mine["learner"]["kl_coef"] == theirs["learner"]["kl_coef"]
    one, other = (checkpoints(f)[-1].path / "model.safetensors" for f in (killed, whole))
    assert one.read_bytes() == other.read_bytes()
