"""Episodes of coming steps while the learner trains: whose weights, whose turn, and what happens when it breaks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from quintain.envs import registry
from quintain.envs.library.calculator import Calculator
from quintain.rl import pipeline, prepare
from quintain.rl.batch_metrics import staleness
from quintain.rl.checkpoint import checkpoints
from quintain.rl.config import Config, RlConfig
from quintain.rl.engines.base import InFlight, Sampling
from quintain.rl.engines.transformers import TransformersEngine
from quintain.rl.journal import clear, journal_of
from quintain.rl.learner import Learner, NonFiniteError
from quintain.rl.metrics import read_metrics
from quintain.rl.pipeline import Worker, copied, shared_threads
from quintain.rl.selfcheck import SelfCheckError, check_staleness
from quintain.rl.train import UngradedError, train
from quintain.rl.trajectory import Trajectory

TINY = {"layers": 1, "width": 32, "heads": 4, "kv_heads": 2, "mlp": 32, "vocabulary": 300, "context": 256}


class Troubled(Calculator):
    """After `good` episodes, counted over all copies, it breaks at the start."""

    def __init__(self, *, good: int, **options):
        super().__init__(**options)
        self.good = good
        self.counts = Counter()  # shared by all copies

    def reset(self, *, seed=None, options=None):
        if options:  # not the tokenizer's corpus
            self.counts["begun"] += 1
            LAST["counts"] = self.counts
            if self.counts["begun"] > self.good:
                raise RuntimeError("no such device")
        return super().reset(seed=seed, options=options)

    async def aclose(self):
        self.counts["closed"] += 1


LAST: dict[str, object] = {}
registry.register("quintain-tests/Troubled-v0", Troubled)


def config(rl: dict | None = None, **sections: object) -> Config:
    """Six RL steps of three groups of two, without a warm start."""
    base = {"steps": 6, "groups": 3, "group_size": 2, "kl": {"coef": 0.01}}
    return Config.model_validate(
        {
            "threads": 1,
            "env": {"id": "quintain/Calculator-v0", "kwargs": {"max_turns": 2}},
            "run": {"checkpoint_every": 2, "keep_checkpoints": 9},
            "model": {"device": "cpu", "tiny": TINY},
            "rollout": {"turn_tokens": 8, "episode_tokens": 256},
            "eval": {"problems": 2, "every": 3, "samples": 0},
            **sections,
            "rl": base | (rl or {}),
        }
    )


def troubled(good: int = 10**6, groups: int = 3) -> Config:
    kwargs = {"max_turns": 2, "good": good}
    env = {"id": "quintain-tests/Troubled-v0", "kwargs": kwargs, "eval_kwargs": {"good": 10**6}}
    return config({"staleness": 1, "steps": 3, "groups": groups}, env=env)


@pytest.fixture
def step_2_never_ends(monkeypatch) -> threading.Event:
    """The engine never answers the episodes of step 2; the event says that they are waiting for it."""
    waiting, answer = threading.Event(), TransformersEngine.generate

    async def generate(self, ids, sampling, *, session=None):
        if session is not None and session.startswith("rl-2-"):
            waiting.set()
            await asyncio.sleep(1000)
        return await answer(self, ids, sampling, session=session)

    monkeypatch.setattr(TransformersEngine, "generate", generate)
    return waiting


@contextlib.contextmanager
def a_corpus_of_ten_episodes() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "CORPUS_EPISODES", 10)
        yield


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    with a_corpus_of_ten_episodes():
        yield


DYNAMIC = {"staleness": 2, "resample_rounds": 1, "minibatches": 2, "curriculum": {"bucket": "tag"}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of staleness 2 with dynamic sampling, a curriculum, and an evaluation in the middle."""
    folder = tmp_path_factory.mktemp("finished")
    with a_corpus_of_ten_episodes():
        train(config(DYNAMIC), folder)
    return folder


def versions(folder: Path) -> list[set[int]]:
    """Whose weights sampled each step."""
    return [
        {v for line in path.read_text().splitlines() for v in json.loads(line)["versions"] if v >= 0}
        for path in sorted((folder / "trajectories").glob("rl-*.jsonl"))
    ]


