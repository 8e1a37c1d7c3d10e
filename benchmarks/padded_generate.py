"""The `transformers` engine against padded `model.generate`: multi-turn episodes, the same tokens on both sides.

Beside is what trainers without an engine do: each turn, the conversations that go on are padded to the longest and
given to `model.generate` as a batch; everything before is computed again, and the batch runs until its longest reply
is done. Ours plays the same episodes as sessions. No environment, no tools: sampling alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import torch
from common import ratios
from forced import Forced, ForcedEngine, episodes
from transformers import GenerationConfig, LogitsProcessorList, PreTrainedModel

from quintain.rl.config import ModelConfig, TinyModelConfig
from quintain.rl.engines.base import Sampling
from quintain.rl.models import load_model
from quintain.rl.tiny import build_model, build_tokenizer

Episode = list[tuple[list[int], list[int]]]
STOP = 2
WORDS = "Ann has 12 boxes of 7 pens. Then she has 3 times that."


def tiny() -> tuple[PreTrainedModel, int]:
    """Return an embedded model that knows nothing yet, and how many tokens it has."""
    shape = TinyModelConfig(context=2048)
    tokenizer = build_tokenizer([WORDS] * 4, shape)
    model = build_model(shape, tokenizer, torch.Generator().manual_seed(0)).eval()
    return model, len(tokenizer)


def with_ours(model: PreTrainedModel, played: Sequence[Episode]) -> None:
    script = {
        1000 * number + turn: reply
        for number, episode in enumerate(played)
        for turn, (_, reply) in enumerate(episode)
    }

    async def play(engine: ForcedEngine, number: int, episode: Episode) -> None:
        ids: list[int] = []
        for turn, (given, reply) in enumerate(episode):
            ids += given
            sampling = Sampling(max_tokens=128, stop_ids=(STOP,), seed=1000 * number + turn)
            found = await engine.generate(ids, sampling, session=str(number))
            assert list(found.ids) == reply
            ids += reply
        engine.release(str(number))

    async def all_of_them() -> None:
        engine = ForcedEngine(model, script)
        await asyncio.gather(*(play(engine, n, episode) for n, episode in enumerate(played)))
        await engine.close()

    asyncio.run(all_of_them())


@torch.inference_mode()
def with_generate(model: PreTrainedModel, played: Sequence[Episode]) -> None:
    config = GenerationConfig(
        max_new_tokens=128, do_sample=True, temperature=1.0, top_k=0, eos_token_id=STOP, pad_token_id=0,
        disable_compile=True,
    )  # fmt: skip
    model.set_attn_implementation("sdpa")  # transformers' own; our engine has put its own in
    ids: list[list[int]] = [[] for _ in played]
    for turn in range(max(map(len, played))):
        live = [n for n, episode in enumerate(played) if turn < len(episode)]
        for n in live:
            ids[n] += played[n][turn][0]
        width = max(len(ids[n]) for n in live)
        padded = torch.tensor([[0] * (width - len(ids[n])) + ids[n] for n in live])
        mask = torch.tensor([[0] * (width - len(ids[n])) + [1] * len(ids[n]) for n in live])
        forced = Forced([[played[n][turn][1] for n in live]])
        forced.next_round()
        found = model.generate(
            input_ids=padded,
            attention_mask=mask,
            generation_config=config,
            logits_processor=LogitsProcessorList([forced]),
        )
        for n, row in zip(live, found[:, width:].tolist(), strict=True):
            reply = played[n][turn][1]
            assert row[: len(reply)] == reply
            ids[n] += reply


def cpu_and_wall(run: Any, *args: Any) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    run(*args)
    return time.process_time() - cpu, time.perf_counter() - wall


def compare(name: str, rounds: int) -> dict[str, Any]:
    """Play the same episodes both ways, in turn, and return the best round of each and the ratios of all."""
    if name == "tiny":
        model, words = tiny()
        count = 64
    else:
        model, _ = load_model(ModelConfig(path="smollm2", dtype="bfloat16", device="cpu"), seed=0)
        model.eval()
        count, words = 8, 40_000
    played = episodes(count, 8, seed=1, words=words, stop=STOP)
    tokens = sum(len(reply) for episode in played for _, reply in episode)
    warm = [[(given[:20], reply[-4:]) for given, reply in episode[:1]] for episode in played[:2]]
    for run in (with_ours, with_generate):
        run(model, warm)
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(cpu_and_wall(with_ours, model, played))
        theirs.append(cpu_and_wall(with_generate, model, played))
    return {
        "model": name,
        "episodes": count,
        "sampled_tokens": tokens,
        "ours_cpu_s": min(ours)[0],
        "generate_cpu_s": min(theirs)[0],
        "ours_tokens_per_cpu_s": tokens / min(ours)[0],
        "generate_tokens_per_cpu_s": tokens / min(theirs)[0],
        "ratio_cpu": ratios([cpu for cpu, _ in theirs], [cpu for cpu, _ in ours]),
        "ratio_wall": ratios([wall for _, wall in theirs], [wall for _, wall in ours]),
    }
