"""The Ray cluster of a run: connecting within a time limit, what there is room for, actors, and leaving."""

from __future__ import annotations

import asyncio
import importlib
import os
import platform
import socket
import tempfile
import threading
from collections.abc import Mapping
from typing import Any

from .. import __version__
from ..tools.errors import UserError
from .ray_worker import Facts
from .workers_config import WorkersConfig

STORE_BYTES = 100_000_000
"""Ray's shared memory for large values, where it is started here; what episodes send is small. Its least is 75 MiB."""
PROBE_S = 10.0
"""How long the machine of an address may take to accept a connection."""


class Cluster:
    """The connection of this process to a cluster. Nothing is imported or started before `connect`."""

    def __init__(self, config: WorkersConfig) -> None:
        self.config = config
        self._ray: Any = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._connected = False

    @property
    def errors(self) -> Any:
        """The module with Ray's exceptions."""
        return self._ray.exceptions

    async def connect(self) -> None:
        """Connect to the cluster, or start one here. Raises `UserError` where there is none or it does not answer."""
        self._ray = ray = _library()
        if ray.is_initialized():
            return  # by the program that called us, which also ends it
        address = self.config.address or os.environ.get("RAY_ADDRESS")
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if address is None or address == "local":
            self._folder = tempfile.TemporaryDirectory(prefix="qray-", ignore_cleanup_errors=True)
            options |= {
                "address": "local",
                "include_dashboard": False,
                "object_store_memory": STORE_BYTES,
                "_temp_dir": self._folder.name,
            }
        else:
            if address != "auto":
                await _probe(address)
            options |= {"address": address}
        where = "this machine" if address is None else address
        if self._folder is not None:
            # In this thread: what Ray starts is told by the kernel to end with the thread that started it.
            try:
                ray.init(**options)
            except Exception as error:
                raise UserError(f"Ray could not be started on {where}: {_line(error)}") from error
        else:
            await self._join(options, where)
        self._connected = True

    async def _join(self, options: Mapping[str, Any], where: str) -> None:
        """Call `ray.init`, which tries a wrong address for minutes, in a thread that may be left behind."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Exception | None] = loop.create_future()

        def tell(error: Exception | None) -> None:
            if not done.done():
                done.set_result(error)

        def work() -> None:
            try:
                self._ray.init(**options)
            except Exception as error:
                failed = error
                loop.call_soon_threadsafe(tell, failed)
            else:
                loop.call_soon_threadsafe(tell, None)

        threading.Thread(target=work, name="ray-init", daemon=True).start()
        try:
            error = await asyncio.wait_for(done, self.config.start_s)
        except TimeoutError:
            raise UserError(
                f"Ray at {where} did not answer within workers.start_s = {self.config.start_s:g} s: is it a Ray "
                "cluster of this version, and the port that `ray start --head` names?"
            ) from None
        if error is None:
            return
        if "ersion mismatch" in str(error):
            raise UserError(
                f"the Ray cluster at {where} is of another version: {_line(error)}. Install the same "
                "Python and Ray on every machine"
            ) from error
        raise UserError(
            f"no Ray cluster at {where} (workers.address): {_line(error)}. Start one with "
            "`ray start --head`, or leave workers.address out to use this machine alone"
        ) from error

    def nodes(self) -> list[dict[str, float]]:
        """Return what each machine that is alive was said to have."""
        return [dict(node["Resources"]) for node in self._ray.nodes() if node["Alive"]]

    def room(self) -> int:
        """Return how many workers the cluster has room for, were it empty; at least 1."""
        needs = {"CPU": self.config.cpus, **self.config.resources}
        return max(1, sum(_fit(node, needs) for node in self.nodes()))

    def check(self, count: int) -> None:
        """Raise `UserError` where this machine alone, which does not grow, cannot hold `count` workers."""
        if self._folder is None:
            return  # machines may join
        needs = {"CPU": self.config.cpus, **self.config.resources}
        room = sum(_fit(node, needs) for node in self.nodes())
        if room < count:
            raise UserError(
                f"there is room for {room} of {count} workers. {self.told()}: lower workers.count or workers.cpus (a "
                "share such as 0.5 is fine), or name a cluster with workers.address"
            )

    def told(self) -> str:
        """Return a sentence about what a worker takes and what there is."""
        needs = {"CPU": self.config.cpus, **self.config.resources}
        total, free = self._ray.cluster_resources(), self._ray.available_resources()
        have = ", ".join(f"{total.get(name, 0):g} {name} ({free.get(name, 0):g} free)" for name in needs)
        each = ", ".join(f"{count:g} {name}" for name, count in needs.items())
        machines = len(self.nodes())
        return f"Each takes {each}; the cluster has {have} on {machines} machine{'s' * (machines != 1)}"

    def actor(self, kind: type, at_once: int, *arguments: Any) -> Any:
        """Start an actor, spread over the machines, that Ray starts again whenever it dies."""
        made = self._ray.remote(kind).options(
            num_cpus=self.config.cpus,
            resources=dict(self.config.resources),
            max_restarts=-1,
            max_task_retries=0,  # an episode's state is gone with its worker
            max_concurrency=2 * at_once + 8,  # so that closing never has to wait for a step
            scheduling_strategy="SPREAD",
        )
        return made.remote(*arguments)

    def kill(self, actor: Any, *, again: bool) -> None:
        """End an actor's process at once; `again` lets Ray start it anew."""
        if self._ray.is_initialized():
            self._ray.kill(actor, no_restart=not again)

    def refuse_others(self, facts: Facts) -> None:
        """Raise `UserError` for a worker that cannot work or has another version."""
        if facts.failure is not None:
            raise UserError(f"a worker on {facts.host} cannot make the environments: {facts.failure}")
        python = ".".join(platform.python_version_tuple()[:2])
        if (facts.version, facts.python) != (__version__, python):
            raise UserError(
                f"{facts.host} has Quintain {facts.version} on Python {facts.python}, this machine {__version__} on "
                f"{python}: install the same on every machine"
            )

    def disconnect(self) -> None:
        """Leave the cluster; end it if it was started here."""
        if self._connected:
            self._connected = False
            self._ray.shutdown()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


def _library() -> Any:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing phones home
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray warns where it is not set
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise UserError('workers.kind = "ray" needs Ray: pip install "quintain[ray]"') from error


async def _probe(address: str) -> None:
    """Raise `UserError` where nothing listens: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise UserError(f"workers.address must be host:port, such as 10.0.0.5:6379, or auto; got {address!r}")
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), PROBE_S)
    except (OSError, TimeoutError, socket.gaierror) as error:
        raise UserError(
            f"no Ray cluster at {address} (workers.address): {error or f'no answer within {PROBE_S:g} s'}. Start one "
            "with `ray start --head`, or leave workers.address out to use this machine alone"
        ) from error
    del reader
    writer.close()


def _fit(node: Mapping[str, float], needs: Mapping[str, float]) -> int:
    fits = (int(node.get(name, 0) / need + 1e-9) for name, need in needs.items() if need > 0)
    return min(fits, default=10**6)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