def numbers(folder: Path) -> list[tuple[object, ...]]:
    return [
        (r.phase, r.step, {k: v for k, v in r.metrics.items() if not k.endswith("_s") and k != "memory_mb"})
        for r in read_metrics(folder / "metrics.jsonl")
    ]


def weights(folder: Path) -> bytes:
    return (checkpoints(folder)[-1].path / "model.safetensors").read_bytes()


# --- which weights sample which step


def test_step_k_is_sampled_with_the_weights_of_step_k_less_one_less_the_staleness(finished: Path):
    assert versions(finished) == [{0}, {0}, {0}, {1}, {2}, {3}]


def test_how_old_the_weights_were_is_in_the_metrics(finished: Path):
    steps = [r.metrics for r in read_metrics(finished / "metrics.jsonl") if r.phase == "rl"]
    assert [m["staleness"] for m in steps] == [0.0, 1.0, 2.0, 2.0, 2.0, 2.0]
    assert [m.get("staleness/2", 0.0) for m in steps] == [0.0, 0.0, 1.0, 1.0, 1.0, 1.0]
    assert {"wait_s", "rollout_s", "learn_s", "sync_s"} <= set(steps[0])


def test_an_evaluation_plays_with_the_weights_it_is_named_after(finished: Path):
    for path in sorted((finished / "trajectories").glob("eval-*.jsonl")):
        step = int(path.stem.rpartition("-")[2])
        played = [Trajectory.from_json(line) for line in path.read_text().splitlines()]
        assert {v for t in played for v in t.versions if v >= 0} == {step}, path.name


def test_staleness_0_trains_on_the_newest_weights_and_says_nothing_of_age(tmp_path: Path):
    train(config({"steps": 2}), tmp_path)
    assert versions(tmp_path) == [{0}, {1}]
    assert "staleness" not in read_metrics(tmp_path / "metrics.jsonl")[-2].metrics


def test_weights_in_flight_come_at_once_and_are_never_older_than_allowed(tmp_path: Path):
    train(config({"steps": 4, "staleness": 1, "in_flight": True, "resample_rounds": 3}), tmp_path)
    found = versions(tmp_path)
    assert all(step - 1 <= min(used) <= max(used) <= step for step, used in enumerate(found[1:], 1))
    assert found[0] == {0}


def test_the_age_of_tokens_is_counted(trajectory):
    one = trajectory([1, 2, 3, 4], "..xx")
    object.__setattr__(one, "versions", [-1, -1, 4, 5])
    assert staleness([one], 6) == {"staleness": 1.5, "staleness/1": 0.5, "staleness/2": 0.5}
    assert staleness([], 6) == {"staleness": 0.0}


@pytest.mark.parametrize(("version", "limit"), [(6, 1), (4, 2)], ids=["too old", "of the future"])
def test_a_token_of_other_weights_than_allowed_stops_the_run(trajectory, version: int, limit: int):
    one = trajectory([1, 2, 3, 4], "..xx")
    object.__setattr__(one, "versions", [-1, -1, 4, 5])
    check_staleness([one], 5, 1)
    with pytest.raises(
        SelfCheckError, match="sampled by the weights of the steps 4 to 5, but the learner has"
    ):
        check_staleness([one], version, limit)


# --- what would be silently wrong is refused


@pytest.mark.parametrize(
    ("rl", "message"),
    [
        ({"algorithm": "rloo"}, r"staleness = 1 trains on samples of older weights, and loss = 'likelihood'"),
        ({"old_logprobs": "learner"}, r"old_logprobs = 'learner' takes them for the learner's own: set importance"),
        ({"staleness": 0, "in_flight": True}, "in_flight goes with staleness of at least 1"),
        ({"staleness": -1}, "greater than or equal to 0"),
    ],
    ids=["the plain policy gradient", "the learner's own ratio", "in flight without staleness", "negative"],
)  # fmt: skip
def test_a_wrong_combination_is_refused(rl: dict, message: str):
    with pytest.raises(ValidationError, match=message):
        RlConfig.model_validate({"staleness": 1, **rl})


