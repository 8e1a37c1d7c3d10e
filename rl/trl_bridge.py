"""Our environments inside TRL's `GRPOTrainer`: as a `rollout_func`, and as an `environment_factory` with tools.

    episodes = TrlEpisodes(env)
    trainer = GRPOTrainer(
        model, reward_funcs=episodes.reward, rollout_func=episodes.rollout, train_dataset=episodes.dataset(500), ...
    )

`TrlEpisodes` plays any environment: our rollout samples from the trainer's model, token by token, and TRL learns from
exactly those tokens. `TrlTools` leaves the playing to TRL's own tool loop and lends it the tools of an environment;
that is for environments whose only moves are tool calls and a final answer.

An episode that we could not grade has the reward None, which TRL leaves out of its group.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..envs.base import TextEnv
from ..envs.bridges.foreign import need
from ..tools.chat import Message, Reply, ToolCall
from ..tools.errors import UserError
from ..verifiers.base import Score
from .chat import ChatCodec
from .config import RolloutConfig
from .engines.base import Engine
from .rollout import Start, rollout
from .seeds import derive
from .trajectory import Trajectory

if TYPE_CHECKING:
    import datasets

_NAME = "quintain-"  # the `name` of a row's first message tells which episode it is
_TYPES: dict[Any, type] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "array": list,
    "object": dict,
}


class TrlEpisodes:
    """An environment as TRL's `rollout_func`, with the data set and the reward that belong to it.

    Args:
        env: The definition; every episode plays on a `fresh()` one.
        turn_tokens: The most tokens of one reply.
        episode_tokens: The most tokens of an episode, the prompt included.
        concurrency: Episodes in flight at the same time.
        seed: Of the episodes and of sampling.
        engine: Samples instead of the trainer's own model, which is the default; it must follow its weights.

    `reward` is the reward function to give to the trainer, and its name is the column of the metrics.
    """

    def __init__(
        self,
        env: TextEnv,
        *,
        turn_tokens: int = 256,
        episode_tokens: int = 1024,
        concurrency: int = 256,
        seed: int = 0,
        engine: Engine | None = None,
    ) -> None:
        self.env = env
        self.limits = RolloutConfig(
            turn_tokens=turn_tokens, episode_tokens=episode_tokens, concurrency=concurrency
        )
        self.seed = seed
        self.engine = engine
        self._calls = 0

    def dataset(self, size: int) -> datasets.Dataset:
        """Return `size` rows, one for an episode: its prompt, and in its first message which one it is.

        Row `i` is the task of index `i` (counted round a set of fewer), or an episode seeded by `i` where the
        environment has no tasks.
        """
        return _dataset([{"prompt": _named(_opening(self.env, self.seed, i), i)} for i in range(size)])

    def rollout(self, prompts: Sequence[Any], trainer: Any) -> dict[str, list[Any]]:
        """Play an episode for every prompt; see `rollout_func` of `GRPOTrainer`.

        Raises `UserError` for prompts that are not rows of `dataset`, and for `use_vllm` without an engine.
        """
        if self.engine is None and getattr(trainer, "use_vllm", False):
            raise UserError("with use_vllm=True give TrlEpisodes an engine=, or leave use_vllm out")
        self._calls += 1
        starts = [
            Start(
                id=f"{self._calls}-{place}",
                group=episode,
                seed=_seed(self.seed, episode),
                task=_task(self.env, episode),
                # Episodes of one group are seeded alike, and sample apart.
                sampler_seed=derive(_seed(self.seed, episode), self._calls, place),
            )
            for place, episode in enumerate(map(_episode, prompts))
        ]
        codec = ChatCodec(trainer.processing_class)
        played = _waited(lambda: self._play(starts, trainer, codec))
        return _columns(played, codec.end_id)

    @staticmethod
    def reward(
        prompts: Any, completions: Any, quintain_score: Sequence[float | None], **columns: Any
    ) -> list[float | None]:
        """Return the scores that `rollout` found; None for an ungraded episode."""
        return list(quintain_score)

    async def _play(self, starts: list[Start], trainer: Any, codec: ChatCodec) -> list[Trajectory]:
        temperature = float(trainer.temperature)
        if self.engine is not None:
            return await rollout(self.env, self.engine, codec, starts, self.limits, temperature=temperature)
        from .engines.transformers import TransformersEngine

        model = trainer.accelerator.unwrap_model(trainer.model)
        training = model.training
        engine = TransformersEngine(model.eval(), max_sessions=self.limits.concurrency)
        try:
            return await rollout(self.env, engine, codec, starts, self.limits, temperature=temperature)
        finally:
            await engine.close()
            model.train(training)


def _columns(played: Sequence[Trajectory], end_id: int) -> dict[str, list[Any]]:
    """Return trajectories as TRL wants them: what came before the first reply is the prompt."""
    columns: dict[str, list[Any]] = {
        name: [] for name in ("prompt_ids", "completion_ids", "logprobs", "env_mask", "quintain_score")
    }
    for trajectory in played:
        cut = trajectory.turns[0].start if trajectory.turns else len(trajectory.ids)
        completion = list(trajectory.ids[cut:])
        # TRL knows one sequence for an episode: one whose template rewrote its history cannot be learned from there.
        graded = trajectory.score.graded and bool(completion) and len(trajectory.samples) == 1
        columns["prompt_ids"].append(list(trajectory.ids[:cut]) or [end_id])
        columns["completion_ids"].append(completion or [end_id])  # TRL looks at the last token of each
        columns["logprobs"].append(list(trajectory.logprobs[cut:]) or [0.0])
        columns["env_mask"].append([int(own) for own in trajectory.mask[cut:]] or [0])
        columns["quintain_score"].append(trajectory.score.value if graded else None)
    return columns


class TrlTools:
    """The tools of an environment as TRL's `environment_factory`.

        tools = TrlTools(env)
        trainer = GRPOTrainer(
            model, reward_funcs=tools.reward, environment_factory=tools.factory, train_dataset=tools.dataset(500), ...
        )

    TRL's loop asks for the calls and runs them one after the other; each is one step of our environment, so its
    `max_turns` counts calls. The final message is judged as the last reply.

    Raises `UserError` for an environment without tools, and for tools whose names TRL keeps for itself.
    """

    def __init__(self, env: TextEnv, *, seed: int = 0) -> None:
        if not env.tools:
            raise UserError(f"{type(env).__name__} has no tools; TrlEpisodes plays environments without")
        for tool in env.tools:
            if tool.name in ("reset", "get_reward") or tool.name.startswith("_"):
                raise UserError(
                    f"TRL takes no tool of the name {tool.name!r}; give it another with Tool(f, name=...)"
                )
        self.env = env
        self.seed = seed
        members = {tool.name: _method(tool) for tool in env.tools}
        self._class = type("Environment", (_ToolEpisode,), members)

    def factory(self) -> Any:
        """Return one environment of TRL's kind: `reset`, and a method for each tool."""
        return self._class(self.env, self.seed)

    def dataset(self, size: int) -> datasets.Dataset:
        """Return `size` rows; the question of each comes from `reset`."""
        rows = []
        for episode in range(size):
            system = [m for m in _opening(self.env, self.seed, episode) if m["role"] == "system"]
            rows.append({"prompt": [*system, {"role": "user", "content": ""}], "episode": episode})
        return _dataset(rows)

    @staticmethod
    def reward(
        prompts: Any, completions: Any, environments: Sequence[Any], **columns: Any
    ) -> list[float | None]:
        """Judge the final message of each completion; None for an ungraded episode."""
        return [
            environment._finish(completion)
            for environment, completion in zip(environments, completions, strict=True)
        ]


