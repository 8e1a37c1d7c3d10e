"""The embedded engine samples from the model it was given, whatever runs beside and whatever is cached."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from quintain.rl.engines.base import Completion, EngineError, FinishReason, Sampling
from quintain.rl.engines.transformers import TransformersEngine

END = 2  # <|im_end|>
PROMPT = [(7 * n) % 250 + 40 for n in range(40)]
NEVER = ()  # no stop ids: completions have the length asked for


@contextmanager
def counted(model) -> Iterator[list[int]]:
    """Collect how many tokens each forward pass of the network runs."""
    passes: list[int] = []
    hook = model.base_model.register_forward_pre_hook(
        lambda _module, _args, kwargs: passes.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    yield passes
    hook.remove()


def logprobs_of(model, ids: list[int], start: int, temperature: float = 1.0) -> list[float]:
    """The model's own log-probabilities of ids[start:], in one plain forward pass."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0].float()
    table = torch.log_softmax(logits / temperature, -1)
    return [table[t - 1, ids[t]].item() for t in range(start, len(ids))]


def sampling(tokens: int, seed: int = 1, temperature: float = 1.0, stop: tuple[int, ...] = NEVER) -> Sampling:
    return Sampling(max_tokens=tokens, stop_ids=stop, temperature=temperature, seed=seed)


async def three_turns(engine: TransformersEngine, session: str | None) -> tuple[list[int], list[Completion]]:
    """A prompt, then few new tokens, then a stretch that is prefilled."""
    ids, completions = list(PROMPT), []
    for turn, extra in enumerate([[], [50, 51, 52], list(range(60, 95))]):
        ids += extra
        completion = await engine.generate(ids, sampling(8, seed=turn), session=session)
        ids += completion.ids
        completions.append(completion)
    return ids, completions


@pytest.mark.parametrize("temperature", [1.0, 0.7])
async def test_logprobs_are_those_of_the_scaled_softmax(model, temperature: float):
    engine = TransformersEngine(model)
    found = await engine.generate(PROMPT, sampling(20, temperature=temperature))
    expected = logprobs_of(model, PROMPT + list(found.ids), len(PROMPT), temperature)
    assert list(found.logprobs) == pytest.approx(expected, abs=1e-4)


async def test_logprobs_of_a_session_over_three_turns_are_the_models_own(model):
    ids, completions = await three_turns(TransformersEngine(model), "s")
    ends = [48, 59, 102]
    for completion, end in zip(completions, ends, strict=True):
        assert list(completion.logprobs) == pytest.approx(logprobs_of(model, ids[:end], end - 8), abs=1e-4)


async def test_a_kept_cache_changes_nothing_but_the_work(model):
    with counted(model) as kept:
        with_cache, one = await three_turns(TransformersEngine(model), "s")
    with counted(model) as fresh:
        without, two = await three_turns(TransformersEngine(model), None)
    assert with_cache == without
    for a, b in zip(one, two, strict=True):
        assert list(a.logprobs) == pytest.approx(list(b.logprobs), abs=1e-5)
    # Turns of 40, 51 and 94 tokens of which each sampling step runs the last. The sample that ended a turn has not
    # run: a continued session runs it with the new ones, 1 + 3 and 1 + 35.
    assert sum(kept) == (40 + 7) + (1 + 3 + 7) + (1 + 35 + 7)
    assert sum(fresh) == (40 + 7) + (51 + 7) + (94 + 7)


async def test_short_answers_of_many_sessions_run_in_one_pass(model):
    """Twelve sessions go on with nine new tokens each, the last sample among them: 96 of them or more run together."""
    engine = TransformersEngine(model)
    ids = [[*PROMPT, 60 + n] for n in range(12)]
    first = await asyncio.gather(
        *(engine.generate(ids[n], sampling(4, seed=n), session=f"{n}") for n in range(12))
    )
    for n, completion in enumerate(first):
        ids[n] += [*completion.ids, *range(70 + n, 78 + n)]
    with counted(model) as passes:
        second = await asyncio.gather(
            *(engine.generate(ids[n], sampling(3, seed=n), session=f"{n}") for n in range(12))
        )
    assert passes == [12 * 8, 12, 12, 12]
    for n, completion in enumerate(second):
        expected = logprobs_of(model, ids[n] + list(completion.ids), len(ids[n]))
        assert list(completion.logprobs) == pytest.approx(expected, abs=1e-4)


async def test_a_session_that_turns_off_its_path_keeps_what_is_common(model):
    engine = TransformersEngine(model)
    first = await engine.generate(PROMPT, sampling(8), session="s")
    other = [*PROMPT[:30], 99, 98, 97]
    with counted(model) as passes:
        second = await engine.generate(other, sampling(8), session="s")
    assert sum(passes) == 3 + 7
    assert list(second.logprobs) == pytest.approx(logprobs_of(model, other + list(second.ids), 33), abs=1e-4)
    assert len(first.ids) == 8


