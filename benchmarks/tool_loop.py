"""Episodes with a slow tool: ours against the tool loop of TRL's `GRPOTrainer`.

32 episodes of the embedded model, each with four calls of a tool that sleeps 0.2 s and then a reply without a call.
Both sides run the same model on the same tokens (see `forced`), with the same chat template and the same tool, from
the messages of the prompts to the finished episodes. The critical path is what an episode needs if nothing waits for
anything else: the tool's time of each turn, and sampling the replies of all episodes by the same engine without an
environment round it.
"""

from __future__ import annotations

import asyncio
import functools
import tempfile
import time
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from common import ratios
from forced import Forced, ForcedEngine
from transformers import LogitsProcessorList

from quintain.envs.tool_use import ToolEnv
from quintain.rl.chat import ChatCodec
from quintain.rl.config import RolloutConfig, TinyModelConfig
from quintain.rl.engines.base import Sampling
from quintain.rl.rollout import Start, rollout
from quintain.rl.seeds import derive
from quintain.rl.tiny import build_model, build_tokenizer
from quintain.rl.trajectory import Trajectory
from quintain.tools.tool import Tool
from quintain.verifiers.base import Task
from quintain.verifiers.numbers import FinalNumber

EPISODES, GROUP, CALLS, TOOL_S = 32, 8, 4, 0.2
QUESTION = "Which place holds the number {n}? Look up as many places as you need, then name one."
LIMITS = RolloutConfig(turn_tokens=1000, episode_tokens=3000)


def look_up(place: int) -> str:
    """Return what stands at a place.

    Args:
        place: The place.
    """
    time.sleep(TOOL_S)
    return f"At {place} stands {7 * place % 100}."


def replies(episode: int) -> list[str]:
    """Return what the model says in an episode: calls of different lengths, then the answer."""
    said = []
    for turn in range(CALLS):
        place = (31 * episode + 17 * turn) % 10 ** (1 + (episode + turn) % 4)
        thought = "I look at the next place. " * ((episode + 2 * turn) % 4)
        call = f'<tool_call>\n{{"name": "look_up", "arguments": {{"place": {place}}}}}\n</tool_call>'
        said.append(f"{thought}{call}")
    return [*said, f"It is {episode}."]


def both() -> tuple[Any, Any, str]:
    """Return model, tokenizer and chat template."""
    from trl.chat_template_utils import qwen3_chat_template

    shape = TinyModelConfig(context=4096)
    texts = [QUESTION, *replies(3), look_up.__doc__ or "", "At 50 stands 12."] * 4
    tokenizer = build_tokenizer(texts, shape)
    tokenizer.chat_template = qwen3_chat_template
    model = build_model(shape, tokenizer, torch.Generator().manual_seed(0)).eval()
    return model, tokenizer, qwen3_chat_template


def measured(run: Any) -> tuple[float, float, Any]:
    cpu, wall = time.process_time(), time.perf_counter()
    found = run()
    return time.perf_counter() - wall, time.process_time() - cpu, found


