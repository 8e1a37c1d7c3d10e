"""Our environments inside the real `GRPOTrainer`."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import pytest

from quintain.envs import TextEnv, ToolEnv, Turn, make
from quintain.tools import UserError, tool
from quintain.tools.errors import InfrastructureError
from quintain.verifiers import FinalNumber, Task, verifier

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="needs `pip install quintain[train]`"),
]


@tool
def add(a: int, b: int = 0) -> int:
    """Return the sum.

    Args:
        a: One number.
        b: Another.
    """
    return a + b


@verifier
def vowels(reply, task):
    """Something that a random model earns some of."""
    return sum(letter in "aeiou" for letter in reply) / max(len(reply), 1)


class Chatter(TextEnv):
    """Two turns; the second episode of every group cannot be graded if `breaks`."""

    breaks = False

    def begin(self, task: Any) -> str:
        self.said = 0
        self.number = int(self.np_random.integers(1000))
        return f"Say something about {self.number}."

    def respond(self, reply: Any) -> str | Turn:
        self.said += 1
        if self.breaks and len(reply) % 2:
            raise InfrastructureError("sandbox", "gone")
        return "More." if self.said == 1 else Turn("", done=True)


def arguments(tmp_path: Any, **options: Any) -> Any:
    from trl import GRPOConfig

    return GRPOConfig(
        output_dir=str(tmp_path), per_device_train_batch_size=4, num_generations=4, max_steps=2, report_to="none",
        logging_steps=1, save_strategy="no", use_cpu=True, bf16=False, max_completion_length=64, learning_rate=1e-3,
        gradient_checkpointing=False, disable_tqdm=True, **options,
    )  # fmt: skip


@pytest.fixture
def trained(make_model, tokenizer, tmp_path):
    """Train two steps and return the trainer and what each rollout gave."""
    import torch
    from trl import GRPOTrainer

    from quintain.rl.trl_bridge import TrlEpisodes

    def run(env: TextEnv, **options: Any) -> Any:
        episodes = TrlEpisodes(env, turn_tokens=12, episode_tokens=200, **options)
        seen: list[Any] = []

        def rollout(prompts: Any, trainer: Any) -> Any:
            seen.append((prompts, episodes.rollout(prompts, trainer)))
            return seen[-1][1]

        model = make_model()
        head = torch.nn.Linear(model.lm_head.in_features, model.lm_head.out_features)
        head.weight = model.lm_head.weight
        with torch.no_grad():  # so that a model without training ends its replies now and then
            head.bias.zero_()[tokenizer.eos_token_id] = 8.0
        model.lm_head = head
        trainer = GRPOTrainer(
            model.train(), reward_funcs=episodes.reward, rollout_func=rollout, args=arguments(tmp_path),
            train_dataset=episodes.dataset(8), processing_class=tokenizer,
        )  # fmt: skip
        trainer.train()
        return trainer, seen

    return run


def test_rollout_func_trains_on_the_tokens_that_were_sampled(trained, tokenizer):
    trainer, seen = trained(Chatter(verifier=vowels))
    assert trainer.state.global_step == 2
    logged = [row for row in trainer.state.log_history if "reward" in row]
    assert all("rewards/reward/mean" in row for row in logged)
    for prompts, out in seen:
        assert len({prompt[0]["name"] for prompt in prompts}) == 1  # one group of four
        assert len(out["completion_ids"]) == len(prompts) == 4
        for i in range(4):
            ids, mask, logprobs = out["completion_ids"][i], out["env_mask"][i], out["logprobs"][i]
            assert len(ids) == len(mask) == len(logprobs)
            assert mask[0] == 1
            assert all((value == 0.0) == (own == 0) for value, own in zip(logprobs, mask, strict=True))
        assert any(0 in mask for mask in out["env_mask"])  # some went on to a second turn
        assert len({tuple(ids) for ids in out["prompt_ids"]}) == 1
        assert len({tuple(ids) for ids in out["completion_ids"]}) > 1  # siblings sample apart
        number = prompts[0][0]["content"].split()[-1]
        assert number in tokenizer.decode(out["prompt_ids"][0])
    mean = sum(seen[-1][1]["quintain_score"]) / 4
    assert logged[-1]["rewards/reward/mean"] == pytest.approx(mean, abs=1e-6)


def test_the_model_is_left_in_training_mode(trained):
    trainer, _ = trained(Chatter(verifier=vowels))
    assert trainer.model.training


def test_what_could_not_be_graded_is_none_and_training_goes_on(trained):
    class Breaks(Chatter):
        breaks = True

    trainer, seen = trained(Breaks(verifier=vowels))
    scores = [score for _, out in seen for score in out["quintain_score"]]
    assert None in scores
    assert trainer.state.global_step == 2


def test_a_rollout_inside_a_running_event_loop(make_model, tokenizer):
    import asyncio
    from types import SimpleNamespace

    from quintain.rl.trl_bridge import TrlEpisodes

    episodes = TrlEpisodes(make("quintain/Calculator-v0"), turn_tokens=4, episode_tokens=200)
    model = make_model()
    trainer = SimpleNamespace(
        processing_class=tokenizer,
        temperature=1.0,
        model=model,
        accelerator=SimpleNamespace(unwrap_model=lambda m: m),
    )

    async def notebook() -> Any:
        return episodes.rollout(episodes.dataset(2)["prompt"], trainer)

    out = asyncio.run(notebook())
    assert len(out["prompt_ids"]) == 2


def test_prompts_that_are_no_rows_of_ours_are_refused():
    from quintain.rl.trl_bridge import TrlEpisodes

    with pytest.raises(UserError, match=r"a prompt must be a row of `TrlEpisodes\.dataset`"):
        TrlEpisodes(Chatter()).rollout([[{"role": "user", "content": "hi"}]], None)


# --- the tool loop of TRL


TASKS = [Task("1", "What is 17 + 25?", "42"), Task("2", "What is 1 + 1?", "2")]


def played(env: TextEnv, replies: list[str], make_model: Any, tokenizer: Any, tmp_path: Any) -> Any:
    """Let TRL's own loop play, with a script where the model would sample."""
    import copy

    from trl import GRPOTrainer
    from trl.chat_template_utils import qwen3_chat_template

    from quintain.rl.trl_bridge import TrlTools

    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = qwen3_chat_template
    tools = TrlTools(env)
    trainer = GRPOTrainer(
        make_model(context=2048).train(), reward_funcs=tools.reward, environment_factory=tools.factory,
        args=arguments(tmp_path, max_tool_calling_iterations=3), train_dataset=tools.dataset(1),
        processing_class=tokenizer,
    )  # fmt: skip
    trainer.max_completion_length = 1000
    script = iter(replies)
    prompts: list[str] = []

    def generate(prompt_ids: Any, *args: Any, **kwargs: Any) -> Any:
        prompts.append(tokenizer.decode(prompt_ids[0]))
        ids = tokenizer(next(script), add_special_tokens=False)["input_ids"]
        return [list(ids) for _ in prompt_ids], None

    trainer._generate_single_turn = generate
    trainer.args.max_steps = 1
    trainer.train()
    return trainer, prompts


CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 17, "b": 25}}\n</tool_call><|im_end|>'


@pytest.mark.parametrize(("answer", "reward"), [("It is 42.<|im_end|>", 1.0), ("It is 43.<|im_end|>", 0.0)])
def test_environment_factory_lends_the_tools_and_judges_the_final_message(
    make_model, tokenizer, tmp_path, answer, reward
):
    env = ToolEnv(TASKS, [add], FinalNumber(), system_prompt="Be brief.")
    trainer, prompts = played(env, [CALL, answer], make_model, tokenizer, tmp_path)
    assert "Be brief." in prompts[0]
    assert "What is 17 + 25?" in prompts[0]
    assert '"name": "add"' in prompts[0]
    assert "One number." in prompts[0]
    assert "<tool_response>\n42\n</tool_response>" in prompts[1]
    row = next(row for row in trainer.state.log_history if "reward" in row)
    assert row["rewards/reward/mean"] == reward
    assert row["tools/call_frequency"] == 1.0
    assert row["tools/failure_frequency"] == 0.0


def test_a_loop_that_ends_on_a_call_earns_nothing(make_model, tokenizer, tmp_path):
    env = ToolEnv(TASKS, [add], FinalNumber())
    trainer, _ = played(env, [CALL] * 5, make_model, tokenizer, tmp_path)
    row = next(row for row in trainer.state.log_history if "reward" in row)
    assert row["rewards/reward/mean"] == 0.0


def test_a_tool_that_breaks_for_a_reason_of_ours_gives_no_reward():
    from quintain.rl.trl_bridge import TrlTools

    @tool
    def fetch(url: str) -> str:
        """Fetch a page."""
        raise InfrastructureError("server", "down")

    tools = TrlTools(ToolEnv(TASKS, [fetch], FinalNumber()))
    one = tools.factory()
    assert one.reset(episode=0) == "What is 17 + 25?"
    one.fetch(url="x")
    assert tools.reward(None, [[{"role": "assistant", "content": "42"}]], [one]) == [None]


def test_an_instance_is_used_again_and_each_episode_has_its_task():
    from quintain.rl.trl_bridge import TrlTools

    tools = TrlTools(ToolEnv(TASKS, [add], FinalNumber()))
    one = tools.factory()
    assert [one.reset(episode=i) for i in range(3)] == [TASKS[0].prompt, TASKS[1].prompt, TASKS[0].prompt]
    assert one.add(a=1) == "1"
    assert one.add(a="x").startswith("Error: argument 'a'")
    assert tools.reward(None, [[{"role": "assistant", "content": "42"}]], [one]) == [1.0]


def test_names_that_trl_keeps_and_environments_without_tools_are_refused():
    from quintain.rl.trl_bridge import TrlTools

    @tool
    def reset() -> str:
        """Start again."""
        return ""

    with pytest.raises(UserError, match="TRL takes no tool of the name 'reset'"):
        TrlTools(ToolEnv(TASKS, [reset], FinalNumber()))
    with pytest.raises(UserError, match="Chatter has no tools; TrlEpisodes plays environments without"):
        TrlTools(Chatter())


def test_without_trl_it_says_what_to_install(monkeypatch):
    from quintain.rl.trl_bridge import TrlEpisodes

    monkeypatch.setitem(sys.modules, "trl", None)
    with pytest.raises(UserError, match=r'pip install "trl>=1.16,<2", or pip install "quintain\[train\]"'):
        TrlEpisodes(Chatter()).dataset(1)