async def test_the_same_seed_draws_the_same_tokens_whoever_is_beside(model):
    alone = await TransformersEngine(model).generate(PROMPT, sampling(24, seed=5))
    engine = TransformersEngine(model)
    found, *_ = await asyncio.gather(
        engine.generate(PROMPT, sampling(24, seed=5)),
        *(engine.generate(PROMPT[: 3 + 5 * n], sampling(4 + n, seed=100 + n)) for n in range(7)),
    )
    assert found.ids == alone.ids
    assert list(found.logprobs) == pytest.approx(list(alone.logprobs), abs=1e-5)


async def test_other_seeds_draw_other_tokens(model):
    engine = TransformersEngine(model)
    found = [(await engine.generate(PROMPT, sampling(12, seed=seed))).ids for seed in (1, 2, 3)]
    assert len({tuple(ids) for ids in found}) == 3


@pytest.mark.parametrize("length", [3, 40])
async def test_greedy_is_generate_without_sampling(model, length: int):
    found = await TransformersEngine(model).generate(
        PROMPT[:length], sampling(30, temperature=0.0, stop=(END,))
    )
    expected = model.generate(
        input_ids=torch.tensor([PROMPT[:length]]),
        attention_mask=torch.ones(1, length, dtype=torch.long),
        do_sample=False,
        max_new_tokens=30,
        eos_token_id=END,
        pad_token_id=0,
    )[0, length:]
    assert list(found.ids) == expected.tolist()


async def test_greedy_logprobs_are_those_of_temperature_one(model):
    found = await TransformersEngine(model).generate(PROMPT, sampling(6, temperature=0.0))
    expected = logprobs_of(model, PROMPT + list(found.ids), len(PROMPT))
    assert list(found.logprobs) == pytest.approx(expected, abs=1e-4)


async def test_samples_are_distributed_as_the_softmax_says(model):
    engine = TransformersEngine(model)
    found = await asyncio.gather(
        *(engine.generate([40, 41, 42], sampling(1, seed=seed, temperature=0.5)) for seed in range(2000))
    )
    with torch.no_grad():
        share = torch.softmax(model(input_ids=torch.tensor([[40, 41, 42]])).logits[0, -1] / 0.5, -1)
    counts = torch.bincount(torch.tensor([c.ids[0] for c in found]), minlength=len(share)) / 2000
    top = share.topk(5).indices
    # Four standard errors of a proportion.
    assert ((counts - share).abs()[top] < 4 * (share * (1 - share) / 2000).sqrt()[top]).all()


async def test_the_stop_token_ends_a_completion_and_belongs_to_it(model):
    free = await TransformersEngine(model).generate(PROMPT, sampling(12, temperature=0.0))
    stop = free.ids[4]
    found = await TransformersEngine(model).generate(PROMPT, sampling(12, temperature=0.0, stop=(stop,)))
    assert found.ids == free.ids[: free.ids.index(stop) + 1]
    assert (found.finish, free.finish) == (FinishReason.STOP, FinishReason.LENGTH)


async def test_a_group_runs_its_prompt_once(model):
    engine = TransformersEngine(model)
    with counted(model) as passes:
        await asyncio.gather(
            *(engine.generate(PROMPT, sampling(1, seed=n), session=f"member {n}") for n in range(4))
        )
    assert passes == [39, 4]  # all but the last token once, then the last token of each


async def test_members_that_shared_a_prompt_go_their_own_ways(model):
    engine = TransformersEngine(model)
    found = await asyncio.gather(
        *(engine.generate(PROMPT, sampling(9, seed=n), session=f"member {n}") for n in range(4))
    )
    assert len({tuple(c.ids) for c in found}) == 4
    for completion in found:
        expected = logprobs_of(model, PROMPT + list(completion.ids), len(PROMPT))
        assert list(completion.logprobs) == pytest.approx(expected, abs=1e-4)


async def test_a_member_that_comes_after_the_others_shares_their_prompt_too(model):
    """Its row is new, and nothing has to run before the prompt is copied into it."""
    engine = TransformersEngine(model)
    first = await engine.generate(PROMPT, sampling(4, seed=1), session="first")
    late = await asyncio.gather(
        *(engine.generate(PROMPT, sampling(4, seed=seed), session=f"late {seed}") for seed in (1, 2, 3))
    )
    assert list(late[0].ids) == list(first.ids)
    for completion in late:
        expected = logprobs_of(model, PROMPT + list(completion.ids), len(PROMPT))
        assert list(completion.logprobs) == pytest.approx(expected, abs=1e-4)
    for session in ("first", "late 1", "late 2", "late 3"):
        engine.release(session)


async def test_more_sessions_than_rows_wait_and_finish(model):
    expected = [
        (await TransformersEngine(model).generate(PROMPT[: 5 + n], sampling(6, seed=n))).ids for n in range(7)
    ]
    engine = TransformersEngine(model, max_sessions=2)

    async def one(n: int) -> Completion:
        completion = await engine.generate(PROMPT[: 5 + n], sampling(6, seed=n), session=str(n))
        engine.release(str(n))
        return completion

    found = await asyncio.wait_for(asyncio.gather(*map(one, range(7))), timeout=20)
    assert [c.ids for c in found] == expected


