"""Environments of skyrl-gym: `skyrl-gym/gsm8k-v0` with rows of your own, in the form that SkyRL trains on.

A row has `prompt` (messages, or a text), `reward_spec` (`{"ground_truth": ...}`) and whatever else its environment
reads (`extra_info`, `max_turns` ...).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...tools.chat import Message
from ...tools.errors import UserError, nearest
from ...verifiers.base import Task
from ..card import Card
from ..registry import register
from ..rows import Row
from ..tasks import TaskSet
from .foreign import ForeignEnv, Said, construction, need

LIBRARY = "skyrl-gym"
_RUN_CODE = frozenset({"lcb", "searchcode"})  # give what the model wrote to Python, in no sandbox


class SkyRLGym(ForeignEnv):
    """One environment of skyrl-gym, about rows of the user's, with its rewards as it pays them (see `foreign`).

    Args:
        name: skyrl-gym's own id, for example "gsm8k".
        path: A .jsonl or .parquet file of rows.
        rows: The rows themselves, instead of a file.
        env_config: The environment's configuration, as `env_config`.
        runs_code: Must be True for an environment that runs the model's code in this machine's Python, unguarded.
        limit: Use only the first so many rows.
        scale: The return that is worth 0, and the one that is worth 1.
        max_turns: Replies until we end the episode; None leaves that to the environment.
        render_mode: None or "ansi".

    Raises `UserError` if the library is missing or has no such environment, and for rows that it does not take.
    """

    library = LIBRARY

    def __init__(
        self,
        name: str,
        *,
        path: str | None = None,
        rows: Sequence[Row] | None = None,
        env_config: Mapping[str, Any] | None = None,
        runs_code: bool = False,
        limit: int | None = None,
        scale: Sequence[float] = (0.0, 1.0),
        max_turns: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        need("skyrl_gym")
        known = _registry()
        if name not in known:
            raise UserError(f"{LIBRARY} has no environment {name!r}; {nearest(name, known)}")
        if name in _RUN_CODE and not runs_code:
            raise UserError(
                f"{LIBRARY}/{name} runs what the model wrote in this machine's Python, in no sandbox: "
                "say runs_code=True if that is what you want"
            )
        if (path is None) == (rows is None):
            raise UserError(f"{LIBRARY}/{name} needs rows: give path= (a .jsonl or .parquet file) or rows=")
        self.name = name
        self.env_config = dict(env_config or {})
        if path is not None:
            tasks = TaskSet.from_file(path, prompt=_prompt, answer=None, limit=limit)
            rows_name = Path(path).name
        else:
            assert rows is not None
            tasks = TaskSet.from_rows(rows, prompt=_prompt, answer=None, limit=limit)
            rows_name = "rows"
        with construction(LIBRARY, f"{name} on row 1 of {rows_name}"):
            self._made(tasks[0])
        super().__init__(scale=scale, tasks=tasks, max_turns=max_turns, render_mode=render_mode)
        self.card = Card(
            what=f"skyrl-gym's {name}, on rows of the user's.",
            reward=f"The environment's rewards, summed and mapped from {self.low:g}..{self.high:g} to 0..1.",
            difficulty="That of the rows.",
            oracle="None: the library has none.",
            source=f"skyrl-gym, Apache-2.0; rows of {rows_name}",
            tags=(LIBRARY,),
        )

    def open(self, task: Task, seed: int) -> tuple[Any, Sequence[Message]]:
        """Make the environment of a row."""
        env = self._made(task)
        prompt = task.info["prompt"]
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
        opening, _ = env.init([dict(message) for message in messages])
        return env, opening

    def play(self, env: Any, action: str) -> Said:
        """Step."""
        out = env.step(action)
        return Said(list(out["observations"]), out["reward"], bool(out["done"]))

    def _made(self, task: Task) -> Any:
        extras = {key: value for key, value in task.info.items() if key != "prompt"}
        return need("skyrl_gym").make(self.name, env_config=dict(self.env_config), extras=extras)


def _prompt(row: Row) -> str:
    prompt = row["prompt"]
    if isinstance(prompt, str):
        return prompt
    return "\n\n".join(str(message["content"]) for message in prompt if message["role"] != "system")


def _registry() -> Mapping[str, Any]:
    from skyrl_gym.envs.registration import registry

    known: Mapping[str, Any] = registry
    return known


def register_family() -> None:
    """Register every environment of skyrl-gym as `skyrl-gym/NAME-v0`. Raises `UserError` if it is missing."""
    need("skyrl_gym")
    for name in _registry():
        register(f"{LIBRARY}/{name}-v0", "quintain.envs.bridges.skyrl_gym:SkyRLGym", {"name": name})
