"""Two ranks with sharded weights take the steps that one process takes: same losses, same weights, to 1e-5."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from quintain.rl.config import load_config
from quintain.rl.many import check
from quintain.rl.metrics import read_metrics
from quintain.rl.ranks import shares, take_launch
from quintain.tools.errors import UserError

PROGRAM = Path(__file__).with_name("ranks_program.py")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
CASES = [
    "token", "sequence", "group_too_big", "one_episode", "untied", "ppo", "ppo_shared", "resume", "lora",
    "teacher", "teacher_alone",
]  # fmt: skip


def start(*command: object) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; torchrun picks a free port by itself."""
    outside = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}
    environment = {k: v for k, v in os.environ.items() if k not in outside} | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=600, env=environment
    )


def lengths(trajectory, *groups: tuple[int, ...]):
    """Trajectories of so many tokens each, group by group."""
    return [
        trajectory(range(1, n + 1), "." * (n - 1) + "x", group=group)
        for group, members in enumerate(groups)
        for n in members
    ]


def test_shares_have_about_as_many_tokens_and_keep_groups_whole(trajectory):
    batch = lengths(trajectory, (9, 9), (4, 4), (6, 6), (5, 5))
    assert shares(batch, 2) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_a_group_that_is_more_than_a_share_is_split(trajectory):
    assert shares(lengths(trajectory, (9, 5, 4)), 2) == [[0], [1, 2]]


def test_every_episode_is_in_one_share_and_a_rank_may_have_none(trajectory):
    batch = lengths(trajectory, (9,), (4,))
    assert sorted(index for share in shares(batch, 3) for index in share) == [0, 1]
    assert [] in shares(batch, 3)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folders of one process and of two ranks, each with the result of every case."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    for launcher, folder in (([sys.executable], one), (TORCHRUN, two)):
        ended = start(*launcher, PROGRAM, folder)
        assert ended.returncode == 0, ended.stderr[-4000:]
    return one, two


def both(found: tuple[Path, Path], case: str) -> list[dict]:
    return [torch.load(folder / f"{case}.pt", weights_only=True) for folder in found]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_ranks_are_one_learner(found, case):
    """Denominators are global, whatever rank an episode falls to; a rank without any still takes part."""
    one, two = both(found, case)
    assert one["raised"] is two["raised"] is None
    assert len(one["metrics"]) == len(two["metrics"]) >= 2
    assert any(step["grad_norm"] > 0 for step in one["metrics"])
    for mine, theirs in zip(one["metrics"], two["metrics"], strict=True):
        assert theirs == pytest.approx(mine, abs=1e-5)
    assert one["weights"].keys() == two["weights"].keys()
    for name, weight in one["weights"].items():
        torch.testing.assert_close(two["weights"][name], weight, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_shards_of_half_precision_weights_are_their_own_float32_masters(found):
    one, two = both(found, "half")
    for mine, theirs in zip(one["metrics"], two["metrics"], strict=True):
        assert theirs == pytest.approx(mine, abs=1e-4)
    for name, weight in two["weights"].items():
        assert weight.dtype == torch.float32
        # One process publishes its masters rounded.
        torch.testing.assert_close(weight.bfloat16(), one["weights"][name], rtol=2**-7, atol=1e-5)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_on_one_rank_stops_all_before_any_weight_moves(found):
    one, two = both(found, "nonfinite")
    assert one["raised"] == two["raised"] == "the loss is nan in RL step 1"
    for name, weight in one["weights"].items():
        assert torch.equal(weight, two["weights"][name])


# --- whole runs

RUN = """
seed = 3
threads = 1
[run]
checkpoint_every = 1
[env]
id = "quintain/Calculator-v0"
kwargs = { max_turns = 2 }
[model]
device = "cpu"
tiny = { layers = 1, width = 32, mlp = 32, vocabulary = 300, context = 256 }
[rollout]
turn_tokens = 8
episode_tokens = 256
[sft]
steps = 3
episodes = 6
tokens_per_step = 256
warmup_steps = 0
[rl]
algorithm = "ppo"
steps = 2
groups = 4
group_size = 2
[eval]
problems = 2
every = 0
"""


def numbers(folder: Path) -> list[dict[str, float]]:
    """The metrics that do not depend on the clock."""
    return [
        {k: v for k, v in r.metrics.items() if not k.endswith("_s") and k != "memory_mb"}
        for r in read_metrics(folder / "metrics.jsonl")
    ]


@pytest.mark.slow
def test_a_run_of_two_ranks_is_the_run_of_one_and_resumes_exactly(tmp_path: Path):
    config, one, two = tmp_path / "run.toml", tmp_path / "one", tmp_path / "two"
    config.write_text(RUN)
    for launcher, folder in (([sys.executable], one), (TORCHRUN, two)):
        ended = start(*launcher, "-m", "quintain", "train", config, "--run-dir", folder)
        assert ended.returncode == 0, ended.stderr[-4000:]
    assert ended.stdout.count("eval  after SFT") == 1  # rank 0 alone speaks
    assert len(numbers(one)) == len(numbers(two))
    for mine, theirs in zip(numbers(one), numbers(two), strict=True):
        assert theirs == pytest.approx(mine, abs=1e-5)

    resumed = tmp_path / "resumed"
    shutil.copytree(two, resumed)
    shutil.rmtree(resumed / "checkpoints" / "step-000002")
    ended = start(*TORCHRUN, "-m", "quintain", "train", "--resume", resumed)
    assert ended.returncode == 0, ended.stderr[-4000:]
    assert numbers(resumed) == numbers(two)
    last = Path("checkpoints", "step-000002", "model.safetensors")
    assert (resumed / last).read_bytes() == (two / last).read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rl", "none"], "torchrun shares the work of"),
        (["--engine.kind", "vllm"], "'vllm' does not go with torchrun"),
        (
            ["--model.device", "cuda:1"],
            "model.device is 'cuda:1', but each rank of torchrun has a device of its own",
        ),
        (
            ["--rl.teacher.path", "x", "--rl.teacher.device", "cuda:1"],
            "rl.teacher.device is 'cuda:1', but each rank",
        ),
    ],
)
def test_what_several_ranks_cannot_do_is_refused_before_anything_is_loaded(tmp_path, options, message):
    path = tmp_path / "run.toml"
    path.write_text(RUN)
    with pytest.raises(UserError, match=message):
        check(load_config(path, options))


def test_servers_of_vllm_go_with_several_ranks(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(RUN)
    check(load_config(path, ["--engine.kind", "vllm-server", "--engine.server.start", "1"]))


def test_what_torchrun_says_is_taken_out_of_the_environment(monkeypatch):
    """A library that finds it would wait for ranks that do not call it."""
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "localhost")):
        monkeypatch.setenv(name, value)
    launch = take_launch()
    assert launch is not None
    assert launch.rank == launch.place == 1
    assert "RANK" not in os.environ
    assert take_launch() is None
    with launch.told():
        assert os.environ["WORLD_SIZE"] == "2"
    assert "WORLD_SIZE" not in os.environ
