"""Many devices: ranks that `torchrun` started hold the weights, gradients and moments of one learner together (FSDP2).

Rank 0 plays, evaluates and writes; it has a whole copy of the model to sample from. The others follow: they make each
call of the learner that rank 0 makes, with the same arguments. A rank that dies is noticed by torchrun, which ends all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict_loader as loader
from torch.distributed.checkpoint import state_dict_saver as saver
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from ..tools.errors import UserError
from .credit import Credit, Measured
from .forward import INSIDE, layers
from .learner import Learner, NonFiniteError
from .packing import PackedBatch
from .ranks import idle_batch, share_batches, shares
from .trajectory import Trajectory

PATIENCE = timedelta(hours=6)
"""How long a rank waits for another: longer than warm start, rollouts or evaluation, which the others sit out.

A rank that ends is noticed by torchrun at once; this bounds the wait for one that hangs.
"""

SHARDS = "shards"
"""The folder of a checkpoint that all ranks write: weights, moments, reference and critic, in the format of DCP."""

Value = TypeVar("Value")


class Team:
    """The ranks of one run, connected. Every method that speaks of all ranks must be called by all of them.

    Args:
        device: what this rank computes on; gloo connects CPUs, NCCL connects CUDA devices.
        patience: how long to wait for another rank before this one gives up with an error.

    The address of the others is in the variables that torchrun sets (`RANK`, `WORLD_SIZE`, `MASTER_ADDR`, ...).
    """

    def __init__(self, device: torch.device, *, patience: timedelta = PATIENCE) -> None:
        cuda = device.type == "cuda"
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=patience)
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.device = device
        self._mesh = init_device_mesh(device.type, (self.size,))

    # --- what a learner asks (`Ranks`)

    def shard(self, module: nn.Module, *, halves: bool) -> None:
        """Spread the weights over the ranks, layer by layer; they begin as those of rank 0.

        Trained weights of half precision are kept in float32 and run as they were, unless `halves` is set: the
        shards are their own masters. Gradients are summed in float32.
        """
        dtypes = {p.dtype for p in module.parameters() if p.dtype in (torch.bfloat16, torch.float16)}
        with torch.no_grad():
            for parameter in module.parameters():
                dist.broadcast(parameter.data, src=0)
                if not halves and parameter.requires_grad:
                    parameter.data = parameter.data.float()
        half = dtypes.pop() if dtypes else None
        policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=None if half is None else torch.float32)
        for part in [*layers(module), module]:
            # The root, too, lets go of what it gathered: between two passes every weight is a shard.
            fully_shard(part, mesh=self._mesh, mp_policy=policy, reshard_after_forward=True)
        setattr(module, INSIDE, lambda run: run())
        register_fsdp_forward_method(module, INSIDE)

    def batches(
        self, trajectories: Sequence[Trajectory], budget: int, *, alone: bool
    ) -> Iterator[PackedBatch]:
        """Yield the batches of this rank's share, then idle ones until every rank has as many."""
        mine = shares(trajectories, self.size)[self.rank]
        own = share_batches(trajectories, mine, budget, alone=alone)
        most = int(self.largest(len(own)))
        yield from own
        for _ in range(most - len(own)):
            yield idle_batch(alone=alone)

    def merged(self, found: Mapping[int, Value]) -> dict[int, Value]:
        """Return what all ranks have found."""
        parts: list[Any] = [None] * self.size
        dist.all_gather_object(parts, dict(found))
        return {key: value for part in parts for key, value in part.items()}

    def total(self, *values: float) -> list[float]:
        """Return the sum over the ranks of each value."""
        return self._reduced(values, dist.ReduceOp.SUM)

    def largest(self, value: float) -> float:
        """Return the largest of the ranks' values."""
        return self._reduced([value], dist.ReduceOp.MAX)[0]

    def clip(self, parameters: Sequence[Tensor], norm: float) -> float:
        """Clip by the norm of all gradients on all ranks."""
        found = nn.utils.clip_grad_norm_(parameters, norm)
        return float(found.full_tensor() if isinstance(found, DTensor) else found)

    def _reduced(self, values: Sequence[float], operation: Any) -> list[float]:
        numbers = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(numbers, op=operation)
        return [float(number) for number in numbers]

    # --- leading and following

    def tell(self, name: str | None, *arguments: object) -> None:
        """Tell the followers which call comes next; None that there is none. Rank 0 alone tells."""
        dist.broadcast_object_list([(name, arguments)], src=0)

    def hear(self) -> tuple[str | None, tuple[Any, ...]]:
        """Return what rank 0 tells."""
        heard: list[Any] = [None]
        dist.broadcast_object_list(heard, src=0)
        name, arguments = heard[0]
        return name, arguments

    def close(self) -> None:
        """Part from the others; not for a rank that fails, which would wait for them."""
        dist.destroy_process_group()


