"""Reward models as a verifier: several of them, batches, memory, steps."""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import pytest

from quintain.verifiers import RewardModel, Task
from quintain.verifiers.base import as_episode
from quintain.verifiers.registry import SpecError, from_spec, to_spec
from quintain.verifiers.reward_model import _Row, chunks

TASK = Task("t", "What is the capital of France?")


class Member:
    """A model whose logit is the number of tokens, times a factor; it counts what it is asked."""

    statistics = (0.0, 1.0)

    def __init__(self, factor: float, tokenizer: object) -> None:
        self.factor, self.tokenizer = factor, tokenizer
        self.asked: list[int] = []

    def ask(self, rows: Sequence[_Row]) -> list[list[float]]:
        self.asked.append(len(rows))
        return [[self.factor * (end + 1) for end in row.ends] for row in rows]


class Words:
    """A tokenizer of words."""

    chat_template = None
    pad_token_id = 0
    eos_token_id = None

    def __call__(self, text: str, **_: object) -> dict[str, list[int]]:
        return {"input_ids": [crc32(word.encode()) for word in text.split()]}


def judge(*factors: float, **options: object) -> RewardModel:
    """A reward model with members that need no weights."""
    made = RewardModel([f"m{n}" for n in range(len(factors))], **options)  # type: ignore[arg-type]
    made._loaded = [Member(factor, Words()) for factor in factors]  # type: ignore[misc]
    return made


def test_of_several_models_the_mean_less_k_deviations_counts() -> None:
    score = judge(0.1, 0.3, pessimism=2.0)("Paris", TASK)  # 7 words: 0.7 and 2.1
    sigma = statistics.stdev([0.7, 2.1])
    assert score.parts == {"logit": pytest.approx(1.4), "sigma": pytest.approx(sigma)}
    assert score.value < judge(0.1, 0.3)("Paris", TASK).value


def test_what_the_members_agree_on_costs_nothing() -> None:
    agreed = judge(0.2, 0.2, pessimism=9.0)("Paris", TASK)
    assert agreed.value == judge(0.2, 0.2)("Paris", TASK).value
    assert agreed.parts["sigma"] == 0.0


def test_what_was_asked_before_is_remembered_and_the_oldest_is_forgotten() -> None:
    made = judge(1.0, cache=2)
    (member,) = made._loaded
    episodes = [as_episode(text, TASK) for text in ("a", "b", "a")]
    first = made.score_batch(episodes)
    assert made.score_batch(episodes) == first
    assert member.asked == [2]  # type: ignore[attr-defined]
    made.score_batch([as_episode("c", TASK), as_episode("d", TASK)])
    made.score_batch(episodes[:1])
    assert member.asked == [2, 2, 1]  # type: ignore[attr-defined]


def test_batches_keep_to_rows_and_tokens_and_a_long_one_goes_alone() -> None:
    lengths = [3, 9, 3, 3, 50, 4]
    parts = chunks(range(6), 3, 12, lengths.__getitem__)
    assert [[lengths[place] for place in part] for part in parts] == [[3, 3, 3], [4], [9], [50]]


def test_steps_are_judged_each_and_their_least_last_or_mean_counts() -> None:
    episode = as_episode("one\ntwo words\nthree", TASK)
    found = {way: judge(1.0, steps=way)(episode).parts["logit"] for way in ("minimum", "last", "mean")}
    assert found == {"minimum": 7.0, "last": 10.0, "mean": pytest.approx((7 + 9 + 10) / 3)}
    assert judge(1.0, steps="mean").step_logits(episode) == [7.0, 9.0, 10.0]


def test_a_logit_that_is_no_number_is_ungraded() -> None:
    score = judge(float("nan"), 1.0)("Paris", TASK)
    assert not score.graded and score.reason == "the reward model gave nan, 7"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": []}, "name at least one model"),
        ({"model": "m", "pessimism": 1.0}, "pessimism 1 needs several models, got 'm' alone"),
        ({"model": "m", "steps": "max"}, "steps must be empty, minimum, last or mean, got 'max'"),
        ({"model": "m", "batch_tokens": 0}, "must be at least 1"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        from_spec({"id": "reward_model", **options})


def test_its_spec_holds_several_models() -> None:
    spec = {"id": "reward_model", "model": ["a", "b"], "pessimism": 0.5, "device": "cpu"}
    assert to_spec(from_spec(spec)) == spec


@pytest.mark.slow
def test_a_model_that_knows_the_scale_of_its_logits_is_brought_to_it(
    tiny_reward_model: Path, tmp_path: Path
) -> None:
    plain = RewardModel(str(tiny_reward_model), device="cpu")("Paris", TASK).parts["logit"]
    folder = tmp_path / "scaled"
    shutil.copytree(tiny_reward_model, folder)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "reward_statistics": [1.0, 2.0]}))
    scaled = RewardModel(str(folder), device="cpu")("Paris", TASK).parts["logit"]
    assert scaled == pytest.approx((plain - 1) / 2, abs=1e-5)
    raw = RewardModel(str(folder), device="cpu", normalize=False)("Paris", TASK).parts["logit"]
    assert raw == pytest.approx(plain, abs=1e-5)
    both = RewardModel([str(folder), str(tiny_reward_model)], device="cpu")("Paris", TASK)
    assert both.parts["logit"] == pytest.approx((scaled + plain) / 2, abs=1e-5)
