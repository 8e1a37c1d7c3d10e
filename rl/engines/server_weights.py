"""How new weights reach a running vLLM server: as a file that both see, or over vLLM's own weight transfer.

Both go through routes that `vllm serve` has with `VLLM_SERVER_DEV_MODE=1`. Whoever can reach these can replace the
model: servers belong on a network of their own.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ...tools.openai_client import EndpointError
from ..adapters import whole_weights
from .base import EngineError
from .servers import Server
from .weight_file import write_weights
from .worker import Worker

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

SHARED_MEMORY = Path("/dev/shm")
PREFIX = "quintain-weights-"
QUIET_S = 30.0
"""Seconds for a server to drop what it is at and to empty its cache."""


class Mover(Protocol):
    """Hands weights to servers. A label names what is handed, so that a server can say what it has."""

    def publish(self, model: PreTrainedModel, label: str) -> None:
        """Make the weights of `model` ready to be handed, adapters added in. Blocks; not on the event loop."""
        ...

    async def hand(self, server: Server, label: str) -> None:
        """Give the server what was published. Raises `EngineError`, `EndpointError`."""
        ...

    def withdraw(self) -> None:
        """All servers that are ready have taken what was published last."""
        ...

    def close(self) -> None:
        """Free what is held."""
        ...


class FileWeights:
    """Weights as a safetensors file that is written once and read by every server.

    Args:
        folder: seen under the same path here and there; None is shared memory, where no disk is touched. There the
            file before is kept, and written over: its memory is held already. Elsewhere a cache on the way could show
            the old one.
        load_s: seconds that a server may take to read it.
    """

    def __init__(self, folder: Path | None, load_s: float) -> None:
        self._load_s = load_s
        parent = folder if folder is not None else SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        if folder is None and parent is not None:
            _sweep(parent)
        self._home = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        # A killed process leaves its folder, half a gigabyte of memory; by the lock the next one knows it is nobody's.
        self._lock = (self._home / "lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._reuses = folder is None and parent is not None
        self._labels: list[str] = []
        self._free: Path | None = None

    def publish(self, model: PreTrainedModel, label: str) -> None:
        """Write the weights."""
        folder = self._home / label
        # With every name, also that of a head tied to the embedding: on a CPU vLLM keeps a packed copy of the head, and
        # remakes it only when the head's own name comes by.
        tensors = whole_weights(model)
        try:
            free, self._free = self._free, None
            if free is not None:
                free.rename(folder)
            else:
                folder.mkdir()
            write_weights(tensors, folder / "model.safetensors")
        except Exception as error:
            shutil.rmtree(folder, ignore_errors=True)
            size = sum(tensor.nbytes for tensor in tensors.values()) / 2**20
            raise EngineError(
                f"the weights ({size:.0f} MiB) could not be written to {self._home} ({error}); give a folder with room "
                "in engine.server.weights_dir",
                "weights",
            ) from error
        self._labels.append(label)

    async def hand(self, server: Server, label: str) -> None:
        """Have the server read the file."""
        body = {"method": "reload_weights", "kwargs": {"weights_path": str(self._home / label)}}
        try:
            await server.client.call("POST", "/collective_rpc", body, timeout_s=self._load_s)
        except EndpointError as error:
            if error.kind != "status":
                raise
            # After a reload that failed halfway vLLM trips over its remains once, and takes the one after that.
            await server.client.call("POST", "/collective_rpc", body, timeout_s=self._load_s)

    def withdraw(self) -> None:
        """Delete all files but the last, which is for servers that come back, and one to be written over."""
        for label in self._labels[:-1]:
            if self._reuses and self._free is None:
                self._free = self._home / label
            else:
                shutil.rmtree(self._home / label, ignore_errors=True)
        del self._labels[:-1]

    def close(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self._home, ignore_errors=True)
        self._lock.close()


class TransferWeights:
    """Weights over vLLM's weight transfer: broadcast by NCCL, or the learner's own GPU memory by CUDA IPC.

    Each server is a group of its own with the learner, so that one that is lost takes no other along. What is sent is
    gone afterwards: a server that comes back waits for the next weights.

    Args:
        backend: `nccl` or `ipc`; servers run with `--weight-transfer-config '{"backend": ...}'`.
        address: this machine's, as the servers see it.
        load_s: seconds that one transfer may take.
    """

    def __init__(self, backend: Literal["nccl", "ipc"], address: str, load_s: float) -> None:
        self._backend, self._address, self._load_s = backend, address, load_s
        self._weights: dict[str, Tensor] = {}
        self._trainers: dict[str, Any] = {}
        self._worker = Worker("quintain-weights")

    def publish(self, model: PreTrainedModel, label: str) -> None:
        """Hold the weights until they are sent."""
        self._weights = whole_weights(model)

    async def hand(self, server: Server, label: str) -> None:
        """Send the weights to the server."""
        if not self._weights:
            raise EngineError(f"{server.url} waits for the next weights: these are sent already", "weights")
        answer = await server.client.call("GET", "/get_world_size", timeout_s=QUIET_S)
        try:
            ranks = int(answer["world_size"])
            await self._worker.run(self._send, server.url, ranks, seconds=self._load_s)
        except Exception as error:
            self._trainers.pop(server.url, None)  # its group is of no use any more
            if isinstance(error, TimeoutError):  # and its thread waits for ever
                self._worker = Worker("quintain-weights")
            raise EngineError(
                f"{self._backend} did not bring the weights to {server.url}: {type(error).__name__}: {error}",
                "weights",
            ) from error

    def withdraw(self) -> None:
        """Let go of the weights."""
        self._weights = {}

    def close(self) -> None:
        """Leave all groups."""
        for trainer in self._trainers.values():
            with contextlib.suppress(Exception):
                trainer.shutdown()
        self._trainers.clear()
        self._worker.stop()

    def _send(self, url: str, ranks: int) -> None:
        trainer = self._trainers.get(url)
        if trainer is None:
            trainer = self._trainers[url] = self._meet(url, ranks)
        trainer.send_weights()

    def _meet(self, url: str, ranks: int) -> Any:
        from vllm.distributed.weight_transfer import (
            HTTPVLLMWeightSyncClient,
            WeightTransferTrainerFactory,
        )

        client = HTTPVLLMWeightSyncClient(url, timeout=self._load_s)
        source = weight_source(lambda: self._weights)
        return WeightTransferTrainerFactory.trainer_init(self._init_info(ranks), client=client, source=source)

    def _init_info(self, ranks: int) -> Any:
        if self._backend == "ipc":
            from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo

            return IPCTrainerInitInfo(rank=0, packed=True)
        from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

        with socket.socket() as probe:
            probe.bind(("", 0))
            port = int(probe.getsockname()[1])
        return NCCLTrainerInitInfo(self._address, port, ranks + 1, rank=0)


def weight_source(current: Callable[[], dict[str, Tensor]]) -> Any:
    """Return vLLM's `WeightSource` of what `current` returns when it is asked."""
    from vllm.distributed.weight_transfer import ParamMeta, WeightSource

    class Weights(WeightSource):  # type: ignore[misc]
        def metadata(self) -> list[Any]:
            return [ParamMeta(name, value.dtype, tuple(value.shape)) for name, value in current().items()]

        def __iter__(self) -> Iterator[tuple[str, Tensor]]:
            return ((name, value.detach()) for name, value in current().items())

    return Weights()


