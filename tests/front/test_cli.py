"""The command line: what it makes of options, and the one message that a mistake ends in."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quintain.cli import main, take_overrides
from quintain.rl.config import Config, load_config
from quintain.rl.metrics import Event
from quintain.tools.errors import UserError

CONFIG = """
[env]
id = "quintain/Calculator-v0"
[rl]
steps = 3
"""
Train = Callable[..., None]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "agent.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Callable[[Train], None]:
    """Return a function that puts another `train` in place, so that nothing heavy is loaded."""

    def put(train: Train) -> None:
        fake: Any = types.ModuleType("quintain.rl.train")
        fake.train = train
        monkeypatch.setitem(sys.modules, "quintain.rl.train", fake)
        monkeypatch.setattr("quintain.commands.train.hush_libraries", lambda: None)
        monkeypatch.setattr("quintain.commands.train._check_libraries", lambda config: None)

    return put


def works(config: Config, run_dir: Path, on_event: Callable[[Event], None], *, resume: bool = False) -> None:
    """Leave what a run leaves."""
    on_event(Event("rl", 3, 3, {"reward": 1.0}))
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.write('{"phase":"eval","step":0,"time_s":1,"success_greedy":0.4,"problems":50}\n')
        file.write('{"phase":"rl","step":3,"time_s":2,"reward":1.0}\n')
        file.write('{"phase":"eval","step":3,"time_s":3,"success_greedy":0.9,"problems":50}\n')


def test_dotted_options_go_to_the_config_and_the_rest_to_the_command() -> None:
    arguments = ["train", "--rl.lr", "1e-5", "a.toml", "--seed", "3", "--env.kwargs.x=-1", "--sft", "none"]
    assert take_overrides(arguments) == (
        ["train", "a.toml", "--seed", "3"],
        ["--rl.lr", "1e-5", "--env.kwargs.x=-1", "--sft", "none"],
    )
    assert take_overrides(["report", "--a.b", "1"]) == (["report", "--a.b", "1"], [])


def test_a_dry_run_prints_the_resolved_config(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--seed", "5", "--engine", "vllm", "--rl.lr", "1e-5", "--threads", "1", "--name", "other"]
    assert main(["train", str(config), *options, "--dry-run"]) == 0
    printed = config.with_name("printed.toml")
    printed.write_text(capsys.readouterr().out)
    resolved = load_config(printed)
    assert (resolved.seed, resolved.engine.kind, resolved.threads, resolved.name) == (5, "vllm", 1, "other")
    assert resolved.rl is not None and resolved.rl.lr == 1e-5
    assert not config.with_name("runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "which run? name a config file: quintain train CONFIG.toml, or --resume RUN"),
        (["train", "agnt.toml"], "there is no config file agnt.toml; did you mean agent.toml?"),
        (["train", "agent.toml", "--rl.lrr", "1"], "--rl.lrr: no such key; did you mean rl.lr?"),
        (["train", "agent.toml", "--rl.lr", "fast"], "--rl.lr: must be a number, got the text 'fast'"),
        (["train", "agent.toml", "--rl.lr"], "--rl.lr needs a value"),
        (
            ["train", "agent.toml", "--engine", "vlm"],
            "--engine.kind: must be 'transformers', 'vllm', 'vllm-server' or 'openai'",
        ),
        (["train", "agent.toml", "--seed", "-1"], "--seed: must be greater than or equal to 0, got -1"),
        (["train", "agent.toml", "--rl", "none"], "agent.toml: nothing to train: add a section [sft], [rl]"),
        (
            ["train", "agent.toml", "--env.id", "quintain/Calculatr-v0"],
            "env.id: there is no environment 'quintain/Calculatr-v0'; did you mean 'quintain/Calculator-v0'?",
        ),
        (["train", "--resume", "runs/x"], "--resume runs/x: not a run (there is no such folder)"),
        (["train", "--resume", "."], "--resume .: not a run (it has no config.toml)"),
        (["train", "--resume", "x", "--run-dir", "y"], "--resume x continues in that folder"),
        (["train", "agent.toml", "--run-dir", "."], "--run-dir . is not empty and a run never overwrites"),
        (["train", "agent.toml", "--run.dir", "agent.toml"], "run.dir = agent.toml is a file, not a folder"),
        (["view", "nowhere"], "there is no folder nowhere; name the folder that `quintain train` has made"),
        (["view", "."], ". holds no run: neither config.toml nor metrics.jsonl nor trajectories is in it"),
        (["report", "nowhere"], "there is no folder nowhere; name the folder that a run has made"),
        (["report", "."], ". holds no run: neither config.toml nor metrics.jsonl is there"),
        (["play", "quintain/Nothing-v0"], "there is no environment 'quintain/Nothing-v0'"),
        (["play", "quintain/Calculator-v0", "split"], "expected an option of the environment such as split="),
        (["train", "agent.toml", "--sed", "3"], "No such option: --sed"),
        (["trian", "agent.toml"], "No such command 'trian'"),
    ],
)
def test_a_mistake_ends_in_one_message_and_code_2(
    config: Path,
    trainer: Callable[[Train], None],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    trainer(works)
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told
    assert not config.with_name("runs").exists()


def test_a_run_gets_a_new_folder_each_time(
    config: Path, trainer: Callable[[Train], None], capsys: pytest.CaptureFixture[str]
) -> None:
    trainer(works)
    assert main(["train", "agent.toml", "--seed", "4"]) == 0
    assert main(["train", "agent.toml", "--seed", "4"]) == 0
    runs = sorted(path.name for path in Path("runs").iterdir())
    assert runs == ["agent-seed4-1", "agent-seed4-2"]
    assert load_config(Path("runs/agent-seed4-1/config.toml")).seed == 4
    assert Path("runs/agent-seed4-1/report.html").is_file()
    out = capsys.readouterr().out
    assert "40.0 %" in out and "90.0 %" in out
    assert "run     runs/agent-seed4-2\nreport  runs/agent-seed4-2/report.html\n" in out


def test_run_dir_names_the_folder_itself(config: Path, trainer: Callable[[Train], None]) -> None:
    trainer(works)
    assert main(["train", "agent.toml", "--run-dir", "here/it/is"]) == 0
    assert Path("here/it/is/report.html").is_file()
    assert not Path("runs").exists()


def test_ctrl_c_leaves_a_run_and_says_how_to_go_on(
    config: Path, trainer: Callable[[Train], None], capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*arguments: Any, **options: Any) -> None:
        works(*arguments, **options)
        raise KeyboardInterrupt

    trainer(stopped)
    assert main(["train", "agent.toml"]) == 130
    assert "resume with: quintain train --resume runs/agent-seed0-1" in capsys.readouterr().err
    assert Path("runs/agent-seed0-1/report.html").is_file()


def test_resume_goes_on_in_the_folder_with_its_config(config: Path, trainer: Callable[[Train], None]) -> None:
    calls: list[tuple[Config, Path, bool]] = []

    def train(config: Config, run_dir: Path, on_event: object, *, resume: bool = False) -> None:
        calls.append((config, run_dir, resume))
        (run_dir / "metrics.jsonl").write_text('{"phase":"rl","step":3,"time_s":2,"reward":1.0}\n')

    trainer(train)
    run = Path("runs/agent-seed0-1")
    assert main(["train", "agent.toml", "--rl.lr", "1e-5"]) == 0
    assert main(["train", "--resume", str(run)]) == 0
    assert main(["train", "agent.toml", "--rl.lr", "1e-5", "--resume", str(run)]) == 0
    assert [(folder, resume) for _, folder, resume in calls] == [(run, False), (run, True), (run, True)]
    assert calls[0][0] == calls[1][0] == calls[2][0]


def test_resume_refuses_another_config(
    config: Path, trainer: Callable[[Train], None], capsys: pytest.CaptureFixture[str]
) -> None:
    trainer(works)
    assert main(["train", "agent.toml"]) == 0
    for arguments in (["--rl.lr", "1e-5"], ["agent.toml", "--rl.lr=1e-5"], ["--seed", "1"]):
        capsys.readouterr()
        assert main(["train", *arguments, "--resume", "runs/agent-seed0-1"]) == 2
        told = capsys.readouterr().err
        assert "continues with the config it began with, but you ask for another" in told
        assert "rl.lr: 0.0005 in the run, 1e-05 now" in told or "seed: 0 in the run, 1 now" in told


def test_a_run_that_fails_at_once_leaves_no_folder(
    config: Path, trainer: Callable[[Train], None], capsys: pytest.CaptureFixture[str]
) -> None:
    def train(config: Config, run_dir: Path, on_event: object, *, resume: bool = False) -> None:
        (run_dir / "metrics.jsonl").touch()
        raise UserError("the model folder has no tokenizer")

    trainer(train)
    assert main(["train", "agent.toml"]) == 2
    assert capsys.readouterr().err == "error: the model folder has no tokenizer\n"
    assert list(Path("runs").iterdir()) == []


def test_a_full_disk_is_told_and_keeps_what_is_there(
    config: Path, trainer: Callable[[Train], None], capsys: pytest.CaptureFixture[str]
) -> None:
    def train(*arguments: Any, **options: Any) -> None:
        works(*arguments, **options)
        raise OSError(errno.ENOSPC, "No space left on device", "/runs/checkpoint")

    trainer(train)
    assert main(["train", "agent.toml"]) == 2
    assert "the disk is full: /runs/checkpoint; free some space" in capsys.readouterr().err
    assert Path("runs/agent-seed0-1/metrics.jsonl").is_file()


def test_a_disk_that_is_full_from_the_start_leaves_no_folder(
    config: Path,
    trainer: Callable[[Train], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(path: Path, *_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    trainer(works)
    monkeypatch.setattr("quintain.run_folder.write_atomically", full)
    assert main(["train", "agent.toml"]) == 2
    assert "the disk is full: runs/agent-seed0-1/config.toml" in capsys.readouterr().err
    assert list(Path("runs").iterdir()) == []


def test_a_run_that_must_not_go_on_says_why(
    config: Path,
    trainer: Callable[[Train], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learner: Any = types.ModuleType("quintain.rl.learner")
    learner.NonFiniteError = type("NonFiniteError", (RuntimeError,), {})
    monkeypatch.setitem(sys.modules, "quintain.rl.learner", learner)

    def train(*arguments: Any, **options: Any) -> None:
        works(*arguments, **options)
        raise learner.NonFiniteError("the loss of step 3 is nan")

    trainer(train)
    assert main(["train", "agent.toml"]) == 2
    run = "runs/agent-seed0-1"
    assert capsys.readouterr().err == (
        f"what the run has written is in {run}\nerror: the loss of step 3 is nan\n"
    )
    assert Path(run, "report.html").is_file()


def test_a_mistake_of_ours_keeps_its_traceback(config: Path, trainer: Callable[[Train], None]) -> None:
    def train(*arguments: Any, **options: Any) -> None:
        raise ZeroDivisionError("ours")

    trainer(train)
    with pytest.raises(ZeroDivisionError):
        main(["train", "agent.toml"])


def test_a_traceback_can_be_asked_for(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUINTAIN_TRACEBACK", "1")
    with pytest.raises(UserError):
        main(["train", "nope.toml"])


def test_commands_that_list(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["envs"]) == 0
    assert "quintain/Calculator-v0" in capsys.readouterr().out
    assert main(["options"]) == 0
    assert "--rl.group_size" in capsys.readouterr().out
    assert main(["version"]) == 0
    assert capsys.readouterr().out.startswith("quintain 0.")


@pytest.mark.parametrize(
    "command", ["train", "play", "envs", "new", "options", "report", "version", "doctor", "verify"]
)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"Usage: quintain {command}" in capsys.readouterr().out


def test_the_sandbox_commands_are_mounted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sandbox", "--help"]) == 0
    assert {"check", "run", "shell"} <= set(capsys.readouterr().out.split())


def test_report_builds_the_page_again(
    make_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_run(rl_steps=5)
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder}/report.html\n"


def test_a_shell_completes_commands() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "quintain"],
        env={
            **os.environ,
            "_QUINTAIN_COMPLETE": "complete_bash",
            "COMP_WORDS": "quintain tr",
            "COMP_CWORD": "1",
        },
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["train"]
