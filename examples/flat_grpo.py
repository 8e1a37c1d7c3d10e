"""GRPO in one file, top to bottom, to read: sample groups, score them, compare within the group, learn.

python examples/flat_grpo.py          # half a minute on one core

No trainer and no rollout engine: only an environment, a network and PyTorch. `quintain train` does the same with
packed batches, a key-value cache, many turns, tools, checkpoints and resuming; the algorithm is the one below.

The network is a random tiny Llama over bytes. Asked for "figures" or "letters", it is paid for their share of what it
writes.
"""

import string

import numpy as np
import torch

from quintain import Score, SingleTurnEnv, Task, Verifier
from quintain.rl.config import TinyModelConfig
from quintain.rl.tiny import build_model, build_tokenizer

STEPS = 40
GROUPS = 8  # tasks a step
GROUP_SIZE = 16  # replies to each task: what one of them is compared with
REPLY_TOKENS = 8
MINIBATCHES = 2  # optimiser steps on the replies of a step; from the second on the ratio is not 1
LR = 1e-3
CLIP_LOW, CLIP_HIGH = 0.2, 0.28  # DAPO (arXiv 2503.14476, section 3.1): more room upwards
TEMPERATURE = 1.0


class Share(Verifier):
    """The share of the reply's characters that are of the kind asked for."""

    def score(self, episode):
        reply = episode.reply.strip()
        right = sum(character in episode.task.answer for character in reply)
        return Score(right / max(len(reply), 1), reason=f"{right} of {len(reply)} characters")


def environment():
    kinds = {"figures": string.digits, "letters": string.ascii_letters}
    return SingleTurnEnv([Task(kind, f"Write {kind}.", answer=kinds[kind]) for kind in kinds], Share())


def sample(model, prompts_BP, generator):
    """Draw replies token by token and return their ids and log-probabilities, both (B, REPLY_TOKENS).

    The key-value cache makes each step one token wide. All replies have the same length here, so nothing is padded;
    with an end-of-sequence token one would also keep a mask.
    """
    ids_BT, logprobs_BT, cache, feed = [], [], None, prompts_BP
    with torch.no_grad():
        for _ in range(REPLY_TOKENS):
            out = model(feed, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            log_p_BV = (out.logits[:, -1].float() / TEMPERATURE).log_softmax(-1)
            feed = torch.multinomial(log_p_BV.exp(), 1, generator=generator)
            ids_BT.append(feed)
            logprobs_BT.append(log_p_BV.gather(1, feed))
    return torch.cat(ids_BT, 1), torch.cat(logprobs_BT, 1)


def logprobs_of(model, prompts_BP, replies_BT):
    """Return the log-probability of every reply token under the present weights, (B, T), with gradients."""
    sequence = torch.cat([prompts_BP, replies_BT], 1)
    start = prompts_BP.shape[1]
    logits_BTV = model(sequence).logits[:, start - 1 : -1].float() / TEMPERATURE  # position t predicts t + 1
    return logits_BTV.log_softmax(-1).gather(2, replies_BT.unsqueeze(2)).squeeze(2)


def advantages_of(rewards_GS):
    """Compare each reply with its group: reward minus the group's mean (Dr. GRPO, arXiv 2503.20783; no deviation)."""
    return rewards_GS - rewards_GS.mean(1, keepdim=True)


def loss_of(new_BT, old_BT, advantages_B):
    """PPO's clipped objective (arXiv 1707.06347, equation 7), averaged over tokens.

    The ratio of new to old probability is what corrects for the weights having moved since the reply was drawn;
    clipping takes away the reason to move further once it has moved enough.
    """
    ratio_BT = (new_BT - old_BT).exp()
    advantages_B1 = advantages_B.unsqueeze(1)
    plain = ratio_BT * advantages_B1
    clipped = ratio_BT.clamp(1 - CLIP_LOW, 1 + CLIP_HIGH) * advantages_B1
    return -torch.minimum(plain, clipped).mean()


def main():
    torch.set_num_threads(1)  # the network is so small that more are slower
    generator = torch.Generator().manual_seed(0)
    rng = np.random.default_rng(0)
    env = environment()
    tokenizer = build_tokenizer(
        [], TinyModelConfig(vocabulary=280)
    )  # learned on no text: every byte is a token
    model = build_model(TinyModelConfig(), tokenizer, generator)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.0)

    for step in range(1, STEPS + 1):
        # 1. Tasks. Both prompts have the same length here, so a step is one batch; others one would pad or pack.
        seeds = rng.integers(0, 2**31, GROUPS)
        prompts = []
        for seed in seeds:
            env.reset(seed=int(seed))
            text = tokenizer.apply_chat_template(env.messages, tokenize=False, add_generation_prompt=True)
            prompts.append(tokenizer(text, add_special_tokens=False).input_ids)
        prompts_BP = torch.tensor(prompts).repeat_interleave(GROUP_SIZE, 0)

        # 2. A group of replies to each, with the log-probabilities they were drawn with.
        replies_BT, old_BT = sample(model, prompts_BP, generator)

        # 3. Rewards, from the environment. The same seed is the same task.
        rewards = []
        for row, ids in enumerate(replies_BT.tolist()):
            env.reset(seed=int(seeds[row // GROUP_SIZE]))
            _, reward, *_ = env.step(tokenizer.decode(ids, skip_special_tokens=True))
            rewards.append(reward)
        rewards_GS = torch.tensor(rewards).view(GROUPS, GROUP_SIZE)

        # 4. Advantages, then a few optimiser steps on these replies.
        advantages_B = advantages_of(rewards_GS).flatten()
        order = torch.randperm(len(rewards), generator=generator)
        for rows in order.chunk(MINIBATCHES):
            new_BT = logprobs_of(model, prompts_BP[rows], replies_BT[rows])
            loss = loss_of(new_BT, old_BT[rows], advantages_B[rows])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

        if step == 1 or step % 10 == 0:
            env.reset(seed=int(seeds[0]))
            shown = tokenizer.decode(replies_BT[0].tolist())
            print(f"step {step:3d}  reward {rewards_GS.mean():.2f}  {env.task.prompt} {shown!r}")


if __name__ == "__main__":
    main()