class Member:
    """A rank's part of a learner that several hold."""

    def __init__(self, learner: Learner) -> None:
        self.learner = learner

    def measure(self, trajectories: Sequence[Trajectory]) -> Measured:
        """Measure as `Learner.measure` does; every rank gets all of it."""
        return self.learner.measure(trajectories)

    def update(
        self, trajectories: Sequence[Trajectory], credit: Credit, measured: Measured
    ) -> dict[str, float]:
        """Take a step as `Learner.update` does; the metrics are those of all ranks."""
        return self.learner.update(trajectories, credit, measured)

    def gather(self) -> dict[str, Tensor]:
        """Return the policy's weights by the names of the whole model, on the CPU; nothing on other ranks than 0."""
        return whole_state(self.learner.model)

    def save(self, folder: Path) -> None:
        """Write this rank's shards into `folder`."""
        saver.save(_tensors(self.learner), checkpoint_id=folder / SHARDS)

    def load(self, folder: Path) -> None:
        """Take over the shards in `folder`, however many ranks wrote them; `restore` has the rest.

        Raises `UserError` where there are none, or those of another model.
        """
        load_shards(self.learner, folder)

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `Learner.state` returned."""
        self.learner.restore(state)


class Leader(Member):
    """Rank 0's part: what it does, it makes the followers do. To the training loop it looks like a learner.

    Args:
        learner: the sharded one.
        team: the ranks.
        whole: the model that is sampled from, evaluated and saved; it gets the weights after every step.
    """

    def __init__(self, learner: Learner, team: Team, whole: PreTrainedModel) -> None:
        super().__init__(learner)
        self.team, self.whole = team, whole

    @property
    def steps(self) -> int:
        """How many steps the weights have seen."""
        return self.learner.steps

    @property
    def kl_coef(self) -> float:
        """The weight of the KL divergence now."""
        return self.learner.kl_coef

    def measure(self, trajectories: Sequence[Trajectory]) -> Measured:
        """Measure on all ranks."""
        self.team.tell("measure", trajectories)
        return super().measure(trajectories)

    def update(
        self, trajectories: Sequence[Trajectory], credit: Credit, measured: Measured
    ) -> dict[str, float]:
        """Take a step on all ranks and hand the weights to the whole model."""
        self.team.tell("update", trajectories, credit, measured)
        metrics = super().update(trajectories, credit, measured)
        self._hand_over()
        return metrics

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs besides the shards."""
        return self.learner.state()

    def save(self, folder: Path) -> None:
        """Write the shards of all ranks."""
        self.team.tell("save", folder)
        super().save(folder)

    def load(self, folder: Path) -> None:
        """Take over the shards of a checkpoint on all ranks."""
        self.team.tell("load", folder)
        super().load(folder)

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned on all ranks."""
        self.team.tell("restore", state)
        super().restore(state)

    def close(self) -> None:
        """Let the followers go."""
        self.team.tell(None)
        self.team.close()

    def _hand_over(self) -> None:
        self.team.tell("gather")
        self.whole.load_state_dict(self.gather())


def follow(learner: Learner, team: Team) -> None:
    """Do what rank 0 does, until it says that it is done."""
    member = Member(learner)
    while True:
        name, arguments = team.hear()
        if name is None:
            team.close()
            return
        with contextlib.suppress(NonFiniteError):  # rank 0 has it as well, and decides
            getattr(member, name)(*arguments)


def whole_state(module: nn.Module) -> dict[str, Tensor]:
    """Return the whole weights of a sharded module on the CPU of rank 0. Every rank must call it."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return cast("dict[str, Tensor]", get_model_state_dict(module, options=options))


def load_shards(learner: Learner, folder: Path) -> None:
    """Take over weights and moments that `Member.save` wrote. Every rank must call it.

    Raises `UserError` where there are none, or those of another model.
    """
    path = folder / SHARDS
    if not (path / ".metadata").is_file():
        raise UserError(
            f"the checkpoint {folder} was written by one process: resume it without torchrun, or start a new run "
            f"from its weights with --model.path {folder}"
        )
    saved = FileSystemReader(path).read_metadata().state_dict_metadata
    state = learner.optimizer.state
    for name, parameter in _trained(learner).items():
        prefix = f"optimizer.{name}."
        for key in (key for key in saved if key.startswith(prefix)):
            size = getattr(saved[key], "size", None)
            like = torch.zeros_like(parameter) if size == parameter.shape else torch.zeros(size or ())
            state[parameter][key.removeprefix(prefix)] = like
    tensors = _tensors(learner)
    for name, tensor in tensors.items():
        size = getattr(saved.get(name), "size", None)
        if size != tensor.shape:
            raise UserError(
                f"the checkpoint {folder} does not fit the model: {name} is "
                f"{'missing' if size is None else tuple(size)} there and {tuple(tensor.shape)} here"
            )
    loader.load(tensors, checkpoint_id=path)


def _tensors(learner: Learner) -> dict[str, Tensor]:
    """Return what a checkpoint holds: this rank's shards of the weights, and what the optimiser keeps of each."""
    found = {
        f"{part}.{name}": parameter.detach()
        for part, module in learner.parts.items()
        for name, parameter in module.named_parameters()
    }
    for name, parameter in _trained(learner).items():
        for key, value in learner.optimizer.state.get(parameter, {}).items():
            found[f"optimizer.{name}.{key}"] = value
    return found


def _trained(learner: Learner) -> dict[str, Tensor]:
    return {
        f"{part}.{name}": parameter
        for part, module in learner.parts.items()
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    }
