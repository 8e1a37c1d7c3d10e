"""What preferences of a file are like, and verdicts of verifiers and judges on pairs."""

from __future__ import annotations

import math

import pytest

from quintain.rl.stages.preference import Preference
from quintain.rl.stages.preference_report import describe, distinct
from quintain.rl.stages.sources import by_judge, by_score
from quintain.verifiers.base import Score, Verifier
from quintain.verifiers.judge import Judge


def pair(asked: str, chosen: str, rejected: str, **more) -> Preference:
    return Preference(
        ({"role": "user", "content": asked},),
        ({"role": "assistant", "content": chosen},),
        ({"role": "assistant", "content": rejected},),
        **more,
    )


def test_repeated_contradicting_and_cyclic_rows_are_counted():
    rows = [
        pair("q", "a", "b"), pair("q", "a", "b"), pair("q", "b", "a"),  # decided thrice: 2 of 3 comparisons differ
        pair("q", "b", "c"), pair("q", "c", "a"),  # with a above b: a circle
        pair("p", "long answer", "short"), pair("p", "x", "y", strength=5),
    ]  # fmt: skip
    found = describe(rows)
    assert (found["pairs"], found["prompts"], found["ties"], found["repeated"]) == (7, 2, 1, 1)
    assert (found["decided_again"], found["contradicted"], found["triples"], found["cycles"]) == (1, 1, 1, 1)
    assert found["longer_chosen"] == 1.0 and found["by_strength"] == {"5": 1}
    assert found["label_noise"] == 0.5  # two labels that differ this often are a coin
    assert distinct(rows) == [rows[0], *rows[2:]]


def test_label_noise_is_the_error_rate_that_explains_the_differences():
    rows = [pair(f"q{n}", "a", "b") for n in range(100)] + [
        pair(f"q{n}", *(("b", "a") if n < 18 else ("a", "b"))) for n in range(100)
    ]
    p = describe(rows)["label_noise"]
    assert math.isclose(2 * p * (1 - p), 0.18, abs_tol=1e-9) and p == pytest.approx(0.1)


class Length(Verifier):
    """Longer is better; the empty word of a broken one cannot be judged."""

    def score(self, episode):
        if "broken" in episode.reply:
            raise RuntimeError("no connection")
        assert episode.messages[-1]["content"] == episode.reply
        return Score(0.5, {"logit": float(len(episode.reply))})


async def test_a_verifier_that_scores_answers_decides_and_what_it_cannot_judge_is_counted():
    rows = [pair("q", "aa", "bbbb"), pair("q", "cc", "d"), pair("q", "ee", "ff"), pair("q", "broken", "g")]
    found = await by_score(rows, Length(), source="reward_model:length")
    assert [(p.chosen[0]["content"], p.margin, p.tie) for p in found.preferences] == [
        ("bbbb", 2.0, False), ("cc", 1.0, False), ("ee", 0.0, True)
    ]  # fmt: skip
    assert [place for place, _ in found.ungraded] == [3] and "no connection" in found.ungraded[0][1]
    assert found.agreed == 1


class Says:
    """A judge's model that prefers a word, or always the first place."""

    def __init__(self, word: str) -> None:
        self.word = word

    async def complete(self, messages):
        content = messages[1]["content"]
        mark = content.split("<submission-A-")[1][:12]
        if self.word == "first":
            return f"VERDICT {mark}: A"
        if self.word == "nonsense":
            return "I like both."
        return f"VERDICT {mark}: {'A' if content.index(self.word) < content.index('<submission-B') else 'B'}"


async def test_a_judge_sees_both_orders():
    rows = [pair("q", "plain", "good")]
    sure = await by_judge(rows, Judge(Says("good"), kind="pairwise"))
    assert sure.preferences[0].chosen[0]["content"] == "good" and sure.changed == 0
    biased = await by_judge(rows, Judge(Says("first"), kind="pairwise"))
    assert biased.preferences[0].tie and biased.changed == 1
    lost = await by_judge(rows, Judge(Says("nonsense"), kind="pairwise"))
    assert lost.preferences == [] and "unreadable" in lost.ungraded[0][1]
