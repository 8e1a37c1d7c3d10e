"""A whole run, very small: what it writes, that it can be resumed exactly, and when it stops."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from quintain.envs import registry
from quintain.envs.library.calculator import Calculator
from quintain.rl import prepare
from quintain.rl.checkpoint import best_step, checkpoints, save_checkpoint
from quintain.rl.config import Config, ModelConfig
from quintain.rl.credit import Credit
from quintain.rl.credit_file import read_credit
from quintain.rl.learner import Learner, NonFiniteError
from quintain.rl.metrics import read_metrics
from quintain.rl.models import load_model
from quintain.rl.train import UngradedError, train
from quintain.rl.trajectory import Trajectory
from quintain.tools.errors import UserError
from quintain.viewer.tokens import newest_tokenizer, read_vocabulary

TINY = {"layers": 1, "width": 32, "heads": 4, "kv_heads": 2, "mlp": 32, "vocabulary": 300, "context": 256}
FILES = [
    "eval-after-000002.jsonl",
    "eval-after-SFT-000000.jsonl",
    "rl-000001.jsonl",
    "rl-000002.jsonl",
    "sft-000000.jsonl",
]


class Failing(Calculator):
    """Breaks at the start of every episode of a rollout, which names its task (the tokenizer's corpus does not)."""

    def reset(self, *, seed=None, options=None):
        if options:
            raise RuntimeError("no such device")
        return super().reset(seed=seed)


registry.register("quintain-tests/Failing-v0", Failing)


def config(env: str = "quintain/Calculator-v0", **sections: object) -> Config:
    """A run of three SFT steps and two RL steps."""
    return Config.model_validate(
        {
            "name": "small",
            "threads": 1,
            "env": {"id": env, "kwargs": {"max_turns": 2}},
            "run": {"checkpoint_every": 1, "keep_checkpoints": 5},
            "model": {"device": "cpu", "tiny": TINY},
            "rollout": {"turn_tokens": 6, "episode_tokens": 256},
            "sft": {"steps": 3, "episodes": 6, "tokens_per_step": 256, "warmup_steps": 0},
            "rl": {"steps": 2, "groups": 2, "group_size": 2, "entropy": {"coef": 0.01}, "kl": {"coef": 0.01}},
            "eval": {"problems": 4, "every": 0},
            **sections,
        }
    )


@contextlib.contextmanager
def a_corpus_of_ten_episodes() -> Iterator[None]:
    """Train the tokenizer on less, to save two thirds of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "CORPUS_EPISODES", 10)
        yield


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    with a_corpus_of_ten_episodes():
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("finished")
    with a_corpus_of_ten_episodes():
        train(config(), folder)
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(checkpoints(folder)[-1].path).state_dict()


def numbers(folder: Path) -> list[tuple[object, ...]]:
    """The metrics that do not depend on the clock."""
    return [
        (
            r.phase,
            r.step,
            r.message,
            {k: v for k, v in r.metrics.items() if not k.endswith("_s") and k != "memory_mb"},
        )
        for r in read_metrics(folder / "metrics.jsonl")
    ]


@pytest.mark.parametrize("place", ["", "checkpoints/best"])
def test_who_names_a_run_as_a_model_is_told_of_its_checkpoint(finished: Path, place: str):
    wanted = finished / "checkpoints" / f"step-{best_step(finished):06d}"
    with pytest.raises(UserError, match=rf"the best checkpoint of that run is {wanted}$"):
        load_model(ModelConfig(path=str(finished / place)), seed=0)


def test_a_run_writes_metrics_trajectories_and_checkpoints(finished: Path):
    records = read_metrics(finished / "metrics.jsonl")
    assert [(r.phase, r.step) for r in records] == [
        ("sft", 1), ("sft", 2), ("sft", 3), ("eval", 0), ("rl", 1), ("rl", 2), ("eval", 2)
    ]  # fmt: skip
    assert {"reward", "success", "loss", "kl", "entropy", "grad_norm", "ungraded"} <= set(records[4].metrics)
    assert records[3].metrics["problems"] == 4
    assert sorted(p.name for p in (finished / "trajectories").iterdir()) == FILES
    assert [c.step for c in checkpoints(finished)] == [0, 1, 2]


def test_what_each_token_was_given_is_kept_beside_the_trajectories(finished: Path):
    for line in (finished / "trajectories" / "rl-000001.jsonl").read_text().splitlines():
        trajectory = Trajectory.from_json(line)
        given = read_credit(finished, "rl-000001", trajectory)
        assert given is not None and len(given.advantages) == trajectory.sampled_tokens
        assert given.logprobs is None  # the ratio is to the sampler here


def test_the_viewer_reads_tokens_as_the_tokenizer_does(finished: Path):
    from transformers import AutoTokenizer

    path = newest_tokenizer(finished)
    vocabulary = read_vocabulary(path)
    tokenizer = AutoTokenizer.from_pretrained(path.parent)
    for line in (finished / "trajectories" / "rl-000002.jsonl").read_text().splitlines():
        ids = Trajectory.from_json(line).ids
        assert "".join(vocabulary.pieces(ids)) == tokenizer.decode(ids)


def test_the_trajectories_of_a_step_are_its_groups(finished: Path):
    lines = (finished / "trajectories" / "rl-000001.jsonl").read_text().splitlines()
    batch = [Trajectory.from_json(line) for line in lines]
    assert [(t.id, t.group) for t in batch] == [
        ("rl-1-0-0", 0),
        ("rl-1-0-1", 0),
        ("rl-1-1-0", 1),
        ("rl-1-1-1", 1),
    ]
    assert batch[0].task_id == batch[1].task_id != batch[2].task_id == batch[3].task_id
    assert {v for t in batch for v in t.versions} == {-1, 0}
    later = (finished / "trajectories" / "rl-000002.jsonl").read_text().splitlines()
    assert {v for line in later for v in Trajectory.from_json(line).versions} == {-1, 1}


def test_a_checkpoint_loads_anywhere(finished: Path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = checkpoints(finished)[-1].path
    model, tokenizer = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Ann has 3 pens."}], tokenize=False, add_generation_prompt=True
    )
    assert text == "<|im_start|>user\nAnn has 3 pens.<|im_end|>\n<|im_start|>assistant\n"
    ids = tokenizer.encode(text, add_special_tokens=False)
    line = (finished / "trajectories" / "rl-000001.jsonl").read_text().splitlines()[0]
    assert tokenizer.decode(json.loads(line)["ids"]).startswith("<|im_start|>system\ntool calculator(")
    assert model(input_ids=torch.tensor([ids])).logits.shape == (1, len(ids), len(tokenizer))


def test_a_resumed_run_ends_with_the_same_weights(finished: Path, tmp_path: Path):
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    shutil.rmtree(folder / "checkpoints" / "step-000002")
    train(config(), folder, resume=True)
    resumed, whole = weights(folder), weights(finished)
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    assert numbers(folder) == numbers(finished)


def test_groups_that_agree_are_replaced_and_only_the_others_are_learned_from(tmp_path: Path):
    """An untrained model earns nothing: all groups agree, both rounds are used, and the step keeps them."""
    options = {"steps": 1, "groups": 2, "group_size": 2, "resample_rounds": 2}
    train(config(sft=None, rl=options), tmp_path)
    lines = (tmp_path / "trajectories" / "rl-000001.jsonl").read_text().splitlines()
    batch = [Trajectory.from_json(line) for line in lines]
    assert [t.group for t in batch] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert len({t.task_id for t in batch}) == 6
    assert read_metrics(tmp_path / "metrics.jsonl")[-2].metrics["zero_variance"] == 1.0


def test_a_curriculum_chooses_the_tasks_and_is_resumed(tmp_path: Path):
    chosen = config(rl={"steps": 2, "groups": 2, "group_size": 2, "curriculum": {"bucket": "tag"}})
    whole, folder = tmp_path / "whole", tmp_path / "resumed"
    whole.mkdir()
    train(chosen, whole)
    assert read_metrics(whole / "metrics.jsonl")[-2].metrics["curriculum/seen"] >= 1
    shutil.copytree(whole, folder)
    shutil.rmtree(folder / "checkpoints" / "step-000002")
    train(chosen, folder, resume=True)
    assert numbers(folder) == numbers(whole)


@pytest.mark.parametrize("over", ["sampled", "vocabulary"])
def test_a_student_of_the_run_s_model_learns_from_it_alone_and_is_resumed(finished: Path, tmp_path, over):
    """No reward counts: an episode needs no group, and the tokenizer is the teacher's, since the seed is."""
    said = {"path": str(checkpoints(finished)[-1].path), "reward_coef": 0.0, "over": over}
    chosen = config(sft=None, rl={"steps": 2, "groups": 4, "group_size": 1, "teacher": said})
    whole, folder = tmp_path / "whole", tmp_path / "resumed"
    whole.mkdir()
    train(chosen, whole)
    steps = [r.metrics for r in read_metrics(whole / "metrics.jsonl") if r.phase == "rl"]
    assert all("teacher_divergence" in step and step["grad_norm"] > 0 for step in steps)
    shutil.copytree(whole, folder)
    shutil.rmtree(folder / "checkpoints" / "step-000002")
    train(chosen, folder, resume=True)
    resumed, first = weights(folder), weights(whole)
    assert all(torch.equal(resumed[name], first[name]) for name in first)
    assert numbers(folder) == numbers(whole)


def test_a_teacher_of_other_tokens_is_refused_before_anything_is_trained(finished: Path, tmp_path: Path):
    """Another seed draws other demonstrations, of which the embedded model's tokenizer is made."""
    said = {"path": str(checkpoints(finished)[-1].path)}
    chosen = config(seed=1, rl={"steps": 2, "groups": 4, "group_size": 2, "teacher": said})
    with pytest.raises(UserError, match=r"rl.teacher.path '.*' has another vocabulary than the student: "):
        train(chosen, tmp_path)
    assert read_metrics(tmp_path / "metrics.jsonl") == [] and checkpoints(tmp_path) == []


def test_the_best_checkpoint_outlives_newer_ones(tmp_path: Path, model, tokenizer):
    for step, best in ((1, 0.5), (2, None), (3, 0.7), (4, None), (5, None)):
        save_checkpoint(tmp_path, step, model, tokenizer, "", {}, keep=1, best=best)
    assert [c.step for c in checkpoints(tmp_path)] == [3, 5]
    assert best_step(tmp_path) == 3


def test_every_rl_step_moves_the_weights(finished: Path):
    from safetensors.torch import load_file

    first, second, third = (load_file(c.path / "model.safetensors") for c in checkpoints(finished))
    name = "model.embed_tokens.weight"
    assert not torch.equal(first[name], second[name]) and not torch.equal(second[name], third[name])


def test_the_same_config_gives_the_same_run(finished: Path, tmp_path: Path):
    train(config(), tmp_path)
    again, first = weights(tmp_path), weights(finished)
    assert all(torch.equal(again[name], first[name]) for name in first)
    for name in FILES:
        assert (tmp_path / "trajectories" / name).read_text() == (
            finished / "trajectories" / name
        ).read_text()


def test_too_many_ungraded_episodes_stop_the_run_and_their_trajectories_stay(tmp_path: Path):
    with pytest.raises(UngradedError) as error:
        train(config("quintain-tests/Failing-v0", sft=None), tmp_path)
    text = str(error.value)
    # Four problems, greedy and sampled.
    assert text.startswith(
        "8 of 8 episodes could not be graded (rollout.max_ungraded = 0.2). By kind: environment 8. The first, "
    )
    assert "RuntimeError: no such device" in text
    assert (tmp_path / "trajectories" / "eval-before-000000.jsonl").is_file()


def test_a_loss_that_is_not_finite_saves_the_steps_trajectories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    real = Learner.update

    def update(self, trajectories, credit, measured=None):
        if self.steps == 1:
            credit = Credit([a * float("nan") for a in credit.advantages])
        return real(self, trajectories, credit, measured)

    monkeypatch.setattr(Learner, "update", update)
    with pytest.raises(NonFiniteError, match="the loss is nan in RL step 2"):
        train(config(sft=None), tmp_path)
    lines = (tmp_path / "trajectories" / "nonfinite-000002.jsonl").read_text().splitlines()
    assert [Trajectory.from_json(line).id for line in lines] == [
        f"rl-2-{g}-{m}" for g in (0, 1) for m in (0, 1)
    ]
    assert [c.step for c in checkpoints(tmp_path)] == [0, 1]


def test_a_config_without_sft_and_rl_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="there is nothing to train"):
        train(config(sft=None, rl=None), tmp_path)