async def test_a_cancelled_request_leaves_its_place_to_others(model):
    engine = TransformersEngine(model, max_sessions=1)
    running = asyncio.create_task(engine.generate(PROMPT, sampling(400), session="a"))
    waiting = asyncio.create_task(engine.generate(PROMPT, sampling(400), session="b"))
    for _ in range(5):
        await asyncio.sleep(0)
    for task in (running, waiting):
        task.cancel()
    await asyncio.gather(running, waiting, return_exceptions=True)
    engine.release("a")
    engine.release("b")
    found = await asyncio.wait_for(engine.generate(PROMPT, sampling(4), session="c"), timeout=20)
    assert list(found.logprobs) == pytest.approx(logprobs_of(model, PROMPT + list(found.ids), 40), abs=1e-4)


async def test_the_others_keep_their_caches_when_a_session_goes(model):
    engine = TransformersEngine(model)
    prompts = {"a": PROMPT[:33], "b": PROMPT[2:38], "c": PROMPT[5:]}
    first = await asyncio.gather(*(engine.generate(p, sampling(6), session=s) for s, p in prompts.items()))
    ids = {s: prompts[s] + list(c.ids) + [70, 71] for s, c in zip(prompts, first, strict=True)}
    engine.release("a")
    with counted(model) as passes:
        second = await asyncio.gather(*(engine.generate(ids[s], sampling(5), session=s) for s in "bc"))
    assert sum(passes) == 2 * (1 + 2 + 4)  # the last sample, the two new ones, four of five samples
    for session, completion in zip("bc", second, strict=True):
        expected = logprobs_of(model, ids[session] + list(completion.ids), len(ids[session]))
        assert list(completion.logprobs) == pytest.approx(expected, abs=1e-4)


async def test_a_prompt_that_fills_the_context_is_refused(make_model):
    engine = TransformersEngine(make_model(context=16))
    with pytest.raises(ValueError, match="the prompt has 16 tokens, the model's context is 16"):
        await engine.generate(PROMPT[:16], sampling(1))
    with pytest.raises(ValueError, match="nothing to complete"):
        await engine.generate([], sampling(1))


async def test_a_completion_ends_where_the_context_does(make_model):
    found = await TransformersEngine(make_model(context=16)).generate(PROMPT[:10], sampling(50))
    assert (len(found.ids), found.finish) == (6, FinishReason.LENGTH)


async def test_new_weights_are_used_from_the_next_request_on(model, make_model):
    engine = TransformersEngine(model)
    first = await engine.generate(PROMPT, sampling(6), session="s")
    other = make_model(seed=9)
    await engine.load(other, 3)
    ids = PROMPT + list(first.ids) + [70]
    second = await engine.generate(ids, sampling(6), session="s")
    assert (first.version, second.version) == (0, 3)
    expected = logprobs_of(other, ids + list(second.ids), len(ids))
    assert list(second.logprobs) == pytest.approx(expected, abs=1e-4)


async def test_weights_do_not_change_under_a_running_completion(model):
    engine = TransformersEngine(model)
    task = asyncio.create_task(engine.generate(PROMPT, sampling(100)))
    for _ in range(3):
        await asyncio.sleep(0)
    with pytest.raises(EngineError, match="while no completion is being sampled"):
        await engine.load(model, 1)
    assert len((await task).ids) == 100


async def test_a_failure_of_the_model_goes_to_those_it_hit_and_the_engine_lives_on(model):
    engine = TransformersEngine(model)

    def fail(*_: object) -> None:
        raise RuntimeError("no memory left")

    hook = model.base_model.register_forward_pre_hook(fail)
    results = await asyncio.gather(
        *(engine.generate(PROMPT, sampling(3), session=str(n)) for n in range(2)), return_exceptions=True
    )
    assert [str(error) for error in results] == [
        "the transformers engine failed: RuntimeError: no memory left"
    ] * 2
    assert all(isinstance(error, EngineError) for error in results)
    hook.remove()
    found = await engine.generate(PROMPT, sampling(3), session="0")
    assert list(found.logprobs) == pytest.approx(logprobs_of(model, PROMPT + list(found.ids), 40), abs=1e-4)


def test_sliding_windows_are_refused():
    from transformers import MistralConfig, MistralForCausalLM

    shape = MistralConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        sliding_window=8,
    )
    with torch.random.fork_rng():
        model = MistralForCausalLM(shape)
    with pytest.raises(EngineError, match=r"full attention only.*use --engine vllm"):
        TransformersEngine(model)


def test_sampling_outside_its_ranges_is_refused():
    with pytest.raises(ValueError, match="max_tokens must be at least 1, got 0"):
        sampling(0)
    with pytest.raises(ValueError, match="temperature must be finite and not negative, got -1"):
        sampling(1, temperature=-1)
