"""The servers that an engine starts itself: what they start from, and starting one again that has ended."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ..adapters import save_whole
from ..config import ServerConfig, VllmConfig
from .local_server import LocalServer, serve_arguments

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class OwnServers:
    """Starts `vllm serve` processes of a model.

    The weights lie on disk only while a server reads them: what it samples with is handed to it when it is up.

    Args:
        model: the shape and some weights to start with.
        tokenizer: saved beside them.
        config: the `[engine.server]` section.
        vllm: the `[engine.vllm]` section.
        context: the longest sequence in tokens.
        sessions: at most this many requests are in a server's running batch.
        seed: of requests that have none of their own.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        config: ServerConfig,
        vllm: VllmConfig,
        *,
        context: int,
        sessions: int,
        seed: int,
    ) -> None:
        transfer = None if config.weights == "file" else config.weights
        on_cpu = model.device.type == "cpu"
        self._model, self._tokenizer, self._config = model, tokenizer, config
        self._insecure = transfer == "ipc"
        self._folder = Path(tempfile.mkdtemp(prefix="quintain-vllm-"))
        self._saving = asyncio.Lock()
        self._arguments = serve_arguments(
            self._folder,
            dtype=str(model.dtype).removeprefix("torch."),
            context=context,
            sessions=sessions,
            seed=seed,
            eager=vllm.enforce_eager,
            cache_bytes=int(vllm.kv_cache_gb * 2**30) if on_cpu else None,
            memory_fraction=None if on_cpu else vllm.gpu_memory_utilization,
            transfer=transfer,
        )

    async def start(self, number: int, again: int = 0) -> LocalServer:
        """Start server `number`, for the `again`-th time after the first; returns before it is up.

        Raises `UserError` if vLLM is not installed, `OSError` where the weights cannot be written.
        """
        async with self._saving:
            if not self._weights():
                await asyncio.to_thread(self._save)
        return LocalServer(
            self._arguments,
            self._folder / f"server-{number}-{again}.log",
            gpu=self._config.gpus[number] if self._config.gpus else None,
            insecure=self._insecure,
        )

    def forget_weights(self) -> None:
        """Delete the weights: every server has read them. The logs stay."""
        if not self._saving.locked():
            for file in self._weights():
                file.unlink(missing_ok=True)

    async def close(self) -> None:
        """Delete the folder; the servers are ended by now."""
        async with self._saving:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    def _weights(self) -> list[Path]:
        return list(self._folder.glob("*.safetensors"))

    def _save(self) -> None:
        try:
            save_whole(self._model, self._folder)
            self._tokenizer.save_pretrained(self._folder)
        except BaseException:  # no server may start from a part of them
            for file in self._weights():
                file.unlink(missing_ok=True)
            raise