class _ToolEpisode:
    """What TRL holds of one episode. Its public methods are what the model may call, so the rest is private."""

    def __init__(self, env: TextEnv, seed: int) -> None:
        self._env = env.fresh()
        self._seed = seed
        self._score: Score | None = None

    def reset(self, episode: int = 0, **row: Any) -> str:
        """Start the episode of a row and return what the model is asked."""
        self._score = None
        self._env.reset(**_reset(self._env, self._seed, episode))
        return "\n\n".join(m["content"] for m in self._env.messages if m["role"] != "system")

    def _call(self, name: str, arguments: dict[str, Any]) -> str:
        if self._score is not None:
            return "Error: the episode is over."
        call = ToolCall("call_0", name, {key: value for key, value in arguments.items() if value is not None})
        return self._step(Reply(self._env.format.render("", None, [call]), content="", tool_calls=[call]))

    def _step(self, reply: Reply) -> str:
        observation, _, terminated, truncated, info = self._env.step(reply)
        if terminated or truncated:
            self._score = info["score"]
        return observation

    def _finish(self, completion: Any) -> float | None:
        if self._score is None:
            last = (
                completion[-1]
                if isinstance(completion, list)
                else {"role": "assistant", "content": completion}
            )
            cut = last["role"] != "assistant" or last.get(
                "tool_calls"
            )  # TRL stopped the loop before an answer
            self._step(Reply("" if cut else str(last.get("content") or "")))
        score = self._score or Score(0.0, reason="TRL ended the episode before the environment did")
        return score.value if score.graded else None