def save(folder: Path, model, tokenizer, step: int, state: dict | None = None, keep: int = 2):
    return save_checkpoint(
        folder, step, model, tokenizer, "{{ messages }}", state or {"step": step}, keep=keep
    )


def test_only_the_newest_checkpoints_stay(tmp_path: Path, model, tokenizer):
    for step in (1, 2, 10):
        save(tmp_path, model, tokenizer, step)
    assert [c.step for c in checkpoints(tmp_path)] == [2, 10]
    assert checkpoints(tmp_path)[-1].state() == {"step": 10}
    assert (checkpoints(tmp_path)[-1].path / "chat_template.jinja").read_text() == "{{ messages }}"


def test_a_save_that_fails_leaves_the_earlier_checkpoint_and_nothing_else(tmp_path: Path, model, tokenizer):
    save(tmp_path, model, tokenizer, 1)

    class Full:
        def save_pretrained(self, folder: Path) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left on device"):
        save(tmp_path, model, Full(), 2)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-000001"]


def test_a_folder_without_its_state_is_no_checkpoint(tmp_path: Path, model, tokenizer):
    kept = save(tmp_path, model, tokenizer, 1)
    (tmp_path / "checkpoints" / "step-000002").mkdir()
    assert checkpoints(tmp_path) == [kept]
