"""A run on many devices: `torchrun` starts it several times, rank 0 leads, the others share the learner's work."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from transformers import PreTrainedModel

from ..envs import registry
from ..tools.errors import UserError
from .config import Config
from .models import pick_device
from .prepare import load_policy, make_learner, teacher_of
from .ranks import Launch
from .rl_config import RlConfig
from .sharding import Leader, Team, follow
from .teacher import Teacher


def check(config: Config) -> None:
    """Raise `UserError` for what several ranks cannot do."""
    if config.rl is None:
        raise UserError(
            "torchrun shares the work of [rl], which this config lacks: start it without torchrun"
        )
    if config.rl.guard is not None and config.rl.guard.action == "raise_kl":
        raise UserError(
            'rl.guard.action = "raise_kl" does not go with torchrun, whose ranks each hold the coefficient: use '
            '"stop" or "report", or one process'
        )
    if config.rl.staleness:
        raise UserError(
            f"rl.staleness = {config.rl.staleness} does not go with torchrun: use 0, or one process"
        )
    if config.engine.kind == "vllm":
        raise UserError(
            "engine.kind = 'vllm' does not go with torchrun, as vLLM would take its ranks for its own: use "
            "transformers or vllm-server, or one process"
        )
    if config.model.quantize != "off":
        raise UserError(
            f"model.quantize = {config.model.quantize!r} does not go with torchrun, which shares whole weights: "
            "leave it out, or use one process"
        )
    if config.rl.compile:
        raise UserError("rl.compile does not go with torchrun yet: leave it out, or use one process")
    teacher = config.rl.teacher
    devices = {"model": config.model.device, "rl.teacher": (teacher and teacher.device) or "auto"}
    for section, device in devices.items():
        if ":" in device:
            raise UserError(
                f"{section}.device is {device!r}, but each rank of torchrun has a device of its own: "
                "use auto, cuda or cpu"
            )


def take_device(config: Config, launch: Launch) -> torch.device:
    """Return the device of this rank, which is from now on what `cuda` means in this process.

    Raises `UserError` where this machine has fewer devices than ranks.
    """
    device = pick_device(config.model.device)
    if device.type != "cuda":
        return device
    found = torch.cuda.device_count()
    if launch.place >= found:
        raise UserError(
            f"torchrun started at least {launch.place + 1} processes here, but there are {found} CUDA devices: "
            f"use --nproc-per-node {found}"
        )
    torch.cuda.set_device(launch.place)
    return torch.device("cuda", launch.place)


def connect(config: Config, launch: Launch) -> Team:
    """Return the ranks, connected; it waits for all of them."""
    with launch.told():
        return Team(take_device(config, launch))


def lead(
    config: Config,
    rl: RlConfig,
    model: PreTrainedModel,
    launch: Launch,
    checkpoint: Path | None,
    *,
    teacher: Teacher | None = None,
) -> Leader:
    """Return rank 0's part of the learner of all ranks, which begins as `model`; that stays whole, to sample from.

    `checkpoint`: the folder that a resumed run takes moments and masters from. `teacher`: rank 0's own.
    """
    team = connect(config, launch)
    learner = make_learner(config, rl, copy.deepcopy(model), team, teacher=teacher)
    leader = Leader(learner, team, model)
    if checkpoint is not None:
        leader.load(checkpoint)
    return leader


def follow_run(config: Config, launch: Launch) -> None:
    """Share the learner's work until rank 0 is done."""
    env = registry.make(config.env.id, **config.env.kwargs)
    try:
        model, tokenizer = load_policy(config, env)
    finally:
        env.close()
    assert config.rl is not None  # `check` has seen to it
    teacher = teacher_of(config, model, tokenizer)
    team = connect(config, launch)
    follow(make_learner(config, config.rl, model, team, teacher=teacher), team)
