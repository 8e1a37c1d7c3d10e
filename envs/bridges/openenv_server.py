"""Our environments behind an OpenEnv server, for any OpenEnv client.

    python -m quintain.envs.bridges.openenv_server quintain/GuessNumber-v0 --port 8000

An action is `{"text": reply}`; an observation has `text`, `messages` (roles and contents that are new) and the
`task_id` in its metadata. At the end of an episode the metadata holds the `score`: `value`, `graded`, `reason`. An
episode that could not be graded has the reward null, never 0.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ...tools.errors import UserError
from ..base import TextEnv
from ..registry import make
from .foreign import need

if TYPE_CHECKING:
    import fastapi


def openenv_app(env: TextEnv, *, sessions: int = 64) -> fastapi.FastAPI:
    """Return the application that serves `env`; every session plays on a `fresh()` one.

    `reset` takes `seed`, and `task`, the index of a task. At most `sessions` are open at a time.

    Raises `UserError` if `openenv` is missing.
    """
    need("openenv.core")
    if sessions < 1:
        raise UserError(f"sessions must be at least 1, got {sessions}")
    from openenv.core.env_server import Action, Environment, Observation, State, create_fastapi_app

    class TextAction(Action):  # type: ignore[misc, unused-ignore]
        text: str

    class TextObservation(Observation):  # type: ignore[misc, unused-ignore]
        text: str
        messages: list[dict[str, Any]]

    class Session(Environment):  # type: ignore[misc, unused-ignore]
        SUPPORTS_CONCURRENT_SESSIONS = True

        def __init__(self) -> None:
            super().__init__()
            self.env = env.fresh()
            self.now = State()

        def reset(
            self, seed: int | None = None, episode_id: str | None = None, task: int | None = None
        ) -> TextObservation:
            options = None if task is None else {"task": task}
            text, info = self.env.reset(seed=seed, options=options)
            self.now = State(episode_id=episode_id or info["task_id"], step_count=0)
            return TextObservation(
                text=text, messages=info["messages"], metadata={"task_id": info["task_id"]}
            )

        def step(self, action: TextAction, timeout_s: float | None = None) -> TextObservation:
            return self._observed(self.env.step(action.text))

        async def step_async(self, action: TextAction, timeout_s: float | None = None) -> TextObservation:
            return self._observed(await self.env.astep(action.text))

        @property
        def state(self) -> State:
            return self.now

        def close(self) -> None:
            self.env.close()

        def _observed(self, answer: Any) -> TextObservation:
            text, reward, terminated, truncated, info = answer
            self.now.step_count += 1
            metadata: dict[str, Any] = {"task_id": info["task_id"]}
            score = info.get("score")
            if score is not None:
                metadata["score"] = {"value": score.value, "graded": score.graded, "reason": score.reason}
            graded = score is None or score.graded
            return TextObservation(
                text=text,
                messages=info["messages"],
                reward=reward if graded else None,
                done=terminated or truncated,
                metadata=metadata,
            )

    app: fastapi.FastAPI = create_fastapi_app(
        Session, TextAction, TextObservation, max_concurrent_envs=sessions, mode="simulation"
    )
    return app


def serve_openenv(env: TextEnv, *, host: str = "127.0.0.1", port: int = 8000, sessions: int = 64) -> None:
    """Serve `env` until the process is interrupted. Raises `UserError` if `openenv` is missing."""
    app = openenv_app(env, sessions=sessions)
    import uvicorn

    uvicorn.run(app, host=host, port=port, log_level="warning")


def main(arguments: list[str] | None = None) -> None:
    """Serve an environment by id."""
    parser = argparse.ArgumentParser(description="Serve an environment to OpenEnv clients.")
    parser.add_argument("env", help="its id, for example quintain/GuessNumber-v0")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--sessions", type=int, default=64, help="open at a time, at most")
    chosen = parser.parse_args(arguments)
    try:
        serve_openenv(make(chosen.env), host=chosen.host, port=chosen.port, sessions=chosen.sessions)
    except UserError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
