"""Quintain: reinforcement learning with verifiable rewards for language models that use tools.

The names below are all one needs to define an environment, judge what a model did in it and train on that.
They load when they are first used: `import quintain` itself loads nothing else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .envs.audit import audit
    from .envs.base import TextEnv
    from .envs.registry import make
    from .envs.single_turn import SingleTurnEnv
    from .envs.tasks import TaskSet
    from .envs.tool_use import ToolEnv
    from .rl.config import Config, load_config
    from .rl.train import train
    from .rl.trajectory import Trajectory
    from .tools.chat import Message, Reply
    from .tools.errors import UserError
    from .tools.tool import Tool, tool
    from .verifiers.base import Score, Task, Verifier, verifier

__version__ = "0.1.0"

_HOMES = {
    "make": "envs",
    "TextEnv": "envs",
    "SingleTurnEnv": "envs",
    "ToolEnv": "envs",
    "TaskSet": "envs",
    "audit": "envs.audit",
    "Task": "verifiers.base",
    "Score": "verifiers.base",
    "Verifier": "verifiers.base",
    "verifier": "verifiers.base",
    "Tool": "tools.tool",
    "tool": "tools.tool",
    "Message": "tools.chat",
    "Reply": "tools.chat",
    "UserError": "tools.errors",
    "Config": "rl.config",
    "load_config": "rl.config",
    "train": "rl.train",
    "Trajectory": "rl.trajectory",
}

__all__ = [
    "make",
    "TextEnv",
    "SingleTurnEnv",
    "ToolEnv",
    "Task",
    "TaskSet",
    "audit",
    "Score",
    "Verifier",
    "verifier",
    "Tool",
    "tool",
    "Message",
    "Reply",
    "UserError",
    "Config",
    "load_config",
    "train",
    "Trajectory",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its home on first use."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *__all__})