async def hand_over(server: Server, mover: Mover, label: str, *, keep: bool = False) -> None:
    """Give the server the weights that are published as `label`, and empty its caches.

    What it is at is dropped first, or with `keep` held until it has them and then computed again: its next token is of
    the new weights, and no key or value of the old ones is used any more. Nothing is sampled with half of them: where
    they do not arrive, what was kept is dropped too. Raises `EngineError`.
    """
    call = server.client.call
    try:
        await call("POST", f"/pause?mode={'keep' if keep else 'abort'}", timeout_s=QUIET_S)
        try:
            await mover.hand(server, label)
            running = "?reset_running_requests=true" if keep else ""
            cleared = await call("POST", f"/reset_prefix_cache{running}", timeout_s=QUIET_S)
            if cleared.get("success") is not True:
                raise EngineError(
                    f"{server.url} kept its prefix cache: what it holds was computed by the old weights",
                    "weights",
                )
            await call("POST", "/update_weight_version", {"new_version": label}, timeout_s=QUIET_S)
        except BaseException:
            if keep:
                await call("POST", "/pause?mode=abort", timeout_s=QUIET_S)
            raise
        finally:
            await call("POST", "/resume", timeout_s=QUIET_S)
    except EndpointError as error:
        raise EngineError(f"{server.url} did not take new weights: {error.reason}", "weights") from error
    server.weights = label


def _sweep(parent: Path) -> None:
    """Delete the folders of processes that are gone."""
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError), (folder / "lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
