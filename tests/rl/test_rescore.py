"""Stored episodes are graded again by another verifier, and played again by the environment as it is now."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from quintain.cli import main
from quintain.envs import registry
from quintain.envs.base import TextEnv, Turn
from quintain.rl import prepare
from quintain.rl.config import load_config
from quintain.rl.replay import replay
from quintain.rl.rescore import judgeable
from quintain.rl.stored import open_run, stored_trajectories
from quintain.rl.train import train
from quintain.rl.trajectory import StopReason, Trajectory
from quintain.tools.errors import UserError
from quintain.verifiers.base import Episode, Score, Task, Verifier

TOML = """
name = "small"
threads = 1
[env]
id = "quintain-tests/Ledger-v0"
[run]
checkpoint_every = 1
[model]
device = "cpu"
tiny = { layers = 1, width = 32, heads = 4, kv_heads = 2, mlp = 32, vocabulary = 300, context = 256 }
[rollout]
turn_tokens = 40
episode_tokens = 256
[sft]
steps = 1
episodes = 6
tokens_per_step = 256
warmup_steps = 0
[eval]
problems = 3
every = 0
"""

RULES = {"right": 1.0, "greeting": "Write twice."}
"""What the environment does; a test changes it, as a person changes an environment between two runs."""


class Books(Verifier):
    """Pays for the sum that the environment itself has noted, which the conversation does not show."""

    def score(self, episode: Episode) -> Score:
        right = episode.evidence["noted"] == episode.task.answer and episode.reply.endswith("done")
        return Score(
            RULES["right"] if right else 0.0, {"books": float(right)}, reason=f"noted {episode.evidence}"
        )


class Ledger(TextEnv):
    """Two replies; notes the length of the first."""

    def __init__(self, **options):
        tasks = [Task(f"t{n}", f"Number {n}.", 3) for n in range(8)]
        super().__init__(tasks=tasks, verifier=Books(), max_turns=2, **options)
        self.demonstrator = lambda task, messages, rng: "one" if len(messages) < 3 else "it is done"

    def begin(self, task):
        self.noted = None
        return f"{task.prompt} {RULES['greeting']}"

    def respond(self, reply):
        if self.noted is None:
            self.noted = len(reply.content)
            return "And?"
        return Turn(done=True)

    def evidence(self):
        return {"noted": self.noted}


registry.register("quintain-tests/Ledger-v0", Ledger)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of which only the demonstrations and the evaluations are of interest."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "config.toml").write_text(TOML)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "CORPUS_EPISODES", 5)
        train(load_config(folder / "config.toml"), folder)
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def rules(monkeypatch):
    return lambda name, value: monkeypatch.setitem(RULES, name, value)


def demonstrations(run: Path) -> list[Trajectory]:
    return [t for _, t in stored_trajectories(run, "sft")]


def test_a_stored_trajectory_keeps_what_the_verifier_saw(run: Path):
    assert [t.info for t in demonstrations(run)] == [{"evidence": {"noted": 3}}] * 6
    assert {t.success for t in demonstrations(run)} == {True}


def test_the_same_verifier_changes_nothing(run: Path, capsys):
    assert main(["rescore", str(run)]) == 0
    rows = [json.loads(line) for line in (run / "rescored" / "environment.jsonl").read_text().splitlines()]
    assert [r["id"] for r in rows if r["file"] == "sft-000000.jsonl"] == [f"sft-{n}" for n in range(6)]
    assert {(r["changed"], r["before"] == r["after"]) for r in rows} == {(False, True)}
    assert "changed" in (shown := capsys.readouterr().out) and "0: 0 better, 0 worse" in shown


def test_a_verifier_that_was_put_right_shows_what_changes(run: Path, rules, capsys):
    before = {p: p.read_bytes() for p in (run / "trajectories").iterdir()}
    rules("right", 0.5)
    assert main(["rescore", str(run), "--kind", "sft", "--show", "2"]) == 0
    shown = capsys.readouterr().out
    assert "6: 0 better, 6 worse" in shown and "... and 4 more (--show 6 for all)" in shown
    assert {p: p.read_bytes() for p in (run / "trajectories").iterdir()} == before


def test_another_verifier_by_its_spec(run: Path, tmp_path: Path, capsys):
    out = tmp_path / "scores.jsonl"
    spec = '{"verifier": "math"}'
    code = main(["rescore", str(run), "--kind", "sft", "-v", "math", "--out", str(out)])
    assert code in (0, 1), spec
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 6 and all(row["before"]["value"] == 1.0 for row in rows)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["rescore", "nowhere"], "is not a run (there is no such folder)"),
        (["rescore", "RUN", "-v", "maths"], "--verifier: "),
        (["rescore", "RUN", "--kind", "all"], "--kind must be one of rl, eval, sft, got 'all'"),
        (["rescore", "RUN", "--kind", "rl"], "there is nothing to score (it has no trajectories)"),
        (["replay", "RUN", "sft-99"], "has no trajectory 'sft-99'; did you mean 'sft-"),
        (["replay", "nowhere", "sft-0"], "has no trajectory"),
    ],
)
def test_what_cannot_be_had_is_said_in_one_message(run: Path, words, told: str, capsys):
    assert main([str(run) if word == "RUN" else word for word in words]) == 2
    assert told in " ".join(capsys.readouterr().err.split())


def test_a_run_without_checkpoint_is_named(run: Path):
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(UserError, match="has no checkpoint, so its tokenizer is not known"):
        open_run(run)


def test_a_replay_is_the_same(run: Path, capsys):
    assert main(["replay", str(run), "sft-2"]) == 0
    assert capsys.readouterr().out == "sft-2: the same, 2 turns, score 1\n"


async def test_every_stored_episode_replays_alike(run: Path):
    opened = open_run(run)
    for _, trajectory in stored_trajectories(run):
        assert (await replay(opened, trajectory)).differences == (), trajectory.id


def test_a_replay_shows_what_a_change_to_the_environment_does(run: Path, rules, capsys):
    rules("right", 0.25)
    rules("greeting", "Write two replies.")
    assert main(["replay", str(run), "sft-2"]) == 1
    shown = capsys.readouterr().out
    assert "opening" in shown and "turn 2: reward" in shown and "score" in shown
    assert shown.endswith("sft-2: 3 differences\n")


def test_a_task_that_has_changed_is_named(run: Path):
    opened = open_run(run)
    opened.env.tasks = opened.env.tasks.take(1)
    with pytest.raises(
        UserError, match=r"was about the task 't\d', but quintain-tests/Ledger-v0 has no task at"
    ):
        for trajectory in demonstrations(run):
            opened.task_of(trajectory)


def test_only_what_a_verifier_has_judged_is_judged_again(trajectory):
    import dataclasses

    one = trajectory([1, 2], ".x")
    assert judgeable(one)
    assert not judgeable(dataclasses.replace(one, stop=StopReason.TURN_TOKENS))
    assert not judgeable(dataclasses.replace(one, stop=StopReason.ERROR, info={"kind": "engine"}))
    assert judgeable(dataclasses.replace(one, stop=StopReason.ERROR, info={"kind": "verifier"}))
