"""An environment of your own: sort digits. Registered, checked, played by a script, and trained on.

python examples/own_environment.py           # plays two episodes; a second
python examples/own_environment.py RUN       # also trains the embedded model and writes the run to RUN
"""

import sys
from pathlib import Path

from gymnasium.utils.env_checker import check_env

import quintain
from quintain import Score, SingleTurnEnv, Task, TaskSet, Verifier, make
from quintain.envs import register


class Digits(Verifier):
    """What part of the digits stands in its place."""

    def score(self, episode):
        """Compare digit by digit."""
        wanted, got = episode.task.answer.split(), episode.reply.split()
        right = sum(a == b for a, b in zip(wanted, got, strict=False))
        return Score(right / max(len(wanted), len(got)), reason=f"{right} of {len(wanted)} in their place")


class SortDigits(SingleTurnEnv):
    """Write the digits in ascending order."""

    def __init__(self, split="train", count=4, render_mode=None):
        def task(rng, index):
            digits = [str(digit) for digit in rng.integers(0, 10, count)]
            return Task("", f"Sort: {' '.join(digits)}", " ".join(sorted(digits)))

        tasks = TaskSet.generated(task, name="sort", split=split)
        super().__init__(tasks, Digits(), render_mode=render_mode)
        self.oracle = lambda task, messages, rng: task.answer
        # Demonstrations that are sometimes wrong: RL has something left to do.
        self.demonstrator = lambda task, messages, rng: task.answer if rng.random() < 0.7 else "0 1 2 3"


def main(run=None):
    register("mine/SortDigits-v0", SortDigits)
    env = make("mine/SortDigits-v0", count=3)
    check_env(env.fresh(), skip_render_check=True)
    for reply in (lambda task: task.answer, lambda task: "1 2"):
        question, _ = env.reset(seed=1)
        _, reward, _, _, info = env.step(reply(env.task))
        print(f"{question} -> {env.messages[-1]['content']}: {reward:.2f}, {info['score'].reason}")
    if run is not None:
        config = quintain.Config.model_validate(
            {
                "env": {"id": "mine/SortDigits-v0", "eval_kwargs": {"split": "test"}},
                "sft": {"episodes": 300, "steps": 40, "tokens_per_step": 1024},
                "rl": {"steps": 10, "groups": 8, "group_size": 8},
                "rollout": {"turn_tokens": 16, "episode_tokens": 64},
                "eval": {"problems": 50, "every": 0, "samples": 0},
            }
        )
        Path(run).mkdir(parents=True)
        quintain.train(config, Path(run), lambda event: print(event.phase, event.step, dict(event.metrics)))


if __name__ == "__main__":
    main(*sys.argv[1:])