def ours(model: Any, codec: ChatCodec) -> list[Trajectory]:
    """Play all episodes with our rollout."""
    tasks = [Task(str(n), QUESTION.format(n=n), str(n)) for n in range(EPISODES // GROUP)]
    env = ToolEnv(tasks, [Tool(look_up, blocking=True)], FinalNumber(), max_turns=CALLS + 1)
    script = {
        derive(n, "turn", turn): codec.encode_reply(text)
        for n in range(EPISODES)
        for turn, text in enumerate(replies(n))
    }
    starts = [Start(f"e{n}", n // GROUP, n, task=n // GROUP) for n in range(EPISODES)]

    async def play() -> list[Trajectory]:
        engine = ForcedEngine(model, script)
        found = await rollout(env, engine, codec, starts, LIMITS)
        await engine.close()
        return found

    return asyncio.run(play())


def sampling_alone(model: Any, played: Sequence[Trajectory]) -> None:
    """Sample the replies of all episodes, turn by turn, without environment and tool."""
    script = {
        100 * n + k: list(t.ids[turn.start : turn.end])
        for n, t in enumerate(played)
        for k, turn in enumerate(t.turns)
    }

    async def play() -> None:
        engine = ForcedEngine(model, script)
        for k in range(CALLS + 1):
            await asyncio.gather(
                *(
                    engine.generate(
                        t.ids[: t.turns[k].start],
                        Sampling(max_tokens=len(script[100 * n + k]), stop_ids=(), seed=100 * n + k),
                        session=str(n),
                    )
                    for n, t in enumerate(played)
                )
            )
        await engine.close()

    asyncio.run(play())


def make_trainer(model: Any, tokenizer: Any, folder: str) -> Any:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    warnings.simplefilter("ignore")
    arguments = GRPOConfig(
        output_dir=folder, per_device_train_batch_size=EPISODES, num_generations=GROUP, max_steps=1,
        report_to="none", use_cpu=True, bf16=False, max_completion_length=3000, disable_tqdm=True, top_k=0,
    )  # fmt: skip
    trainer = GRPOTrainer(
        model,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=arguments,
        tools=[look_up],
        train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": QUESTION}]}]),
        processing_class=tokenizer,
    )
    trainer._sync_tool_dicts = [{"look_up": look_up}] * EPISODES
    trainer._async_tool_dicts = [{}] * EPISODES
    return trainer


def theirs(trainer: Any, codec: ChatCodec) -> list[list[int]]:
    """Generate the completions of all episodes with TRL's trainer, and return their ids."""
    said = [[codec.encode_reply(text) for text in replies(n)] for n in range(EPISODES)]
    forced = Forced([[said[n][turn] for n in range(EPISODES)] for turn in range(CALLS + 1)])
    model = trainer.model
    model.set_attn_implementation("sdpa")  # transformers' own; our engine has put its own in
    plain = type(model).generate

    def generate(**options: Any) -> Any:
        forced.next_round()
        return plain(model, **options, logits_processor=LogitsProcessorList([forced]))

    model.generate = functools.wraps(plain)(generate)
    try:
        prompts = [[{"role": "user", "content": QUESTION.format(n=n // GROUP)}] for n in range(EPISODES)]
        completions: list[list[int]] = trainer._generate(prompts)[1]
        return completions
    finally:
        del model.generate


def compare(rounds: int) -> dict[str, Any]:
    """Play both ways in turn, and return the best wall and CPU time of each and the ratios of every round."""
    model, tokenizer, template = both()
    codec = ChatCodec(tokenizer, template)
    walls: dict[str, list[float]] = {"ours": [], "TRL": [], "sampling": []}
    cpus: dict[str, list[float]] = {"ours": [], "TRL": [], "sampling": []}
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(model, tokenizer, folder)
        model.eval()
        for _ in range(rounds):
            wall, cpu, played = measured(lambda: ours(model, codec))
            walls["ours"].append(wall)
            cpus["ours"].append(cpu)
            wall, cpu, _ = measured(lambda played=played: sampling_alone(model, played))
            walls["sampling"].append(wall)
            cpus["sampling"].append(cpu)
            wall, cpu, found = measured(lambda: theirs(trainer, codec))
            walls["TRL"].append(wall)
            cpus["TRL"].append(cpu)
    for trajectory, ids in zip(played, found, strict=True):
        assert len(trajectory.turns) == CALLS + 1, trajectory.info
        assert [*trajectory.ids[trajectory.turns[0].start :]] == ids
    critical = min(walls["sampling"]) + CALLS * TOOL_S
    return {
        "episodes": EPISODES,
        "sampled_tokens": sum(t.sampled_tokens for t in played),
        "ours_wall_s": min(walls["ours"]),
        "trl_wall_s": min(walls["TRL"]),
        "ours_cpu_s": min(cpus["ours"]),
        "trl_cpu_s": min(cpus["TRL"]),
        "sampling_wall_s": min(walls["sampling"]),
        "sampling_cpu_s": min(cpus["sampling"]),
        "critical_path_s": critical,
        "ratio_wall": ratios(walls["TRL"], walls["ours"]),
        "ratio_cpu": ratios(cpus["TRL"], cpus["ours"]),
        "ours_over_critical_path": min(walls["ours"]) / critical,
    }
