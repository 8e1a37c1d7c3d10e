"""Many vLLM servers as one engine: who is asked, what a failure costs, and who gets which weights.

The servers here are a fake that answers as `vllm_contract.json` says; `test_vllm_serving.py` holds the real one to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import web
from safetensors.torch import load_file

from quintain.envs.library.calculator import Calculator
from quintain.rl.chat import ChatCodec
from quintain.rl.config import Config, RolloutConfig, ServerConfig, VllmConfig
from quintain.rl.engines import own_servers, server_weights, servers
from quintain.rl.engines.base import EngineError, FinishReason, Sampling
from quintain.rl.engines.vllm_server import VllmServerEngine
from quintain.rl.rollout import Start, rollout

SAMPLING = Sampling(max_tokens=4, stop_ids=(9,), seed=5)


class FakeServer:
    """What the engine needs of `vllm serve`. `fault` breaks its next completions; `settings` are what it tells."""

    def __init__(self, port: int = 0) -> None:
        self.url = ""
        self.label = "default"
        self.fault: Callable[[dict], object] | None = None
        self.settings = {
            "max_model_len": 512,
            "logprobs_mode": "processed_logprobs",
            "dtype": "torch.float32",
        }
        self.asked: list[dict] = []
        self.done: list[str] = []
        self.pauses: list[str] = []
        self.refuses = False
        self.dropped = 0
        self.transfer: dict | None = None
        self.weights: Path | None = None
        self.well = True
        self._runner: web.AppRunner | None = None
        self._port = port

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/health", self._health)
        app.router.add_get("/server_info", self._info)
        app.router.add_get("/weight_info", lambda r: self._say({"weight_version": self.label}))
        app.router.add_get("/get_world_size", lambda r: self._say({"world_size": 1}))
        for path in ("/pause", "/resume", "/reset_prefix_cache", "/update_weight_version", "/collective_rpc"):
            app.router.add_post(path, self._steer)
        app.router.add_post("/inference/v1/generate", self._generate)
        app.router.add_get("/{rest:.*}", lambda r: self._say({"detail": "Not Found"}, 404))
        self._runner = web.AppRunner(app, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, shutdown_timeout=0.05).start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _say(self, answer: object, status: int = 200) -> web.Response:
        return web.json_response(answer, status=status)

    async def _health(self, request: web.Request) -> web.Response:
        while not self.well:
            await asyncio.sleep(0.05)
        return web.Response()

    async def _info(self, request: web.Request) -> web.Response:
        if not self.settings:
            return await self._say({"detail": "Not Found"}, 404)
        return await self._say(
            {"vllm_config": {"model_config": self.settings, "weight_transfer_config": self.transfer}}
        )

    async def _steer(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else {}
        self.done.append(request.path)
        if request.path == "/pause":
            self.pauses.append(request.query["mode"])
        if request.path == "/collective_rpc" and self.refuses:
            return await self._say({"error": {"message": "the shapes differ"}}, 500)
        if request.path == "/collective_rpc":
            folder = Path(body["kwargs"]["weights_path"])
            if not (folder / "model.safetensors").is_file():
                return await self._say({"error": {"message": f"no weights in {folder}"}}, 500)
            self.weights = folder
            return await self._say({"results": [None]})
        if request.path == "/update_weight_version":
            self.label = body["new_version"]
        return await self._say({"success": True, "status": "well"})

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        asked = body["sampling_params"]
        if max(asked["stop_token_ids"], default=0) > 319:
            return await self._say({"error": {"message": "out-of-vocab token ids"}}, 400)
        self.asked.append(body)
        answer = said(body, self.label)
        if self.fault is not None and len(body["token_ids"]) > 1:  # not for the trial of one token
            broken = self.fault(answer)
            try:
                broken = await broken if asyncio.iscoroutine(broken) else broken
            except asyncio.CancelledError:
                self.dropped += 1
                raise
            if isinstance(broken, web.Response):
                return broken
            answer = broken
        return await self._say(answer)


def said(body: dict, label: str) -> dict:
    """Two tokens, the second a stop token; one where only one may be."""
    ids = [7, 9][: body["sampling_params"]["max_tokens"]]
    choice = {
        "token_ids": ids,
        "finish_reason": "stop" if len(ids) == 2 else "length",
        "logprobs": {"content": [{"token_id": token, "logprob": -0.5} for token in ids]},
        "weight_versions": [{"version": label, "start": 0, "end": len(ids)}],
    }
    return {"usage": {"prompt_tokens": len(body["token_ids"])}, "choices": [choice]}


@pytest.fixture
async def fakes() -> AsyncIterator[list[FakeServer]]:
    found = [FakeServer(), FakeServer()]
    for fake in found:
        await fake.start()
    yield found
    for fake in found:
        await fake.stop()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(servers, "PAUSE_S", 0.02)
    monkeypatch.setattr(servers, "LOOK_S", 0.3)
    monkeypatch.setattr(server_weights, "SHARED_MEMORY", tmp_path)


@pytest.fixture
async def engine_of(fakes, model, tokenizer):
    """Make an engine of the fakes; it is closed in the end."""
    made = []

    def make(urls: list[str] | None = None, **options) -> VllmServerEngine:
        options = {"health_s": 0.05, "start_s": 5.0, "wait_s": 5.0} | options
        config = ServerConfig(urls=urls or [fake.url for fake in fakes], **options)
        made.append(VllmServerEngine(model, tokenizer, config, VllmConfig()))
        return made[-1]

    yield make
    for engine in made:
        await engine.close()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.01)


async def test_the_fake_answers_as_the_contract_says(fakes, vllm_contract):
    assert await vllm_contract(fakes[0].url) == []


async def test_ids_go_in_and_ids_logprobs_and_the_version_come_out(fakes, engine_of, model):
    engine = engine_of()
    await engine.load(model, 3)
    found = await engine.generate([1, 2, 3], SAMPLING)
    assert (found.ids, found.logprobs, found.finish, found.version) == (
        [7, 9],
        [-0.5, -0.5],
        FinishReason.STOP,
        3,
    )
    (asked,) = [body for fake in fakes for body in fake.asked if body["token_ids"] == [1, 2, 3]]
    sent = asked["sampling_params"]
    assert (sent["max_tokens"], sent["seed"], sent["stop_token_ids"], sent["ignore_eos"]) == (4, 5, [9], True)
    assert (sent["top_p"], sent["top_k"], sent["min_p"], sent["repetition_penalty"]) == (1, 0, 0, 1)


async def test_sessions_keep_to_their_server_groups_share_one_and_the_idlest_gets_the_rest(fakes, engine_of):
    engine = engine_of()
    for turn in range(2):
        for name in ("a0", "a1", "b0", "b1"):
            prompt = [ord(name[0])] * (3 + turn)
            await engine.generate(prompt, SAMPLING, session=name)
    seen = [{body["token_ids"][0] for body in fake.asked if len(body["token_ids"]) > 1} for fake in fakes]
    assert sorted(map(sorted, seen)) == [[ord("a")], [ord("b")]]
    assert [server.sessions for server in engine.servers] == [2, 2]
    for name in ("a0", "a1", "b0", "b1"):
        engine.release(name)
    assert [server.sessions for server in engine.servers] == [0, 0]


async def test_a_group_too_large_for_one_server_goes_to_both(fakes, engine_of):
    engine = engine_of()
    for member in range(16):
        await engine.generate([5, 6], SAMPLING, session=f"m{member}")
    assert sorted(server.sessions for server in engine.servers) >= [5, 5]


def changed(**fields) -> Callable[[dict], dict]:
    return lambda answer: answer | {"choices": [answer["choices"][0] | fields]}


async def forever(answer: dict) -> None:
    await asyncio.sleep(60)


FAULTS = {
    "500": lambda answer: web.json_response({"error": {"message": "EngineCore died"}}, status=500),
    "no JSON": lambda answer: web.Response(body=b"<html>"),
    "nothing": lambda answer: web.Response(),
    "another shape": lambda answer: {"choices": [{"text": "hello"}]},
    "no choices": lambda answer: answer | {"choices": []},
    "an aborted request": changed(finish_reason="abort"),
    "too many tokens": changed(
        token_ids=[7] * 5,
        logprobs={"content": [{"token_id": 7, "logprob": -1.0}] * 5},
        finish_reason="length",
    ),
    "a positive log-probability": changed(
        logprobs={"content": [{"token_id": 7, "logprob": -0.5}, {"token_id": 9, "logprob": 2.0}]}
    ),
    "log-probabilities of other tokens": changed(
        logprobs={"content": [{"token_id": 8, "logprob": -0.5}] * 2}
    ),
    "other weights": changed(weight_versions=[{"version": "other", "start": 0, "end": 2}]),
    "weights that changed on the way": changed(
        weight_versions=[{"version": "a", "start": 0, "end": 1}, {"version": "b", "start": 1, "end": 2}]
    ),
    "weights that nobody names": changed(weight_versions=[]),
    "a hang": forever,
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_what_one_server_fails_at_another_does(fakes, engine_of, fault):
    engine = engine_of(timeout_s=0.2)
    await engine.generate([1, 2], SAMPLING)
    fakes[0].fault = FAULTS[fault]
    found = await asyncio.gather(*(engine.generate([1, n], SAMPLING, session=f"s{n}") for n in range(4)))
    assert [list(one.ids) for one in found] == [[7, 9]] * 4
    fakes[0].fault = None
    await until(lambda: all(server.ready for server in engine.servers))
    assert (await engine.generate([1, 2], SAMPLING, session="s1")).ids == [7, 9]


async def test_a_request_that_all_fail_at_ends_with_the_name_of_it(fakes, engine_of):
    engine = engine_of(attempts=3)
    for fake in fakes:
        fake.fault = FAULTS["no JSON"]
    with pytest.raises(EngineError, match=r"no answer after 3 attempts: .* is no JSON") as caught:
        await engine.generate([1, 2], SAMPLING)
    assert caught.value.kind == "garbage"
    assert sum(len(body["token_ids"]) > 1 for fake in fakes for body in fake.asked) == 3


async def test_a_refused_request_is_not_asked_again(fakes, engine_of):
    engine = engine_of()
    await engine.generate([1, 2], SAMPLING)
    for fake in fakes:
        fake.fault = lambda answer: web.json_response({"error": {"message": "too long"}}, status=400)
    before = sum(len(fake.asked) for fake in fakes)
    with pytest.raises(EngineError, match="too long") as caught:
        await engine.generate([1, 2], SAMPLING)
    assert (caught.value.kind, sum(len(fake.asked) for fake in fakes) - before) == ("rejected", 1)


async def test_a_server_that_stops_to_be_well_loses_its_requests_to_the_other(fakes, engine_of):
    engine = engine_of()
    await engine.generate([1, 2], SAMPLING)
    fakes[0].fault, fakes[0].well = forever, False
    found = await asyncio.gather(*(engine.generate([1, n], SAMPLING, session=f"s{n}") for n in range(4)))
    assert len(found) == 4
    await until(lambda: fakes[0].dropped > 0)
    assert [server.ready for server in engine.servers] == [False, True]


async def test_a_server_that_comes_back_gets_the_weights_before_it_is_asked(fakes, engine_of, model):
    engine = engine_of()
    await engine.load(model, 1)
    await fakes[0].stop()
    await until(lambda: not engine.servers[0].ready)
    await engine.load(model, 2)
    fakes[0].label, fakes[0].weights = "default", None
    await fakes[0].start()
    await until(lambda: engine.servers[0].ready)
    assert fakes[0].label == fakes[1].label != "default"
    assert fakes[0].weights == fakes[1].weights
    await fakes[1].stop()
    assert (await engine.generate([1, 2], SAMPLING)).version == 2


async def test_where_no_server_is_left_a_request_ends_by_itself(fakes, engine_of):
    engine = engine_of(wait_s=0.2)
    await engine.generate([1, 2], SAMPLING)
    for fake in fakes:
        await fake.stop()
    with pytest.raises(
        EngineError, match=r"no vLLM server is ready after 0\.2 s: http://.*; http://"
    ) as caught:
        await engine.generate([1, 2], SAMPLING)
    assert caught.value.kind == "connection"


async def test_a_cancelled_request_is_hung_up(fakes, engine_of):
    engine = engine_of()
    await engine.generate([1, 2], SAMPLING)
    for fake in fakes:
        fake.fault = forever
    waiting = asyncio.create_task(engine.generate([1, 2], SAMPLING))
    await until(lambda: any(len(server.requests) for server in engine.servers))
    await asyncio.sleep(0.05)
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    await until(lambda: sum(fake.dropped for fake in fakes) == 1)
    assert [(len(server.requests), server.sessions, server.ready) for server in engine.servers] == [
        (0, 0, True)
    ] * 2


async def test_new_weights_reach_every_server_and_empty_its_cache(fakes, engine_of, model):
    engine = engine_of()
    await engine.load(model, 1)
    first = fakes[0].weights
    for fake in fakes:
        fake.done.clear()
    await engine.load(model, 2)
    order = ["/pause", "/collective_rpc", "/reset_prefix_cache", "/update_weight_version", "/resume"]
    assert [fake.done for fake in fakes] == [order, order]
    await engine.load(model, 3)
    assert first is not None and not first.exists()  # it was written over
    stored = load_file(fakes[0].weights / "model.safetensors")
    assert stored.keys() == model.state_dict().keys()
    assert all((stored[name] == value).all() for name, value in model.state_dict().items())


async def test_weights_do_not_change_under_a_running_completion(fakes, engine_of, model):
    engine = engine_of()
    await engine.load(model, 1)
    fakes[0].fault = fakes[1].fault = forever
    waiting = asyncio.create_task(engine.generate([1, 2], SAMPLING))
    await asyncio.sleep(0)
    with pytest.raises(EngineError, match="while no completion is being sampled"):
        await engine.load(model, 2)
    waiting.cancel()


def spans(*found: tuple[str, int, int]) -> Callable[[dict], dict]:
    return changed(weight_versions=[{"version": v, "start": start, "end": end} for v, start, end in found])


async def test_in_flight_each_token_is_of_the_weights_that_its_server_names(fakes, engine_of, model):
    """The first token was drawn before, the second with the new weights; of other requests both before, or after."""
    engine = engine_of([fakes[0].url])
    await engine.load(model, 3)
    old, go_on = fakes[0].label, asyncio.Event()
    fakes[0].done.clear()
    answers = iter([lambda new: (old, 0, 2), lambda new: (new, 0, 2)])

    async def half(answer: dict) -> dict:
        await go_on.wait()
        if (whole := next(answers, None)) is not None:
            return spans(whole(fakes[0].label))(answer)
        return spans((old, 0, 1), (fakes[0].label, 1, 2))(answer)

    fakes[0].fault = half
    asked = [asyncio.create_task(engine.generate([1, 2], SAMPLING)) for _ in range(3)]
    await until(lambda: sum(len(body["token_ids"]) > 1 for body in fakes[0].asked) == 3)
    await engine.swap(model, 4)
    go_on.set()
    found = await asyncio.gather(*asked)
    assert sorted((one.version, tuple(one.versions)) for one in found) == [(3, ()), (4, ()), (4, (3, 4))]
    assert fakes[0].dropped == 0 and fakes[0].pauses == ["abort", "keep"]
    order = ["/pause", "/collective_rpc", "/reset_prefix_cache", "/update_weight_version", "/resume"]
    assert fakes[0].done == order


@pytest.mark.parametrize(
    ("wrong", "kind", "says"),
    [
        (lambda old, new: [(old, 0, 2)], "weights", "not this run's current ones"),
        (lambda old, new: [(new, 0, 1), (old, 1, 2)], "weights", "not this run's current ones"),
        (lambda old, new: [(new, 0, 1)], "garbage", "does not say with which weights each token was drawn"),
        (lambda old, new: [(new, 1, 2)], "garbage", "does not say with which weights each token was drawn"),
    ],
    ids=["of weights before the request", "back to older ones", "not of the last token", "not of the first"],
)
async def test_tokens_of_weights_that_cannot_be_are_not_used(fakes, engine_of, model, wrong, kind, says):
    engine = engine_of([fakes[0].url], attempts=1)
    await engine.load(model, 1)
    old = fakes[0].label
    await engine.load(model, 2)
    fakes[0].fault = spans(*wrong(old, fakes[0].label))
    with pytest.raises(EngineError, match=says) as caught:
        await engine.generate([1, 2], SAMPLING)
    assert caught.value.kind == kind


async def test_in_flight_a_server_that_does_not_take_the_weights_draws_no_token_with_half_of_them(
    fakes, engine_of, model
):
    """What it was at is dropped before it goes on, and asked elsewhere."""
    engine = engine_of()
    await engine.load(model, 1)
    fakes[0].fault = fakes[1].fault = forever
    asked = [asyncio.create_task(engine.generate([1, n], SAMPLING, session=f"s{n}")) for n in range(4)]
    await until(lambda: sum(len(body["token_ids"]) > 1 for fake in fakes for body in fake.asked) == 4)
    fakes[0].refuses, fakes[1].fault = True, None
    fakes[0].done.clear()
    await engine.swap(model, 2)
    await until(lambda: fakes[0].dropped == 2)
    assert fakes[0].pauses[-2:] == ["keep", "abort"] and fakes[0].done[-2:] == ["/pause", "/resume"]
    assert [server.ready for server in engine.servers] == [False, True]
    fakes[0].refuses, fakes[0].fault = False, None
    dropped = [body["token_ids"][1] for body in fakes[0].asked if len(body["token_ids"]) > 1]
    assert [(await asked[number]).version for number in dropped] == [2, 2]
    await until(lambda: engine.servers[0].ready)
    fakes[0].refuses = fakes[1].refuses = True
    with pytest.raises(EngineError, match=r"no vLLM server has taken the new weights: .*the shapes differ"):
        await engine.swap(model, 3)
    for task in asked:
        task.cancel()


async def test_a_server_that_does_not_take_the_weights_is_left_out_until_it_does(fakes, engine_of, model):
    engine = engine_of()
    await engine.load(model, 1)
    await fakes[0].stop()
    await engine.load(model, 2)
    assert [server.ready for server in engine.servers] == [False, True]
    await fakes[1].stop()
    with pytest.raises(EngineError, match="no vLLM server has taken the new weights: http") as caught:
        await engine.load(model, 3)
    assert caught.value.kind == "weights"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "cannot take weights: start it with VLLM_SERVER_DEV_MODE=1"),
        ({"max_model_len": 100}, "sees 100 tokens, 512 are needed: raise its --max-model-len"),
        ({"logprobs_mode": "raw_logprobs"}, r"another distribution than it samples from \(raw_logprobs\)"),
        (
            {"dtype": "torch.bfloat16"},
            "computes in torch.bfloat16, the learner in float32: start it with --dtype",
        ),
        ({"dtype": None, "max_model_len": None}, "does not tell its settings as vLLM"),
    ],
)
async def test_a_server_that_cannot_be_trained_with_is_refused_by_name(fakes, engine_of, settings, says):
    fakes[1].settings = fakes[1].settings | settings if settings else {}
    engine = engine_of()
    with pytest.raises(EngineError, match=says) as caught:
        await engine.generate([1, 2], SAMPLING)
    assert caught.value.kind == "setup" and fakes[1].url in str(caught.value)
    with pytest.raises(EngineError) as again:  # at once, without another look
        await engine.generate([1, 2], SAMPLING)
    assert again.value.kind == "dead"


@pytest.mark.parametrize(
    ("ids", "stop", "says"),
    [
        ([40, 320], (9,), "token 320 among the prompt is not in the model's vocabulary of 320"),
        ([40, -1], (9,), "token -1 among the prompt"),
        ([40], (9, 4000), "token 4000 among the stop tokens"),
    ],
)
async def test_tokens_that_the_model_lacks_are_refused_before_they_are_sent(engine_of, ids, stop, says):
    with pytest.raises(EngineError, match=says) as caught:
        await engine_of().generate(ids, Sampling(4, stop))
    assert caught.value.kind == "setup"
    with pytest.raises(ValueError, match="the prompt has 512 tokens, the model's context is 512"):
        await engine_of().generate([1] * 512, Sampling(4, ()))


async def test_an_episode_without_servers_is_ungraded_with_its_kind(engine_of, tokenizer):
    engine = engine_of(["http://127.0.0.1:9"], start_s=0.1)
    limits = RolloutConfig(retries=0)
    found = await rollout(
        Calculator(), engine, ChatCodec(tokenizer), [Start(f"e{n}", n, n) for n in range(2)], limits
    )
    assert [(t.graded, t.info["kind"]) for t in found] == [(False, "connection"), (False, "dead")]
    assert "is not ready" in found[0].score.reason


async def test_weights_of_this_engine_and_of_killed_ones_are_deleted_others_stay(engine_of, model, tmp_path):
    killed, alive = tmp_path / "quintain-weights-killed", tmp_path / "quintain-weights-alive"
    killed.mkdir()
    (killed / "lock").touch()
    alive.mkdir()
    with (alive / "lock").open("w") as lock:
        server_weights.fcntl.flock(lock, server_weights.fcntl.LOCK_EX)
        engine = engine_of()
        await engine.load(model, 1)
        assert not killed.exists() and len(list(tmp_path.glob("quintain-weights-*"))) == 2
        await engine.close()
        assert list(tmp_path.glob("quintain-weights-*")) == [alive]


class FakeProcess:
    """A `vllm serve` process as the engine sees it: up a moment later, unless there are no weights to read."""

    def __init__(self, arguments: list[str], log: Path, *, gpu: int | None, insecure: bool) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.folder = Path(arguments[arguments.index("--model") + 1])
        self.ended: str | None = None if (self.folder / "model.safetensors").is_file() else "no weights"
        self.server = FakeServer(port)
        self.stopped = 0
        self.loop = asyncio.get_running_loop()
        self.starting = self.loop.create_task(self.server.start()) if self.ended is None else None

    async def die(self) -> None:
        self.ended = "it ended with the exit code -9"
        await self.server.stop()

    def stop(self) -> None:
        self.stopped += 1
        if self.ended is None:
            asyncio.run_coroutine_threadsafe(self.die(), self.loop).result(10)


@pytest.fixture
async def started(model, tokenizer, monkeypatch):
    """Make an engine that starts fake servers itself; the second value are all processes so far."""
    processes: list[FakeProcess] = []
    engines: list[VllmServerEngine] = []

    def run(*arguments, **options):
        processes.append(FakeProcess(*arguments, **options))
        return processes[-1]

    def make(**options) -> tuple[VllmServerEngine, list[FakeProcess]]:
        options = {"health_s": 0.05, "start_s": 5.0, "wait_s": 5.0} | options
        engines.append(VllmServerEngine(model, tokenizer, ServerConfig(**options), VllmConfig()))
        return engines[-1], processes

    monkeypatch.setattr(own_servers, "LocalServer", run)
    yield make
    for engine in engines:
        await engine.close()
    assert all(process.ended for process in processes)
    assert not any(process.folder.exists() for process in processes)


async def test_a_started_server_that_has_died_is_started_again_and_gets_the_current_weights(
    started, model, caplog
):
    engine, processes = started(start=2)
    await engine.load(model, 1)
    assert not list(processes[0].folder.glob("*.safetensors"))  # both have read them
    await processes[0].die()
    await until(lambda: not engine.servers[0].ready)
    await engine.load(model, 2)
    await until(lambda: engine.servers[0].ready)
    again = processes[2]
    assert (len(processes), processes[0].stopped, again.url) == (3, 1, engine.servers[0].url)
    assert again.server.label == processes[1].server.label
    await processes[1].die()
    assert (await engine.generate([1, 2], SAMPLING)).version == 2
    assert "is started again (1 of at most 3)" in caplog.text and "exit code -9" in caplog.text
    await until(lambda: len(engine.servers) == sum(server.ready for server in engine.servers))
    assert not list(again.folder.glob("*.safetensors"))


async def test_a_started_server_is_started_again_so_often_and_no_more(started, model, monkeypatch):
    engine, processes = started(start=1, restarts=2, wait_s=0.3)
    await engine.load(model, 1)
    for number in range(3):
        await until(lambda: engine.servers[0].ready)
        await processes[-1].die()
        await until(lambda number=number: len(processes) == min(number + 2, 3))
    await until(lambda: not engine.servers[0].ready)
    with pytest.raises(EngineError, match=r"its process is gone \(it was started again, 2 times in all\)"):
        await engine.generate([1, 2], SAMPLING)
    with pytest.raises(EngineError, match=r"no vLLM server has taken the new weights: .*exit code -9"):
        await engine.load(model, 2)
    assert len(processes) == 3


@pytest.mark.parametrize("how", ["load", "swap"])
async def test_new_weights_wait_for_the_only_server_to_come_back(started, model, how):
    engine, processes = started(start=1, restarts=1)
    await engine.load(model, 1)
    await processes[0].die()
    await getattr(engine, how)(model, 2)
    assert len(processes) == 2
    assert (await engine.generate([1, 2], SAMPLING)).version == 2


async def test_a_server_that_does_not_come_up_again_in_time_is_ended_and_that_counts(
    started, model, monkeypatch
):
    engine, processes = started(start=1, restarts=2, start_s=0.3)
    await engine.load(model, 1)

    async def never(server):
        await asyncio.sleep(60)

    with monkeypatch.context() as hung:
        hung.setattr(FakeServer, "start", never)
        await processes[0].die()
        await until(lambda: len(processes) == 2)
    await until(lambda: engine.servers[0].ready)
    assert (len(processes), processes[1].ended is not None) == (3, True)
    processes[1].starting.cancel()


async def test_a_server_that_cannot_be_started_again_says_why(started, model, monkeypatch):
    engine, processes = started(start=1, restarts=1, wait_s=0.3)
    await engine.load(model, 1)

    def full(model, folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(own_servers, "save_whole", full)
    await processes[0].die()
    with pytest.raises(EngineError, match=r"could not be started again: .*No space left on device"):
        await engine.generate([1, 2], SAMPLING)


@pytest.fixture
def sent(fakes, monkeypatch) -> list[tuple[str, float]]:
    """vLLM's weight transfer, replaced by a note of which server got which first weight."""
    found: list[tuple[str, float]] = []
    for fake in fakes:
        fake.transfer = {"backend": "nccl"}

    class Trainer:
        def __init__(self, weights, url):
            self.weights, self.url = weights, url

        def send_weights(self):
            found.append((self.url, next(iter(self.weights._weights.values())).flatten()[0].item()))

        def shutdown(self):
            pass

    monkeypatch.setattr(
        server_weights.TransferWeights, "_meet", lambda weights, url, ranks: Trainer(weights, url)
    )
    return found