@pytest.mark.parametrize(
    "rl",
    [
        {},
        {"algorithm": "dapo"},
        {"old_logprobs": "learner", "importance": {"kind": "truncate"}},
        {"algorithm": "rloo", "old_logprobs": "learner", "importance": {"kind": "mask"}},
    ],
    ids=["the ratio to the sampler", "dapo", "decoupled", "the weighted policy gradient"],
)
def test_a_corrected_combination_is_fine(rl: dict):
    assert RlConfig.model_validate({"staleness": 2, **rl}).staleness == 2


def test_several_ranks_are_refused(tmp_path: Path):
    from quintain.rl import many
    from quintain.tools.errors import UserError

    with pytest.raises(UserError, match=r"rl\.staleness = 1 does not go with torchrun"):
        many.check(config({"staleness": 1}))


def test_kl_in_the_reward_is_that_of_the_learner_not_of_the_older_sampler(model, trajectory):
    """The reference is the learner itself, so its KL is 0, whatever the sampler's log-probabilities were."""
    batch = [trajectory([40, 41, 42, 43], "..xx", logprobs=[0, 0, -9.0, -8.0])]
    kl = {"coef": 0.1, "estimator": "k1", "where": "reward"}
    found = {}
    for ahead in (0, 1):
        rl = RlConfig.model_validate({"staleness": ahead, "kl": kl})
        learner = Learner(model, rl, temperature=1.0, generator=np.random.default_rng(0))
        found[ahead] = learner.measure(batch).kls[0]
    assert found[1] == pytest.approx([0.0, 0.0], abs=1e-6)
    assert all(abs(found[0]) > 1)


# --- the sampler's weights


def test_the_sampler_has_weights_of_its_own_and_shares_those_that_are_not_trained(model):
    frozen = model.model.embed_tokens.weight.requires_grad_(False)
    twin = copied(model.train())
    assert twin.model.embed_tokens.weight is frozen
    trained, theirs = model.model.layers[0].mlp.up_proj.weight, twin.model.layers[0].mlp.up_proj.weight
    assert torch.equal(trained, theirs) and trained.data_ptr() != theirs.data_ptr()
    assert model.training and not twin.training


@pytest.mark.parametrize("in_flight", [False, True])
def test_there_are_never_more_copies_than_the_staleness_and_one(tmp_path: Path, monkeypatch, in_flight: bool):
    alive: weakref.WeakSet = weakref.WeakSet()
    most = [0]

    def counting(model):
        twin = copied(model)
        alive.add(twin)
        most[0] = max(most[0], len(alive))
        return twin

    monkeypatch.setattr(pipeline, "copied", counting)
    train(config({"steps": 5, "staleness": 1, "in_flight": in_flight}), tmp_path)
    assert most[0] == 2


