"""Gymnasium environments whose observations and actions are text."""

from .base import Policy, TextEnv, Turn
from .card import Card
from .curriculum import Curriculum
from .mixture import MixtureEnv
from .registry import list_envs, make, register, register_library
from .single_turn import SingleTurnEnv
from .spaces import TextSpace
from .state import StateError
from .tasks import TaskSet
from .tool_use import ToolEnv
from .vector import TextVectorEnv

__all__ = [
    "TextEnv",
    "Turn",
    "Policy",
    "SingleTurnEnv",
    "ToolEnv",
    "TaskSet",
    "Card",
    "MixtureEnv",
    "Curriculum",
    "TextSpace",
    "TextVectorEnv",
    "StateError",
    "make",
    "register",
    "list_envs",
]

register_library()