def _method(tool: Any) -> Callable[..., str]:
    """Return a method with the signature and docstring from which TRL makes the tool's schema."""
    name: str = tool.name
    schema = tool.parameters
    wanted = set(schema.get("required", ()))
    properties: dict[str, Any] = schema.get("properties", {})
    hints = {key: _TYPES.get(part.get("type"), str) for key, part in properties.items()}

    def method(self: _ToolEpisode, **arguments: Any) -> str:
        return self._call(name, arguments)

    lines = [f"    {key}: {part.get('description') or key}" for key, part in properties.items()]
    method.__name__ = method.__qualname__ = name
    method.__doc__ = "\n".join([tool.description, "", *(["Args:", *lines, ""] if lines else [])])
    method.__annotations__ = {**hints, "return": str}
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter(
            key, keyword, annotation=hint, default=inspect.Parameter.empty if key in wanted else None
        )
        for key, hint in hints.items()
    ]
    first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    method.__signature__ = inspect.Signature([first, *parameters], return_annotation=str)  # type: ignore[attr-defined]
    return method


# --- which episode a row is


def _seed(seed: int, episode: int) -> int:
    return derive(seed, "trl", episode)


def _task(env: TextEnv, episode: int) -> int | None:
    if env.tasks is None:
        return None
    return episode if env.tasks.size is None else episode % env.tasks.size


def _reset(env: TextEnv, seed: int, episode: int) -> dict[str, Any]:
    task = _task(env, episode)
    return {"seed": _seed(seed, episode) % 2**32, "options": None if task is None else {"task": task}}


def _opening(env: TextEnv, seed: int, episode: int) -> list[Message]:
    own = env.fresh()
    try:
        own.reset(**_reset(own, seed, episode))
        return own.messages
    finally:
        own.close()


def _named(messages: list[Message], episode: int) -> list[dict[str, Any]]:
    first: dict[str, Any] = {**messages[0], "name": f"{_NAME}{episode}"}
    return [first, *({**message} for message in messages[1:])]


def _episode(prompt: Any) -> int:
    try:
        name = prompt[0]["name"]
        return int(name.removeprefix(_NAME))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise UserError(
            f"a prompt must be a row of `TrlEpisodes.dataset`, which says which episode it is, got {prompt!r:.120}"
        ) from None


def _dataset(rows: list[dict[str, Any]]) -> datasets.Dataset:
    need("trl")
    if not rows:
        raise UserError("a data set needs at least one row")
    from datasets import Dataset

    return Dataset.from_list(rows)


def _waited(work: Callable[[], Any]) -> Any:
    """Run asynchronous work to its end: in a thread of its own where this one already has an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work())
    outcome: list[Any] = []
    failure: list[BaseException] = []

    def target() -> None:
        try:
            outcome.append(asyncio.run(work()))
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=target, name="quintain-trl")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]