def test_sampler_and_learner_share_the_cores_of_a_cpu():
    assert shared_threads(config()) is None
    cores = os.cpu_count() or 1
    assert shared_threads(config({"staleness": 1})) == max(1, min(torch.get_num_threads(), cores // 2))


async def test_a_token_in_flight_is_of_the_version_that_it_names(make_model):
    """Each token's log-probability is that of its version's weights, given all tokens before it."""
    old, new = make_model(0), make_model(1)
    engine = TransformersEngine(old)
    assert isinstance(engine, InFlight)
    prompt = [(7 * n) % 250 + 40 for n in range(40)]
    sampling = Sampling(max_tokens=30, stop_ids=(), seed=1)
    asked = asyncio.create_task(engine.generate(prompt, sampling, session="a"))
    for _ in range(12):
        await asyncio.sleep(0)
    await engine.swap(new, 5)
    said = await asked
    first = said.versions.index(5)
    assert 0 < first < 30 and said.version == 5
    assert list(said.versions) == [0] * first + [5] * (30 - first)
    ids = torch.tensor([[*prompt, *said.ids]])
    for model, start, end in ((old, 0, first), (new, first, 30)):
        with torch.no_grad():
            table = torch.log_softmax(model(input_ids=ids).logits[0], -1)
        own = [table[39 + n, said.ids[n]].item() for n in range(start, end)]
        assert list(said.logprobs[start:end]) == pytest.approx(own, abs=1e-4)
    later = await engine.generate([*prompt, *said.ids, 50], sampling, session="a")  # nothing stale is cached
    assert set(later.versions) == {5}


async def test_the_event_loop_runs_while_the_learner_computes():
    """The work waits for something that only the event loop can do."""
    worker, asked = Worker(), threading.Event()
    asyncio.get_running_loop().call_later(0.01, asked.set)
    assert await worker.run(lambda: asked.wait(60))
    with pytest.raises(ZeroDivisionError):
        await worker.run(lambda: 1 // 0)
    worker.close()


# --- a resumed run


@pytest.mark.parametrize("step", [2, 4])
def test_a_resumed_run_learns_from_the_episodes_that_were_played_ahead(
    finished: Path, tmp_path: Path, step: int
):
    """Not one of them is played again, and everything after is the same to the last bit."""
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    for checkpoint in checkpoints(folder):
        if checkpoint.step > step:
            shutil.rmtree(checkpoint.path)
    ahead = checkpoints(folder)[-1].state()["ahead"]
    at = checkpoints(folder)[-1].step
    assert [phase["step"] for phase in ahead] == [s for s in (at + 1, at + 2) if s <= 6]
    train(config(DYNAMIC), folder, resume=True)
    assert numbers(folder) == numbers(finished)
    assert weights(folder) == weights(finished)
    for path in (finished / "trajectories").iterdir():
        assert (folder / "trajectories" / path.name).read_text() == path.read_text()


def test_journals_that_a_checkpoint_does_not_hold_stay(tmp_path: Path, trajectory):
    for phase, step in (("rl", 2), ("rl", 3), ("eval-during", 2)):
        with journal_of(tmp_path, phase, step) as journal:
            journal.add(trajectory([1, 2], ".x"))
    clear(tmp_path, later=2)
    assert [p.name for p in (tmp_path / "journal").iterdir()] == ["rl-000003.jsonl"]


# --- when something breaks


def balanced() -> bool:
    return LAST["counts"]["begun"] == LAST["counts"]["closed"] > 0


@pytest.mark.parametrize(
    ("groups", "message"),
    [(3, r"6 of 6 episodes could not be graded"), (10, r"16 of 20 .* and 4 were not played any more")],
    ids=["at the end of the rollout", "in the middle of it"],
)
def test_a_rollout_ahead_that_breaks_ends_the_run_when_its_turn_comes(
    tmp_path: Path, groups: int, message: str
):
    """Step 1 is trained and recorded; step 2, which was played beside it, is what stops the run."""
    with pytest.raises(UngradedError, match=message):
        train(troubled(2 * groups, groups), tmp_path)
    assert [r.step for r in read_metrics(tmp_path / "metrics.jsonl") if r.phase == "rl"] == [1]
    assert balanced()


def test_a_learner_that_breaks_ends_the_episodes_that_are_played_beside_it(
    tmp_path: Path, monkeypatch, step_2_never_ends
):
    def broken(self, *_):
        assert step_2_never_ends.wait(60)
        raise NonFiniteError("the loss is nan")

    monkeypatch.setattr(Learner, "update", broken)
    with pytest.raises(NonFiniteError):
        train(troubled(), tmp_path)
    assert balanced()
    assert len((tmp_path / "trajectories" / "nonfinite-000001.jsonl").read_text().splitlines()) == 6


def test_a_run_that_is_cancelled_waits_for_its_learner_and_closes_all_episodes(
    tmp_path: Path, monkeypatch, step_2_never_ends
):
    main, through = [], []

    def update(self, *_):
        assert step_2_never_ends.wait(60)
        task, loop = main[0]
        loop.call_soon_threadsafe(task.cancel)
        threading.Event().wait(0.2)
        through.append(True)

    def watch(event):
        if not main:
            main.append((asyncio.current_task(), asyncio.get_running_loop()))

    monkeypatch.setattr(Learner, "update", update)
    with pytest.raises(asyncio.CancelledError):
        train(troubled(), tmp_path, watch)
    assert through == [True]
    assert balanced()
    assert not [t for t in threading.enumerate() if t.name.startswith("quintain-learner")]
