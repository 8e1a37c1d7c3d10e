"""README and docs/training.md are true: programs run and print what is shown, commands parse, links lead somewhere."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from quintain.cli import main
from quintain.rl.config import Config
from quintain.rl.config_file import build
from quintain.rl.evals.suite import Suite
from quintain.sandboxes import SandboxUnavailable

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    "README.md",
    "docs/start.md",
    "docs/concepts.md",
    "docs/howto.md",
    "docs/training.md",
    "docs/rollouts.md",
    "docs/metrics.md",
    "docs/evaluation.md",
    "docs/comparison.md",
    "docs/migration.md",
)
PROGRAM = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", re.DOTALL | re.MULTILINE)
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    """Return every line of a shell block, and every inline piece, that is a whole `quintain` command."""
    found = []
    for page in (*PAGES, "examples/gsm8k_smollm2.toml"):
        text = (ROOT / page).read_text(encoding="utf-8")
        lines = [
            line
            for block in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
            for line in block.splitlines()
        ]
        lines += re.findall(r"`(quintain [^`]+)`", text)
        lines += re.findall(r"^# +(quintain .+)$", text, re.MULTILINE)
        found += [line.removeprefix(".venv/bin/") for line in lines]
    return list(dict.fromkeys(line for line in found if line.startswith("quintain ")))


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=pytest.mark.slow) if page == "docs/start.md" else page for page in PAGES],
)  # that page audits an environment twice
def test_the_programs_of_a_page_print_what_is_shown(
    page: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They run in their order, and a later one knows the names of those before it."""
    monkeypatch.chdir(ROOT)
    names = {"__name__": "page"}
    for program, shown in PROGRAM.findall((ROOT / page).read_text(encoding="utf-8")):
        try:
            exec(compile(program, page, "exec"), names)
        except SandboxUnavailable as missing:
            pytest.skip(str(missing))
        assert capsys.readouterr().out == shown, program


def test_the_first_program_is_short() -> None:
    assert count(PROGRAM.findall(README)[0][0]) <= 10


@pytest.mark.parametrize(
    ("kind", "limit"), [("SingleTurnEnv", 10), ("ToolEnv", 15), ("TextEnv", 25)], ids=lambda value: str(value)
)
def test_an_environment_is_short(kind: str, limit: int) -> None:
    place = ["SingleTurnEnv", "ToolEnv", "TextEnv"].index(kind) + 1
    program = PROGRAM.findall(README)[place][0]
    used = {node.id for node in ast.walk(ast.parse(program)) if isinstance(node, ast.Name)}
    assert kind in used
    assert count(program) <= limit


def count(program: str) -> int:
    return len([line for line in program.splitlines() if line.strip()])


@pytest.mark.parametrize("command", commands())
def test_a_command_parses(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = shlex.split(command)[1:]
    elsewhere = {"CONFIG.toml", "train.toml"}  # files that a reader has
    if words[0] == "train" and words[1:] and not elsewhere.intersection(words):
        monkeypatch.chdir(ROOT)
        if "--resume" in words:
            place = words.index("--resume") + 1
            config = Config.model_validate(
                {"env": {"id": "quintain/Calculator-v0"}, "rl": {"steps": 1, "groups": 1}}
            )
            (tmp_path / "config.toml").write_text(config.to_toml())
            words[place] = str(tmp_path)
        assert main([*words, "--dry-run"]) == 0, capsys.readouterr().err
        return
    # With --help nothing runs, and an unknown command or option is still an error.
    assert main([*words, "--help"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    "command", ["nonsense somewhere", "play quintain/Calculator-v0 --sed 3", "verify a -w math"]
)
def test_a_command_that_does_not_exist_is_noticed(command: str) -> None:
    assert main([*command.split(), "--help"]) == 2


@pytest.mark.parametrize(
    "page",
    [
        *PAGES,
        "docs/index.md",
        "docs/environments.md",
        "docs/tools.md",
        "docs/verifiers.md",
        "CONTRIBUTING.md",
    ],
)
def test_links_lead_to_files(page: str) -> None:
    place = ROOT / page
    links = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", place.read_text(encoding="utf-8"))
    missing = [link for link in links if not (place.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("page", ["training", "howto", "metrics", "migration"])
def test_the_named_options_of_the_config_exist(page: str) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    for section, name in re.findall(r"`(?:--)?(run|model|rollout|sft|rl|eval|engine)\.([a-z_]+)", text):
        fields = Config.model_fields[section].annotation
        kinds = [kind for kind in (fields, *getattr(fields, "__args__", ())) if hasattr(kind, "model_fields")]
        assert any(name in kind.model_fields for kind in kinds), f"{section}.{name}"


def test_the_metrics_that_are_explained_are_those_of_training() -> None:
    defined = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| (.*?) \|", (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    named = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}
    assert len(named) > 20
    assert {name for name in named if f"`{name}`" not in defined} == set()


def test_the_suite_on_the_page_on_evaluation_is_one() -> None:
    page = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    [suite] = re.findall(r"^```toml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    built = build(Suite, tomllib.loads(suite), [], source="the page")
    assert [env.label for env in built.env] == ["Countdown-v0", "gsm8k"]


def test_the_example_of_an_own_environment_runs() -> None:
    # In a process of its own: it registers an environment.
    script = str(ROOT / "examples" / "own_environment.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "Sort: 5 0 2 -> 0 2 5: 1.00, 3 of 3 in their place\nSort: 5 0 2 -> 1 2: 0.33, 1 of 3 in their place\n"
    )


@pytest.mark.slow
def test_the_example_of_an_own_environment_trains(tmp_path: Path) -> None:
    run = tmp_path / "run"
    script = str(ROOT / "examples" / "own_environment.py")
    done = subprocess.run([sys.executable, script, str(run)], capture_output=True, text=True, check=True)
    assert "rl 10 " in done.stdout
    assert (run / "checkpoints").is_dir()


def test_the_page_on_training_names_every_metric() -> None:
    pytest.importorskip("torch")
    from quintain.rl.batch_metrics import batch_metrics

    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    missing = [name for name in batch_metrics([]) if f"`{name}`" not in text]
    assert missing == []


def test_the_names_in_the_table_of_floors_exist() -> None:
    rows = re.findall(r"^\| `(quintain[.a-z]*)` \|[^|]*\| (.*) \|$", README, re.MULTILINE)
    assert len(rows) == 6
    for module, names in rows:
        for name in re.findall(r"`(\w+)`", names):
            homes = (importlib.import_module("quintain"), importlib.import_module(module))
            assert any(hasattr(home, name) for home in homes), f"{module}.{name}"
