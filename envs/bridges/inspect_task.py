"""Our environments as tasks of inspect_ai, for its models, logs and viewer.

    from inspect_ai import eval
    eval(inspect_task(make("quintain/Calculator-v0", split="test"), limit=100), model="openai/gpt-4o")

The solver plays the episode with whatever model inspect has chosen, tools included; the scorer passes on the score.
What we could not grade is `Score.unscored` there: kept in the log, left out of the metrics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...tools.chat import Message
from ...tools.errors import UserError
from ...verifiers.base import Score
from ..base import TextEnv
from .agent_loop import reply_of
from .foreign import need

if TYPE_CHECKING:
    import inspect_ai

_KEPT = "quintain"  # the key of an episode's outcome in the sample's store


def inspect_task(
    env: TextEnv, *, name: str = "quintain", limit: int | None = None, seed: int = 0
) -> inspect_ai.Task:
    """Return `env` as a task: one sample for each of its tasks.

    Args:
        env: The definition; every sample plays on a `fresh()` one.
        name: What inspect calls the task.
        limit: How many samples; needed where the environment has no tasks or endlessly many.
        seed: Samples are the first tasks in order; an environment without tasks plays seeds from here on.

    Raises `UserError` if inspect_ai is missing or `limit` is needed.
    """
    need("inspect_ai")
    from inspect_ai import Task
    from inspect_ai.dataset import MemoryDataset, Sample

    size = None if env.tasks is None else env.tasks.size
    if limit is None and size is None:
        raise UserError("this environment has endlessly many tasks: say how many samples with limit=")
    count = min(part for part in (limit, size) if part is not None)
    if count < 1:
        raise UserError(f"limit must be at least 1, got {limit}")
    samples = []
    for number in range(count):
        opening = env.fresh()
        start = {"seed": seed + number, "task": None if env.tasks is None else number}
        _begin(opening, start)
        assert opening.task is not None
        samples.append(
            Sample(
                input=[_as_inspect(message) for message in opening.messages],
                id=opening.task.id,
                metadata=start,
            )
        )
        opening.close()
    return Task(
        dataset=MemoryDataset(samples, name=name), solver=_solver()(env), scorer=_scorer()(), name=name
    )


def _begin(env: TextEnv, start: dict[str, Any]) -> None:
    env.reset(seed=start["seed"], options=None if start["task"] is None else {"task": start["task"]})


def _solver() -> Any:
    from inspect_ai.model import get_model
    from inspect_ai.solver import Generate, TaskState, solver
    from inspect_ai.tool import ToolInfo

    @solver(name="quintain_episode")  # type: ignore[untyped-decorator, unused-ignore]
    def episode(definition: TextEnv) -> Any:
        async def solve(state: TaskState, generate: Generate) -> TaskState:
            env = definition.fresh()
            try:
                _begin(env, state.metadata)
                state.messages = [_as_inspect(message) for message in env.messages]
                native = env.tools if env.format.native else ()
                tools = [ToolInfo.model_validate(tool.schema["function"]) for tool in native]
                total = 0.0
                while True:
                    state.output = await get_model().generate(state.messages, tools=tools)
                    state.messages.append(state.output.message)
                    if state.output.stop_reason in ("max_tokens", "model_length"):
                        score = Score(min(max(total, 0.0), 1.0), reason="cut by a length limit")
                        break
                    reply = reply_of(env, _as_openai(state.output.message))
                    _, reward, terminated, truncated, info = await env.astep(reply)
                    total += reward
                    state.messages.extend(_answers(info["messages"], state.output.message))
                    if terminated or truncated:
                        score = info["score"]
                        break
            finally:
                env.close()
            state.store.set(
                _KEPT,
                {
                    "value": score.value,
                    "parts": dict(score.parts),
                    "graded": score.graded,
                    "reason": score.reason,
                },
            )
            state.completed = True
            return state

        return solve

    return episode


def _scorer() -> Any:
    from inspect_ai.scorer import Score as InspectScore
    from inspect_ai.scorer import Target, mean, scorer, stderr
    from inspect_ai.solver import TaskState

    @scorer(metrics=[mean(), stderr()], name="quintain_score")  # type: ignore[untyped-decorator, unused-ignore]
    def passed_on() -> Any:
        async def score(state: TaskState, target: Target) -> InspectScore:
            told = state.store.get(_KEPT)
            if told is None:
                return InspectScore.unscored(explanation="the episode was not played to its end")
            if not told["graded"]:
                return InspectScore.unscored(explanation=told["reason"])
            return InspectScore(
                value=told["value"],
                answer=state.output.completion,
                explanation=told["reason"],
                metadata=told["parts"],
            )

        return score

    return passed_on


def _as_inspect(message: Message) -> Any:
    from inspect_ai.model import ChatMessageSystem, ChatMessageTool, ChatMessageUser

    content = message["content"]
    if message["role"] == "system":
        return ChatMessageSystem(content=content)
    if message["role"] == "tool":
        return ChatMessageTool(
            content=content, tool_call_id=message.get("tool_call_id"), function=message.get("name")
        )
    return ChatMessageUser(content=content)


def _as_openai(message: Any) -> dict[str, Any]:
    """Return an assistant's message of inspect in the OpenAI shape."""
    return {
        "content": message.text,
        "tool_calls": [
            {
                "id": call.id,
                # a call that the provider could not read goes on as arguments that nobody can
                "function": {"name": call.function, "arguments": "?" if call.parse_error else call.arguments},
            }
            for call in message.tool_calls or ()
        ],
    }


def _answers(messages: list[Message], replied: Any) -> list[Any]:
    """Return the environment's messages, tool results under the ids that the model gave its calls."""
    ids = iter([call.id for call in replied.tool_calls or ()])
    made = []
    for message in messages:
        answer = _as_inspect(message)
        if message["role"] == "tool":
            answer.tool_call_id = next(ids, answer.tool_call_id)
        made.append(answer)
    return made
