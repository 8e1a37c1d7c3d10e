"""vLLM in processes of its own: one or many `vllm serve`, here or on other machines, as one engine.

Token ids go in, and token ids, log-probabilities and the label of the weights come out (`/inference/v1/generate`). A
session keeps to its server, whose prefix cache holds it. A server that dies, hangs or answers nonsense is left out
until it is well again and has the current weights; what it was at is asked elsewhere, with the same seed. One that was
started from here and has ended is started again.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ...tools.openai_client import TRANSIENT, EndpointError, OpenAIClient
from ..config import ServerConfig, VllmConfig
from .answers import as_completion
from .base import Completion, EngineError, Sampling, check_request
from .own_servers import OwnServers
from .server_weights import FileWeights, Mover, TransferWeights, hand_over
from .servers import Server, ServerPool

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HOW = (
    "start it with VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --enable-scale-out "
    "--logprobs-mode processed_logprobs --generation-config vllm, on a CPU also with --no-enable-chunked-prefill"
)
GREET_S = 120.0
"""Seconds for the first words with a server, which looks at its whole system to answer."""


class VllmServerEngine:
    """An `Engine` of one or many vLLM servers. They are reached, or started, with the first request or `load`.

    Args:
        model: its weights are given to every server.
        tokenizer: saved beside the weights for servers that are started.
        config: the `[engine.server]` section.
        vllm: the `[engine.vllm]` section, for servers that are started.
        max_sessions: at most this many requests are in the running batch of a started server; more wait.
        seed: of requests that have none of their own.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        config: ServerConfig,
        vllm: VllmConfig,
        *,
        max_sessions: int = 256,
        seed: int = 0,
    ) -> None:
        text = model.config.get_text_config()
        self.config = config
        self.version = 0
        self.context_length = int(vllm.max_model_len or text.max_position_embeddings)
        self._vocabulary = int(text.vocab_size)
        self._dtype = str(model.dtype).removeprefix("torch.")
        self._model, self._tokenizer, self._vllm = model, tokenizer, vllm
        self._max_sessions, self._seed = max_sessions, seed
        self._name = uuid.uuid4().hex[:8]
        self._label = ""
        # What was published, in this order: the number of each label and the version that it stands for.
        self._published: dict[str, tuple[int, int]] = {}
        self._mover: Mover | None = None
        self._own: OwnServers | None = None
        self._pool: ServerPool | None = None
        self._opening = asyncio.Lock()
        self._failure: EngineError | None = None
        self._running = 0

    @property
    def servers(self) -> Sequence[Server]:
        """The servers, as seen from here; none before the first request."""
        return () if self._pool is None else self._pool.servers

    async def generate(
        self, ids: Sequence[int], sampling: Sampling, *, session: str | None = None
    ) -> Completion:
        """Sample a completion of `ids` on one of the servers; see `Engine.generate`."""
        check_request(ids, sampling, self.context_length, self._vocabulary)
        self._running += 1
        try:
            pool = await self._opened()
            failed: dict[Server, str] = {}
            for attempt in range(1, self.config.attempts + 1):
                server = await pool.pick(session, ids, set(failed))
                try:
                    request = server.client.post(
                        "/inference/v1/generate",
                        self._body(ids, sampling),
                        partial(self._read, server, server.weights, ids, sampling),
                    )
                    return await pool.ask(server, request, counts=session is None)
                except EndpointError as error:
                    if error.kind not in TRANSIENT and error.kind != "weights":
                        raise EngineError(error.reason, error.kind) from error
                    failed[server] = error.reason
                    if error.kind == "connection":
                        pool.lose(server, error.reason)
                    else:
                        pool.rest(server, error.reason)
                    if attempt == self.config.attempts:
                        told = "; ".join(failed.values())
                        raise EngineError(
                            f"no answer after {attempt} attempts: {told}", error.kind
                        ) from error
            raise AssertionError("the last attempt returns or raises")
        finally:
            self._running -= 1

    def release(self, session: str) -> None:
        """Let the session's server be anybody's; its prefix cache drops what is no longer used."""
        if self._pool is not None:
            self._pool.release(session)

    async def load(self, model: PreTrainedModel, version: int) -> None:
        """Give `model`'s weights to every server. One that does not take them is left out until it has them.

        Raises `EngineError` if no server takes them.
        """
        if self._running:
            raise EngineError("weights can only change while no completion is being sampled")
        await self._publish(model, version)
        if self._pool is None:
            await self._opened()
        else:
            pool = self._pool
            for server in pool.servers:
                server.ready = False
            await asyncio.gather(*map(pool.make_ready, pool.servers))
            await self._taken(pool)
        assert self._mover is not None
        await asyncio.to_thread(self._mover.withdraw)

    async def swap(self, model: PreTrainedModel, version: int) -> None:
        """Give `model`'s weights to every server in the middle of completions too; see `InFlight.swap`.

        Each server changes over by itself: until it has, it samples with the weights before. One that does not take
        them is left out until it has them, and what it was at is asked elsewhere. Raises `EngineError` if no server
        takes them.
        """
        pool = await self._opened()
        await self._publish(model, version)
        await asyncio.gather(*(self._change_over(pool, server) for server in pool.ready))
        await self._taken(pool)
        assert self._mover is not None
        await asyncio.to_thread(self._mover.withdraw)

    async def close(self) -> None:
        """Close the connections, stop what was started, and delete the weights."""
        pool, self._pool = self._pool, None
        self._failure = self._failure or EngineError("the engine is closed", "dead")
        if pool is not None:
            await pool.close()
            await asyncio.gather(
                *(
                    asyncio.to_thread(server.process.stop)
                    for server in pool.servers
                    if server.process is not None
                )
            )
        mover, self._mover = self._mover, None
        if mover is not None:
            await asyncio.to_thread(mover.close)
        own, self._own = self._own, None
        if own is not None:
            await own.close()

    async def _opened(self) -> ServerPool:
        """Return the pool; the first caller reaches or starts the servers, and all wait."""
        if self._pool is not None and not self._opening.locked():
            return self._pool
        async with self._opening:
            if self._failure is not None:
                raise EngineError(str(self._failure), "dead") from self._failure
            if self._pool is None:
                try:
                    await self._open()
                except BaseException as error:
                    await self.close()
                    if isinstance(error, EngineError):
                        self._failure = error
                    raise
            assert self._pool is not None
            return self._pool

    async def _open(self) -> None:
        if self._mover is None:
            await self._publish(self._model, self.version)
        config = self.config
        pool = self._pool = ServerPool(
            [Server(url.rstrip("/"), self._client(url)) for url in config.urls],
            self._admit,
            self._start_again,
            restarts=config.restarts,
            start_s=config.start_s,
            health_s=config.health_s,
            wait_s=config.wait_s,
        )
        if config.start:
            self._own = OwnServers(
                self._model,
                self._tokenizer,
                config,
                self._vllm,
                context=self.context_length,
                sessions=self._max_sessions,
                seed=self._seed,
            )
            for number in range(config.start):
                process = await self._own.start(number)
                pool.servers.append(Server(process.url, self._client(process.url), process, number))
        await pool.open()
        pool.watch()

    async def _start_again(self, server: Server) -> None:
        """Start a process anew for a server whose own has ended."""
        assert self._own is not None and server.process is not None
        await asyncio.to_thread(server.process.stop)  # what it has started may be left
        await server.client.close()
        server.process = await self._own.start(server.number, server.restarts)
        server.url, server.client = server.process.url, self._client(server.process.url)
        server.greeted, server.weights = False, ""

    async def _publish(self, model: PreTrainedModel, version: int) -> None:
        """Make `model`'s weights the ones that servers are to have."""
        config = self.config
        if self._mover is None:
            if config.weights == "file":
                self._mover = FileWeights(config.weights_dir, config.load_s)
            else:
                self._mover = TransferWeights(config.weights, config.address, config.load_s)
        number = len(self._published) + 1
        label = f"{self._name}-{number}"
        await asyncio.to_thread(self._mover.publish, model, label)
        self._published[label] = (number, version)
        self._label, self.version = label, version
        if self._pool is not None:
            self._pool.forget_prompts()

    async def _change_over(self, pool: ServerPool, server: Server) -> None:
        """Have the server go on with the newest weights in what it is at; give it up where it does not take them."""
        assert self._mover is not None
        async with server.turn:
            try:
                await hand_over(server, self._mover, self._label, keep=True)
            except EngineError as error:
                pool.lose(server, str(error))

    async def _taken(self, pool: ServerPool) -> None:
        """Raise `EngineError` if no server has the new weights, nor comes back to take them."""
        if not pool.ready and pool.coming:
            await pool.some_ready(self.config.start_s)
        if not pool.ready:
            raise EngineError(f"no vLLM server has taken the new weights: {pool.told()}", "weights")

    async def _admit(self, server: Server) -> None:
        """Make a server ready: its settings fit, it has the current weights, and it has sampled a token with them."""
        async with server.turn:
            if not server.greeted:
                await self._greet(server)
            label = self._label
            assert self._mover is not None
            try:
                said = await server.client.call("GET", "/weight_info", timeout_s=GREET_S)
                if said.get("weight_version") != label:
                    await hand_over(server, self._mover, label)
                trial = Sampling(1, ())
                body = self._body([0], trial)
                answer = await server.client.call("POST", "/inference/v1/generate", body, timeout_s=GREET_S)
                self._read(server, label, [0], trial, answer)
            except EndpointError as error:
                if "scale-out" in error.reason.lower():
                    raise EngineError(f"{server.url} takes no token ids: {HOW}", "setup") from error
                raise EngineError(error.reason, error.kind) from error
            server.weights, server.ready = label, label == self._label
            if self._own is not None and all(one.greeted for one in self.servers if one.process is not None):
                self._own.forget_weights()

    async def _greet(self, server: Server) -> None:
        """Look at the server's settings. Raises `EngineError` of the kind `setup` for one that cannot be used."""
        try:
            info = await server.client.call("GET", "/server_info?config_format=json", timeout_s=GREET_S)
            settings = info["vllm_config"]
            model = settings["model_config"]
            longest, mode, dtype = int(model["max_model_len"]), model["logprobs_mode"], str(model["dtype"])
            transfer = (settings.get("weight_transfer_config") or {}).get("backend")
        except EndpointError as error:
            if error.kind == "rejected":
                raise EngineError(f"{server.url} cannot take weights: {HOW}", "setup") from error
            raise EngineError(error.reason, error.kind) from error
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise EngineError(
                f"{server.url} does not tell its settings as vLLM 0.32 does", "setup"
            ) from error
        wrong = None
        if longest < self.context_length:
            wrong = f"sees {longest} tokens, {self.context_length} are needed: raise its --max-model-len"
        elif mode != "processed_logprobs":
            wrong = f"gives log-probabilities of another distribution than it samples from ({mode}): {HOW}"
        elif dtype.removeprefix("torch.") != self._dtype:
            wrong = f"computes in {dtype}, the learner in {self._dtype}: start it with --dtype {self._dtype}"
        elif self.config.weights != "file" and transfer != self.config.weights:
            backend = f'{{"backend": "{self.config.weights}"}}'
            wrong = f"takes no weights by {self.config.weights}: start it with --weight-transfer-config '{backend}'"
        if wrong is not None:
            raise EngineError(f"{server.url} {wrong}", "setup")
        server.greeted = True

    def _client(self, url: str) -> OpenAIClient:
        return OpenAIClient(
            url.rstrip("/"),
            self.config.api_key_env,
            self.config.timeout_s,
            max_retries=0,
            concurrency=1_000_000,
        )

    def _body(self, ids: Sequence[int], sampling: Sampling) -> dict[str, Any]:
        return {
            "token_ids": list(ids),
            "sampling_params": {"detokenize": False, **sampling.request(self.context_length - len(ids))},
        }

    def _read(
        self, server: Server, given: str, ids: Sequence[int], sampling: Sampling, answer: dict[str, Any]
    ) -> Completion:
        """Return what the server sampled, with the weights `given` or newer ones of this run."""
        where = server.url
        try:
            choice = answer["choices"][0]
            sampled, reason = choice["token_ids"], choice["finish_reason"]
            entries = choice["logprobs"]["content"]
            logprobs = [entry["logprob"] for entry in entries]
            named = [entry["token_id"] for entry in entries]
            spans = [(span["version"], span["start"], span["end"]) for span in choice["weight_versions"]]
            seen = answer["usage"]["prompt_tokens"]
        except (LookupError, TypeError, AttributeError):
            raise EndpointError("garbage", f"{where} answered no completion: {answer!s:.200}") from None
        if seen != len(ids) or named != sampled:
            raise EndpointError(
                "garbage", f"{where} answered to another prompt, or with log-probabilities of others"
            )
        oldest = self._published[given][0]
        numbers = [self._published.get(label, (0, 0))[0] for label, _, _ in spans]
        if not spans or numbers != sorted(numbers) or numbers[0] < oldest:
            raise EndpointError(
                "weights",
                f"{where} sampled with weights that are not this run's current ones ({[span[0] for span in spans]})",
            )
        edges = [0, *(end for _, _, end in spans)]
        if [start for _, start, _ in spans] != edges[:-1] or edges[-1] != len(sampled):
            raise EndpointError("garbage", f"{where} does not say with which weights each token was drawn")
        of_spans = [self._published[label][1] for label, _, _ in spans]
        said = as_completion(where, sampled, logprobs, reason, sampling, of_spans[-1])
        if len(spans) == 1:
            return said
        versions = [v for v, (_, start, end) in zip(of_spans, spans, strict=True) for _ in range(start, end)]
        return replace(said, versions=versions)
