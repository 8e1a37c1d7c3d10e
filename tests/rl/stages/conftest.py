"""Preferences and answers, short to write."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from torch import Tensor

    from quintain.rl.trajectory import Trajectory

if importlib.util.find_spec("torch") is None:  # without the `train` extra there is nothing to test here
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture
def episode() -> Callable[..., Trajectory]:
    """Make a trajectory of one group: a question, a reply of its tokens, a score (None: ungraded)."""
    from quintain.rl.trajectory import StopReason, Trajectory, Turn
    from quintain.verifiers.base import Score

    def make(text: str, score: float | None, group: int = 0, **more: object) -> Trajectory:
        reply = [100 + ord(c) for c in text]
        return Trajectory(
            **{  # type: ignore[arg-type]
                "id": f"e-{group}-{text}",
                "task_id": f"task{group}",
                "group": group,
                "ids": [1, 2, 3, *reply, 9],
                "mask": [False] * 3 + [True] * (len(reply) + 1),
                "logprobs": [0.0] * (len(reply) + 4),
                "versions": [0] * (len(reply) + 4),
                "turns": [Turn(3, len(reply) + 4, 0.0)],
                "messages": [
                    {"role": "user", "content": f"question {group}"},
                    {"role": "assistant", "content": text},
                ],
                "score": Score.ungraded("a judge failed") if score is None else Score(score),
                "stop": StopReason.TERMINATED,
                **more,
            }
        )

    return make


@pytest.fixture
def model_folder(make_model: Callable[..., object], tokenizer: object, tmp_path: Path) -> Path:
    """A model with its tokenizer on disk, as a stage takes it."""
    folder = tmp_path / "start"
    make_model(0).save_pretrained(folder)  # type: ignore[attr-defined]
    tokenizer.save_pretrained(folder)  # type: ignore[attr-defined]
    return folder


@pytest.fixture
def run_of(model_folder: Path, tmp_path: Path) -> Callable[..., dict[str, Tensor]]:
    """Run a stage in a folder of its own, killed in a step if one is named, and return the weights that came out."""
    import torch
    from safetensors.torch import load_file

    from quintain.rl.metrics import Event
    from quintain.rl.stages.stage import find_stage, run_stage

    class Killed(BaseException):
        """As near as a test in one process comes to it."""

    def run(kind: str, folder: str, kill_in: int = 0, **sections: object) -> dict[str, Tensor]:
        config = find_stage(kind).config.model_validate(
            {"model": {"path": str(model_folder)}, "run": {"checkpoint_every": 2}, **sections}
        )
        at = tmp_path / folder
        again = at.is_dir()
        at.mkdir(exist_ok=True)

        def watch(event: Event) -> None:
            if kill_in and event.phase == "train" and event.step == kill_in:
                raise Killed

        with contextlib.suppress(Killed):
            return load_file(run_stage(config, at, watch, resume=again) / "model.safetensors")
        return {"killed": torch.zeros(1)}

    return run
