"""The config: what a file and options become, and what is said when they cannot be understood."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from quintain.rl.config import Config, EnvConfig, RlConfig, RolloutConfig, SftConfig, load_config
from quintain.tools.errors import UserError

ENV = '[env]\nid = "quintain/Calculator-v0"\n'
Load = Callable[..., Config]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(text: str, *overrides: str, name: str = "agent.toml") -> Config:
        path = tmp_path / name
        path.write_text(text)
        return load_config(path, list(overrides))

    return load


def test_defaults_come_from_an_environment_alone(load: Load) -> None:
    config = load(ENV)
    assert config == Config(name="agent", env=EnvConfig(id="quintain/Calculator-v0"))
    assert config.model.path == "tiny"
    assert config.sft is None and config.rl is None


def test_the_name_follows_the_file(load: Load) -> None:
    assert load(ENV, name="my agent (2).toml").name == "my-agent-2"
    assert load('name = "other"\n' + ENV).name == "other"


def test_an_empty_section_turns_its_phase_on(load: Load) -> None:
    config = load(ENV + "[sft]\n[rl]\n")
    assert config.sft == SftConfig() and config.rl == RlConfig()


@pytest.mark.parametrize(
    ("overrides", "place", "expected"),
    [
        (["--rl.lr", "1e-5"], "rl.lr", 1e-5),
        (["--rl.lr=1e-5"], "rl.lr", 1e-5),
        (["--rl.lr", "1"], "rl.lr", 1.0),
        (["--rl.stop-at", "0.9"], "rl.stop_at", 0.9),
        (["--rl.stop_at", "0.9", "--rl.stop_at", "none"], "rl.stop_at", None),
        (["--seed", "7"], "seed", 7),
        (["--run.tensorboard", "true"], "run.tensorboard", True),
        (["--name", "2024"], "name", "2024"),
        (["--run.dir", "2024"], "run.dir", Path("2024")),
        (["--run.dir", "~/runs"], "run.dir", Path("~/runs").expanduser()),
        (["--sft", "none"], "sft", None),
        (["--env.kwargs.split", "test"], "env.kwargs", {"split": "test"}),
        (["--env.kwargs.a.b", "[1, 2]"], "env.kwargs", {"a": {"b": [1, 2]}}),
        (["--env.kwargs", '{n = -1, s = "x"}'], "env.kwargs", {"n": -1, "s": "x"}),
        (["--env.kwargs.data", '"1.5"'], "env.kwargs", {"data": "1.5"}),
        (["--engine.vllm.max_model_len", "1024"], "engine.vllm.max_model_len", 1024),
    ],
)
def test_options_lay_over_the_file(load: Load, overrides: list[str], place: str, expected: object) -> None:
    value: object = load(ENV + "[rl]\n[sft]\n", *overrides)
    for key in place.split("."):
        value = getattr(value, key)
    assert value == expected
    assert type(value) is type(expected)


def test_held_out_kwargs_lay_over_kwargs(load: Load) -> None:
    config = load(ENV + 'kwargs = {steps = 3, split = "train"}\neval_kwargs = {split = "test"}\n')
    assert config.env.held_out_kwargs == {"steps": 3, "split": "test"}


@pytest.mark.parametrize(
    "text",
    [
        ENV,
        ENV + "[rl]\nlr = 1e-05\nstop_at = 0.97\n[sft]\noptimizer = 'adamw'\n",
        ENV + """kwargs = {rows = [{a = 1, b = 'x"'}], text = "zw\u00f6lf\\n"}\n""",
        'seed = 3\nthreads = 1\n[model]\npath = "some/model"\nchat_template = "t.jinja"\n' + ENV,
    ],
)
def test_to_toml_round_trips(load: Load, text: str) -> None:
    config = load(text)
    assert load(config.to_toml(), name="config.toml") == config
    assert "none" not in config.to_toml()


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        (ENV + "[rl]\nlrr = 1", [], "FILE: rl.lrr: no such key; did you mean rl.lr?"),
        (ENV, ["--rl.lrr", "1"], "--rl.lrr: no such key; did you mean rl.lr?"),
        ("lr = 1\n" + ENV, [], "FILE: lr: no such key; did you mean sft.lr or rl.lr or rl.critic.lr?"),
        (ENV + "[rll]\nlr = 1", [], "FILE: rll: no such section; did you mean rl?"),
        (ENV + "[engine.vlm]\n", [], "FILE: engine.vlm: no such section; did you mean engine.vllm?"),
        (
            ENV + "[eval]\nzzz = 1",
            [],
            "FILE: eval.zzz: no such key; there are problems, every, samples, greedy",
        ),
        (
            ENV + '[rl]\nlr = "1e-5"',
            [],
            "FILE: rl.lr: must be a number, got the text '1e-5'; meaning: The peak learning rate of AdamW",
        ),
        (ENV + "[rl]\ngroups = 1.5", [], "FILE: rl.groups: must be a whole number, got 1.5;"),
        (ENV + "[rl]\ngroups = true", [], "FILE: rl.groups: must be a whole number, got true;"),
        (ENV, ["--rl.groups", "0"], "--rl.groups: must be greater than or equal to 1, got 0;"),
        (ENV, ["--rl.clip_high", "inf"], "--rl.clip_high: must be a finite number, got inf;"),
        (ENV, ["--rl.advantage", "z"], "--rl.advantage: must be 'mean', 'mean_std', 'leave_one_out'"),
        (ENV, ["--model.device", "gpu"], "--model.device: must have another form, got the text 'gpu';"),
        (ENV + "rl = 1", [], "FILE: env.rl: no such key; did you mean env.id?"),
        ("rl = 1\n" + ENV, [], "FILE: rl: must be a section, got 1;"),
        ("", [], "FILE: env is missing: The environment that is learned"),
        ("[env]\n", [], "FILE: env.id is missing: A registered id"),
        ("a = ", [], "FILE is not valid TOML: Invalid value (at end of document)"),
        (ENV, ["--rl.lr"], "--rl.lr needs a value: --rl.lr VALUE"),
        (ENV, ["--rl.lr", "--seed", "1"], "--rl.lr needs a value"),
        (ENV, ["lr", "1"], "expected an option such as --rl.lr 1e-5, got 'lr'"),
        (ENV, ["--rl..lr", "1"], "expected an option such as --rl.lr 1e-5, got '--rl..lr'"),
        (ENV, ["--env.id.x", "1"], "--env.id.x cannot be set: env.id is the text 'quintain/"),
        (ENV + "kwargs = {day = 1979-05-27}", [], "FILE: env.kwargs: must be plain JSON data"),
        (ENV + "kwargs = {x = nan}", [], "FILE: env.kwargs: must be plain JSON data"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(
    load: Load, tmp_path: Path, text: str, overrides: list[str], message: str
) -> None:
    with pytest.raises(UserError) as error:
        load(text, *overrides)
    assert str(error.value).replace(str(tmp_path / "agent.toml"), "FILE").startswith(message)


def test_all_mistakes_are_told_at_once(load: Load) -> None:
    with pytest.raises(UserError) as error:
        load(ENV + "[rl]\nlrr = 1\nsteps = 0\n[eval]\nproblems = 'all'\n")
    assert len(str(error.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("overrides", "values"),
    [
        (["--rl.group_size=1"], "group_size must be at least 2 with advantage = 'mean', got 1"),
        (["--rl.warmup_steps=60"], "warmup_steps must be below steps, got 60 and 60"),
        (["--rl.minibatches=9", "--rl.groups=2", "--rl.group_size=4"], "got 9 for 2 groups x 4"),
        (["--rollout.turn_tokens=600"], "turn_tokens must not exceed episode_tokens, got 600 and 512"),
        (["--rollout.episode_tokens=600"], "must not exceed model.tiny.context, got 600 and 512"),
        (["--rl.micro_batch_tokens=500"], "an episode is never cut, got 500 and 512"),
        (["--model.tiny.heads=3"], "got width=128, heads=3"),
        (["--model.tiny.kv_heads=3"], "heads must be a multiple of kv_heads, got 4 and 3"),
        (["--engine.kind=vllm", "--engine.vllm.max_model_len=100"], "got 512 and 100"),
        (["--eval.greedy=false", "--eval.samples=0"], "evaluates nothing"),
    ],
)
def test_combinations_that_cannot_work_are_refused(load: Load, overrides: list[str], values: str) -> None:
    with pytest.raises(UserError, match=values.replace(".", r"\.")):
        load(ENV, *overrides)


def test_a_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "calculator_agent.toml").write_text(ENV)
    with pytest.raises(
        UserError, match=r"there is no config file .*; did you mean .*calculator_agent\.toml\?"
    ):
        load_config(tmp_path / "calculator_agnt.toml")


def test_a_folder_and_a_binary_file_are_told(tmp_path: Path) -> None:
    (tmp_path / "weights.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is a folder"):
        load_config(tmp_path)
    with pytest.raises(UserError, match="is not a text file"):
        load_config(tmp_path / "weights.toml")


def test_a_config_made_in_python_is_checked_and_frozen() -> None:
    with pytest.raises(ValidationError, match="turn_tokens must not exceed"):
        RolloutConfig(turn_tokens=10, episode_tokens=5)
    config = Config(env=EnvConfig(id="x"))
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 1  # type: ignore[misc]


def test_every_field_is_described() -> None:
    pending: list[type] = [Config]
    while pending:
        model = pending.pop()
        for name, field in model.model_fields.items():  # type: ignore[attr-defined]
            assert field.description and field.description.endswith("."), f"{model.__name__}.{name}"
            default = field.get_default() if not field.is_required() else None
            if hasattr(type(default), "model_fields"):
                pending.append(type(default))
