"""Train with TRL's GRPOTrainer on an environment of ours: many turns, exact tokens, ungraded episodes left out.

python examples/train_with_trl.py            # two steps of a random tiny model: it earns nothing yet; seconds
python examples/train_with_trl.py MODEL      # a folder or an id of the hub

Any environment of `quintain envs` will do.
"""

import sys
import tempfile

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from quintain import make
from quintain.rl.config import TinyModelConfig
from quintain.rl.tiny import build_model, build_tokenizer
from quintain.rl.trl_bridge import TrlEpisodes


def corpus(env):
    """Yield what is said in right solutions, for the tokenizer of the tiny model."""
    rng = np.random.default_rng(0)
    for seed in range(50):
        env.reset(seed=seed)
        yield from (message["content"] for message in env.messages)
        yield env.oracle(env.task, env.messages, rng)


def load(path, env):
    if path is not None:
        return AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    torch.set_num_threads(1)
    shape = TinyModelConfig(width=64, mlp=128)
    tokenizer = build_tokenizer(corpus(env), shape)
    return build_model(shape, tokenizer, torch.Generator().manual_seed(0)), tokenizer


def main(path=None):
    env = make("quintain/GuessNumber-v0", max_turns=3)
    model, tokenizer = load(path, env)

    episodes = TrlEpisodes(env, turn_tokens=12, episode_tokens=256)
    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model,
            reward_funcs=episodes.reward,
            rollout_func=episodes.rollout,
            train_dataset=episodes.dataset(8),
            processing_class=tokenizer,
            args=GRPOConfig(
                output_dir=folder,
                max_steps=2,
                per_device_train_batch_size=4,
                num_generations=4,
                max_completion_length=64,
                learning_rate=1e-3,
                logging_steps=1,
                report_to="none",
                save_strategy="no",
                use_cpu=True,
                bf16=False,
                disable_tqdm=True,
            ),
        )
        trainer.train()
        for row in trainer.state.log_history:
            if "reward" in row:
                print(
                    f"step {row['step']}: reward {row['reward']:.2f}, {row['num_tokens']:.0f} tokens so far"
                )


if __name__ == "__main__":
    main(*sys.argv[1:])
