"""What tests/rl/test_sharding.py runs, as one process or as the ranks of torchrun: the same steps by both.

`python ranks_program.py FOLDER [CASE ...]`: rank 0 writes CASE.pt into FOLDER: metrics, weights, what was raised.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from quintain.rl import credit
from quintain.rl.learner import Learner, NonFiniteError
from quintain.rl.ranks import Alone, rank_here
from quintain.rl.rl_config import RlConfig
from quintain.rl.sharding import Member, Team, whole_state
from quintain.rl.teacher import Teacher
from quintain.rl.trajectory import StopReason, Trajectory, Turn
from quintain.verifiers.base import Score

CASES = {
    "token": {"minibatches": 2, "epochs": 2, "kl": {"coef": 0.1}, "micro_batch_tokens": 64},
    "sequence": {"aggregate": "sequence", "old_logprobs": "learner", "minibatches": 2},
    "group_too_big": {"groups": 1, "aggregate": "constant", "entropy": {"coef": 0.01}},
    "one_episode": {"episodes": 1, "advantage": "batch", "entropy": {"coef": 0.01}},
    "untied": {"tied": False, "weight_decay": 0.1},
    "ppo": {"algorithm": "ppo", "minibatches": 2},
    "ppo_shared": {"algorithm": "ppo", "critic": {"kind": "shared", "warmup_steps": 1}},
    "half": {"dtype": "bfloat16", "micro_batch_tokens": 64},
    "nonfinite": {"broken": True},
    "resume": {"resume": True, "minibatches": 2},
    "lora": {"lora": True},
    "teacher": {"teacher": {"path": "made here", "over": "sampled"}, "minibatches": 2},
    "teacher_alone": {"teacher": {"path": "made here", "beta": 0.5, "reward_coef": 0.0}},
}


def model(
    *, tied: bool = True, dtype: str = "float32", lora: bool = False, seed: int = 0
) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    shape = LlamaConfig(
        vocab_size=99,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=tied,
        pad_token_id=0,
    )
    made = LlamaForCausalLM(shape).to(getattr(torch, dtype)).eval()
    if lora:
        from quintain.rl.adapters import add_adapter
        from quintain.rl.config import LoraConfig

        return add_adapter(made, LoraConfig(rank=2), seed=1)
    return made


def episodes(groups: int = 3, count: int | None = None) -> list[Trajectory]:
    """Groups of four that begin alike, of very different lengths; rewards from a fixed generator."""
    draws = np.random.default_rng(5)
    found = []
    for group in range(groups):
        prompt = draws.integers(1, 99, 20 + 5 * group).tolist()
        for member in range(4):
            reward = float(draws.random())
            reply = draws.integers(1, 99, 2 + 9 * group + member).tolist()
            ids, mask = prompt + reply, [False] * len(prompt) + [True] * len(reply)
            found.append(
                Trajectory(
                    id=f"{group}-{member}",
                    task_id=str(group),
                    group=group,
                    ids=ids,
                    mask=mask,
                    logprobs=[-4.5 + 0.2 * draws.standard_normal() if mine else 0.0 for mine in mask],
                    versions=[0 if mine else -1 for mine in mask],
                    turns=[Turn(len(prompt), len(ids), reward)],
                    messages=[],
                    score=Score(reward),
                    stop=StopReason.TERMINATED,
                )
            )
    return found[:count]


def play(name: str, options: dict, team: Team | None, folder: Path) -> dict | None:
    given = dict(options)
    made = model(**{k: given.pop(k) for k in ("tied", "dtype", "lora") if k in given})
    played = episodes(given.get("groups", 3), given.pop("episodes", None))
    broken, resume = given.pop("broken", False), given.pop("resume", False)
    if broken:  # in the share of one rank alone
        played[0].logprobs[-1] = float("nan")
    config = RlConfig.model_validate({"steps": 4, "lr": 1e-3, "group_size": 4, "groups": 3, **given})
    teacher = None if config.teacher is None else Teacher(model(seed=7), config.teacher, vocabulary=99)

    def start(whole: LlamaForCausalLM) -> Learner:
        return Learner(
            whole,
            config,
            temperature=0.9,
            generator=np.random.default_rng(1),
            longest=64,
            ranks=team or Alone(),
            teacher=teacher,
        )

    def step(learner: Learner) -> dict[str, float]:
        measured = learner.measure(played)
        advantages = credit.assign(played, config, measured, kl_coef=learner.kl_coef, longest=64)
        return learner.update(played, advantages, measured)

    learner = start(made)
    found: dict[str, object] = {"metrics": [], "raised": None}
    try:
        found["metrics"] = [step(learner) for _ in range(2)]
        if resume:
            found["metrics"] += resumed(learner, start, step, team, folder)
    except NonFiniteError as error:
        found["raised"] = str(error)
    found["weights"] = made.state_dict() if team is None else whole_state(made)
    return found


def resumed(learner: Learner, start, step, team: Team | None, folder: Path) -> list[dict[str, float]]:
    """Save after two steps and take two more; then twice the same from what was saved, in a fresh learner."""
    state = learner.state()
    if team is None:
        return [step(learner)]
    Member(learner).save(folder / "saved")
    expected = step(learner)
    other = start(model())
    Member(other).load(folder / "saved")
    Member(other).restore(state)
    again = step(other)
    assert again == expected, (again, expected)
    mine, theirs = whole_state(learner.model), whole_state(other.model)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    return [expected]


def main(folder: Path, names: list[str]) -> None:
    torch.set_num_threads(1)
    team = None if rank_here() is None else Team(torch.device("cpu"))
    for name in names or CASES:
        found = play(name, CASES[name], team, folder)
        if team is None or team.rank == 0:
            torch.save(found, folder / f"{name}.pt")
    if team is not None:
        team.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
