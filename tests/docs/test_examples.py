"""Every file in `examples` runs as its first lines say, and prints what it should."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from quintain.cli import main

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def rewards(printed: str) -> list[float]:
    return [float(found) for found in re.findall(r"reward (\d\.\d\d)", printed)]


def test_a_game() -> None:
    assert run("game.py") == "anywhere: 0.04\neastwards: 0.21\n"


@pytest.mark.slow
def test_a_tool_environment_is_played_and_found_sound() -> None:
    assert run("tool_environment.py") == (
        "Buy or sell hooks until there are as many as screws. Nothing else may change.\n"
        "9\n"
        "Error: there are no anvils here, only nails, screws, hinges, hooks, bolts\n"
        "True\n"
    )


def test_notes_and_the_hole_in_counting_words() -> None:
    assert run("notes.py").splitlines()[-1] == (
        "worth 0.0, counted 12: road road road road road road road road road road road road"
    )


def test_a_rule_and_a_judge() -> None:
    lines = run("judged_verifier.py").splitlines()
    assert [line[:12] for line in lines[::2]] == [
        "1.0 graded  ",
        "0.0 graded  ",
        "0.0 graded  ",
        "0.0 ungraded",
    ]
    assert lines[5].strip() == "gate closed: 13 words, at most 10"
    assert lines[7].strip() == "reward: Judge: server: it does not answer"


def test_programs_in_the_local_sandbox() -> None:
    lines = run("code_in_docker.py", "local").splitlines()
    assert [line.partition(" (")[0] for line in lines] == ["right: 1.0", "sloppy: 0.0", "sly: 0.0"]


@pytest.mark.slow
def test_an_endpoint_is_evaluated() -> None:
    assert run("evaluate_endpoint.py") == (
        "success 0.00 (95 %: 0.00 to 0.16), 20 episodes\nungraded 0.00, turns 3.0\n"
    )


@pytest.mark.slow
def test_the_flat_loop_learns() -> None:
    assert len((EXAMPLES / "flat_grpo.py").read_text(encoding="utf-8").splitlines()) <= 150
    found = rewards(run("flat_grpo.py"))
    assert found[0] < 0.2 and found[-1] > 0.9


@pytest.mark.slow
def test_an_agent_of_the_openai_sdk_learns_through_the_gateway() -> None:
    pytest.importorskip("openai")
    found = rewards(run("openai_agent.py"))
    assert found[0] < 0.15 and found[-1] > 2 * found[0]


@pytest.mark.slow
def test_trl_trains_on_an_environment_of_ours() -> None:
    printed = run("train_with_trl.py")
    assert len(rewards(printed)) == 2


@pytest.mark.parametrize("config", sorted(path.name for path in EXAMPLES.glob("*.toml")))
def test_a_config_for_training_is_understood(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    if not re.search(r"^\[env\]", (EXAMPLES / config).read_text(encoding="utf-8"), re.MULTILINE):
        pytest.skip("of another command")
    code = main(["train", str(EXAMPLES / config), "--dry-run"])
    assert code == 0, capsys.readouterr().err


@pytest.mark.slow
def test_a_student_is_distilled_from_the_agent_as_the_example_says(tmp_path, capsys) -> None:
    """Both runs cut short: what is checked is that the teacher's folder and tokens are the student's."""
    short = ["--sft.steps", "12", "--sft.episodes", "30", "--rl.steps", "1", "--rl.groups", "4"]
    short += ["--eval.problems", "4", "--model.device", "cpu"]
    agent, student = tmp_path / "agent", tmp_path / "student"
    teacher = ["--rl.teacher.path", str(agent / "checkpoints" / "step-000001")]
    for config, folder, more in (("agent", agent, []), ("distill", student, teacher)):
        words = ["train", str(EXAMPLES / f"calculator_{config}.toml"), "--run-dir", str(folder)]
        assert main([*words, *short, *more]) == 0, capsys.readouterr().err
    step = next(line for line in (student / "metrics.jsonl").read_text().splitlines() if '"rl"' in line)
    assert json.loads(step)["teacher_divergence"] > 0
