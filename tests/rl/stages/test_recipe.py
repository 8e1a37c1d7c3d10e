"""Recipes: what is resolved before anything runs, what is refused, and what happens when one is stopped."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from quintain.cli import main
from quintain.rl.stages.recipe import load_recipe, plan
from quintain.tools.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
ENV = 'env = { id = "quintain/Calculator-v0" }'
CHAIN = f"""
seed = 5
[model]
path = "start"
device = "cpu"

[[stage]]
kind = "sft"
data = {{ path = "rows.jsonl" }}

[[stage]]
kind = "pairs"
play = {{ {ENV}, groups = 3 }}

[[stage]]
kind = "reward-model"
data = {{ path = "{{pairs.pairs}}" }}

[[stage]]
kind = "rl"
seed = 9
rl = {{ steps = 3 }}
[stage.env]
id = "quintain/Calculator-v0"
verifier = {{ id = "gate", condition = {{ id = "environment" }}, reward = {{ id = "reward_model", model = "{{reward-model.model}}" }} }}
"""  # noqa: E501


@pytest.fixture
def chain(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "chain.toml"
    path.write_text(CHAIN)
    return path


@pytest.fixture
def ran(monkeypatch):
    """Put stages in place that leave what theirs would leave, and list those that were run with their `resume`."""
    found: list[tuple[str, bool]] = []
    hooks: dict[str, BaseException] = {}

    def run(stage, on_event, *, resume):
        found.append((stage.name, resume))
        (stage.folder / "metrics.jsonl").touch()
        if stage.name in hooks:
            raise hooks.pop(stage.name)
        stage.makes.write_text("made")
        return stage.makes

    monkeypatch.setattr("quintain.recipe_cli.run_planned", run)
    monkeypatch.setattr("quintain.commands.shared.hush_libraries", lambda: None)
    monkeypatch.setattr("quintain.commands.shared.check_libraries", lambda needs: None)
    run.found, run.hooks = found, hooks
    return run


@pytest.mark.parametrize("kind", ["constitutional", "dpo", "rlhf", "rlvr"])
def test_a_dry_run_prints_every_resolved_config_and_makes_nothing(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = ROOT / "examples" / "recipes" / f"{kind}.toml"
    assert main(["recipe", kind, str(path), "--dry-run", "--model.path", "smollm2"]) == 0
    configs = [tomllib.loads("# " + text) for text in capsys.readouterr().out.split("\n# ")]
    assert len(configs) == path.read_text().count("[[stage]]")
    assert configs[0]["model"]["path"] == "smollm2"
    assert all(Path(config["model"]["path"]).parts[-1] == "model" for config in configs[1:])
    assert list(tmp_path.iterdir()) == []


def test_a_stage_starts_from_the_newest_policy_and_a_reference_is_what_an_earlier_one_made(chain, tmp_path):
    sft, pairs, reward, rl = plan(load_recipe(chain), tmp_path / "r")
    assert (sft.config.model.path, sft.config.seed, sft.config.name) == ("start", 5, "sft")
    policy = str(tmp_path / "r" / "01-sft" / "model")
    assert [stage.config.model.path for stage in (pairs, reward, rl)] == [policy] * 3
    assert {stage.config.model.device for stage in (sft, pairs, reward, rl)} == {"cpu"}
    assert reward.config.data.path == tmp_path / "r" / "02-pairs" / "pairs.jsonl"
    assert rl.config.env.verifier["reward"]["model"] == str(tmp_path / "r" / "03-reward-model" / "model")
    assert rl.config.seed == 9


def test_options_change_the_stage_of_their_name_or_the_recipe(chain, tmp_path):
    options = [
        "--reward-model.optim.steps",
        "7",
        "--pairs.play.gap=0.25",
        "--model.path=other",
        "--threads=1",
    ]
    sft, pairs, reward, _ = plan(load_recipe(chain, options), tmp_path)
    assert (sft.config.model.path, sft.config.threads) == ("other", 1)
    assert (pairs.config.play.gap, reward.config.optim.steps) == (0.25, 7)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{pairs.pairs}", "{pear.pairs}", r"stage 3 \(reward-model\): {pear.pairs} names no earlier stage; did you"),
        ("{pairs.pairs}", "{rl.model}", r"{rl.model} names no earlier stage"),
        ("{pairs.pairs}", "{pairs.model}", r"the stage 'pairs' makes {pairs.pairs}, and has {pairs.run}"),
        ('kind = "sft"', 'kind = "stf"', "stage 1 has the kind 'stf'; did you mean 'sft'"),
        ('kind = "pairs"', 'kind = "sft"', "stages 1 and 2 have the name 'sft'"),
        ('kind = "pairs"', 'kind = "pairs"\nname = "a b"', "stage 2 has the name 'a b'"),
        ('kind = "pairs"', 'kind = "pairs"\nname = "model"', "cannot have the name 'model'"),
        ("groups = 3", "grups = 3", r"stage 2 \(pairs\): play.grups: no such key; did you mean play.groups"),
        ("seed = 9", 'optim = "x"', r"stage 4 \(rl\): optim: no such key"),
        ("quintain/Calculator-v0", "quintain/Calculator-v9", r"no environment 'quintain/Calculator-v9'; did you mean"),
        ("rl = { steps = 3 }", "", r"stage 4 \(rl\): nothing to train"),
        ("seed = 5", 'recipe = "dpo"', "recipe = 'dpo' has the stages dpo, got sft, pairs, reward-model, rl"),
        (CHAIN, "seed = 5", "a recipe is a list of stages"),
        (CHAIN, "stage = 5", "a recipe is a list of stages"),
    ],
)  # fmt: skip
def test_a_recipe_that_cannot_work_is_refused_before_anything_runs(old, new, message, chain, tmp_path):
    chain.write_text(CHAIN.replace(old, new))
    with pytest.raises(UserError, match=message):
        plan(load_recipe(chain), tmp_path / "r", "chain.toml")


def test_a_recipe_of_another_kind_than_was_asked_for_is_refused(chain):
    chain.write_text('recipe = "rlhf"\n' + CHAIN)
    with pytest.raises(UserError, match="is a recipe of the kind 'rlhf', not 'dpo'"):
        load_recipe(chain, kind="dpo")
    with pytest.raises(UserError, match="there is no recipe 'rlfh'; did you mean 'rlhf'"):
        load_recipe(chain, kind="rlfh")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "which recipe? name a file"),
        (["rlhf"], "which file? quintain recipe rlhf FILE.toml"),
        (["dpo", "b.toml"], "there is no config file b.toml"),
        (["dpo", "a.toml", "b.toml"], "expected quintain recipe [KIND] FILE.toml, got dpo a.toml b.toml"),
        (["chain.toml", "--pears.play.gap", "1"], "--pears: no such section"),
        (["chain.toml", "--resume", "r", "--run-dir", "s"], "leave --run-dir s out"),
    ],
)
def test_words_that_name_no_recipe_end_in_one_message(words, message, chain, capsys):
    assert main(["recipe", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_recipe_that_stopped_skips_what_is_through_and_resumes_what_was_begun(chain, ran, tmp_path, capsys):
    ran.hooks["pairs"] = KeyboardInterrupt()
    assert main(["recipe", str(chain), "--run-dir", "r"]) == 130
    assert (
        "stopped in stage 2 of 4 (pairs); resume with: quintain recipe --resume r" in capsys.readouterr().err
    )
    ran.hooks["reward-model"] = UserError("no row is left")
    assert main(["recipe", "--resume", "r"]) == 2
    told = capsys.readouterr().err
    assert "stage 1 of 4 (sft): through" in told
    assert "error: stage 3 of 4 (reward-model): no row is left" in told
    assert main(["recipe", "--resume", "r", str(chain)]) == 0
    assert ran.found == [
        ("sft", False), ("pairs", False), ("pairs", True),
        ("reward-model", False), ("reward-model", True), ("rl", False),
    ]  # fmt: skip
    assert capsys.readouterr().out.strip() == str(tmp_path / "r" / "04-rl" / "model")


def test_another_recipe_in_a_begun_folder_is_refused_with_what_differs(chain, ran, tmp_path, capsys):
    assert main(["recipe", str(chain), "--run-dir", "r"]) == 0
    assert main(["recipe", str(chain), "--run-dir", "r"]) == 2
    assert "a recipe never overwrites" in capsys.readouterr().err
    chain.write_text(CHAIN.replace("groups = 3", "groups = 4"))
    assert main(["recipe", str(chain), "--resume", "r", "--seed", "6"]) == 2
    told = capsys.readouterr().err
    assert "seed: 5 in the run, 6 now" in told and "stage.pairs.play.groups: 3 in the run, 4 now" in told
    config = tmp_path / "r" / "02-pairs" / "config.toml"
    config.write_text(config.read_text().replace("groups = 3", "groups = 5"))
    assert main(["recipe", "--resume", "r"]) == 2
    assert "play.groups: 5 in the run, 3 now" in capsys.readouterr().err
    assert main(["recipe", "--resume", "elsewhere"]) == 2
    assert "not a recipe's folder (there is no such folder)" in capsys.readouterr().err


def test_a_stage_that_was_killed_before_its_config_was_whole_begins_anew(chain, ran, tmp_path):
    assert main(["recipe", str(chain), "--run-dir", "r"]) == 0
    folder = tmp_path / "r" / "04-rl"
    for path in folder.iterdir():
        path.unlink()
    (folder / ".config.toml.1.tmp").write_text("seed = ")
    assert main(["recipe", "--resume", "r"]) == 0
    assert ran.found[-1] == ("rl", False)
    assert (folder / "config.toml").is_file() and not (folder / ".config.toml.1.tmp").exists()
