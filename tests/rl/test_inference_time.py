"""Choosing among samples: best of n, votes, rejection sampling, and the command that does it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quintain.rl.inference_time import answers_of, best_of, choose, majority, rejection, weighted_vote
from quintain.rl.trajectory import StopReason, Trajectory, Turn
from quintain.tools.errors import UserError
from quintain.verifiers.base import Score

LOST = Score.ungraded("the server was down")


def scores(*values: float | None) -> list[Score]:
    return [LOST if value is None else Score(value) for value in values]


def said(text: str, value: float = 0.0, stop: StopReason = StopReason.TERMINATED) -> Trajectory:
    """An episode whose last message is `text`."""
    return Trajectory(
        id=text,
        task_id="t",
        group=0,
        ids=[1],
        mask=[True],
        logprobs=[0.0],
        versions=[0],
        turns=[Turn(0, 1, value)],
        messages=[{"role": "user", "content": "?"}, {"role": "assistant", "content": text}],
        score=Score(value),
        stop=stop,
    )


def test_best_of_n_takes_the_highest_and_of_equal_ones_the_first() -> None:
    assert best_of(scores(0.2, 0.9, 0.9)).best == 1


def test_an_ungraded_sample_is_left_out_and_counted() -> None:
    choice = best_of(scores(None, 0.0))
    assert (choice.best, choice.ungraded, choice.samples) == (1, 1, 2)
    nothing = best_of(scores(None, None))
    assert (nothing.best, nothing.ungraded) == (None, 2)


def test_a_majority_counts_answers_and_a_tie_goes_to_the_first_sampled() -> None:
    choice = majority(["7", "8", None, "8"])
    assert (choice.best, choice.silent, choice.votes) == (1, 1, (("8", 2.0), ("7", 1.0)))
    assert majority(["9", "8"]).best == 0
    assert majority([None, None]).best is None


def test_a_weighted_vote_adds_scores_and_shows_the_best_sample_of_the_winner() -> None:
    choice = weighted_vote(["7", "8", "8", "7"], scores(0.9, 0.5, 0.6, None))
    assert (choice.best, choice.ungraded) == (2, 1)
    assert choice.votes[0] == ("8", pytest.approx(1.1))


def test_a_weighted_vote_does_not_depend_on_the_order_of_rounding() -> None:
    assert weighted_vote(["a", "b", "a", "b"], scores(0.1, 0.2, 0.2, 0.1)).best == 2  # equal sums: first wins


def test_rejection_keeps_what_reaches_the_threshold_best_first() -> None:
    choice = rejection(scores(0.7, 1.0, None, 0.8, 0.2), threshold=0.7)
    assert (choice.chosen, choice.ungraded) == ((1, 3, 0), 1)
    assert rejection(scores(0.7, 1.0, 0.8), threshold=0.7, keep=1).chosen == (1,)
    assert rejection(scores(0.2), threshold=0.7).chosen == ()
    with pytest.raises(ValueError, match="so must the threshold, got 2"):
        rejection(scores(1.0), threshold=2)


def test_equal_answers_are_one_answer() -> None:
    assert answers_of(["It is 1,300.", "1300.0", "no idea"], "number") == ["1300", "1300", None]
    halves = answers_of(["\\boxed{\\frac{1}{2}}", "The answer is 0.5", "\\boxed{2}"], "math")
    assert halves == ["\\frac{1}{2}", "\\frac{1}{2}", "2"]
    assert answers_of([" Paris\n", "paris", ""], "text") == ["paris", "paris", None]


def test_thinking_and_replies_that_were_cut_are_no_answers() -> None:
    samples = [said("<think>5</think>7"), said("7"), said("5", stop=StopReason.TURN_TOKENS), said("5")]
    choice = choose(samples, "majority")
    assert (choice.best, choice.votes, choice.silent) == (0, (("7", 2.0), ("5", 1.0)), 1)


def test_scores_of_another_verifier_decide_where_they_are_given() -> None:
    samples = [said("7", 1.0), said("8", 0.0)]
    assert choose(samples, "best_of").best == 0
    assert choose(samples, "best_of", scores=scores(0.1, 0.4)).best == 1
    with pytest.raises(UserError, match="must be one of best_of, majority, weighted, rejection, got 'first'"):
        choose(samples, "first")  # type: ignore[arg-type]


@pytest.fixture
def model_folder(tmp_path: Path, make_model, tokenizer) -> Path:
    folder = tmp_path / "model"
    make_model().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_the_command_samples_chooses_and_goes_on(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from quintain.cli import main

    out = tmp_path / "picked"
    command = [
        "sample",
        "quintain/Calculator-v0",
        "max_turns=1",
        "--model",
        str(model_folder),
        "--out",
        str(out),
    ]
    sizes = ["--tasks", "2", "--n", "3", "--turn-tokens", "4", "--episode-tokens", "200", "--device", "cpu"]
    assert main([*command, *sizes]) == 0
    rows = (out / "samples.jsonl").read_text().splitlines()
    summary = json.loads((out / "summary.json").read_text())
    assert [json.loads(row)["group"] for row in rows].count(0) == 3
    assert (summary["samples"], summary["chosen"], summary["tasks_without_choice"]) == (6, 2, 0)
    first = sorted(rows)

    (out / "samples.jsonl").write_text("".join(row + "\n" for row in rows[:2]) + rows[2][:30])  # killed
    assert main([*command, *sizes, "--method", "rejection", "--threshold", "0"]) == 0
    again = (out / "samples.jsonl").read_text().splitlines()
    untimed = [
        json.dumps({k: v for k, v in json.loads(row).items() if k != "timing"}) for row in sorted(again)
    ]
    assert untimed == [
        json.dumps({k: v for k, v in json.loads(row).items() if k != "timing"}) for row in first
    ]
    assert len((out / "chosen.jsonl").read_text().splitlines()) == 6

    assert main([*command, *sizes, "--temperature", "0.5"]) == 2
    assert "temperature 1.0 (now 0.5); name another folder with --out" in capsys.readouterr().err