async def test_weights_that_are_transferred_go_to_each_server_and_one_that_comes_back_waits(
    fakes, engine_of, model, sent
):
    engine = engine_of(weights="nccl")
    await engine.load(model, 1)
    first = next(iter(model.state_dict().values())).flatten()[0].item()
    assert sorted(sent) == sorted((fake.url, first) for fake in fakes)
    assert [fake.done for fake in fakes] == [
        ["/pause", "/reset_prefix_cache", "/update_weight_version", "/resume"]
    ] * 2
    await fakes[0].stop()
    await until(lambda: not engine.servers[0].ready)
    fakes[0].label = "default"
    await fakes[0].start()
    await until(lambda: "waits for the next weights" in engine.servers[0].why)
    assert (await engine.generate([1, 2], SAMPLING)).version == 1
    await engine.load(model, 2)
    assert [server.ready for server in engine.servers] == [True, True]


async def test_a_transfer_that_hangs_is_given_up(fakes, engine_of, model, sent, monkeypatch):
    engine = engine_of([fakes[0].url], weights="nccl", load_s=0.2, start_s=0.5)
    monkeypatch.setattr(server_weights.TransferWeights, "_send", lambda weights, url, ranks: time.sleep(30))
    with pytest.raises(EngineError, match=r"nccl did not bring the weights to http://.*: TimeoutError"):
        await engine.load(model, 1)


async def test_a_server_without_the_transfer_is_refused(fakes, engine_of):
    with pytest.raises(EngineError, match=r"start it with --weight-transfer-config .*ipc"):
        await engine_of(weights="ipc").generate([1, 2], SAMPLING)


def test_the_config_wants_servers():
    engine = {"kind": "vllm-server"}
    with pytest.raises(ValueError, match=r"needs engine\.server\.urls"):
        Config.model_validate({"env": {"id": "quintain/Calculator-v0"}, "engine": engine})
    with pytest.raises(ValueError, match="names 1 GPUs for start = 2 servers"):
        ServerConfig(start=2, gpus=[0])
