"""What the bridges into Quintain share: finding a library, its randomness, its rewards and its failures.

Three rules hold for every foreign environment:

- *Failures.* What a library raises inside an episode is an `InfrastructureError`: the episode is ungraded.
- *Rewards.* An episode is paid once, at its end: the sum of the library's rewards, mapped from `scale` to [0, 1] and
  cut there. The sum itself is the part `return` of the score, and `info["step_reward"]` is what the library paid for
  a step. A reward that is not a finite number is a failure of the library.
- *Randomness.* Several libraries draw from the generators of the whole process. Each episode has a state of its own
  for those, put in place for the length of a call and taken out again: episodes do not disturb one another, nor the
  rest of the program, and the same seed gives the same episode.
"""

from __future__ import annotations

import importlib
import math
import random
import re
import threading
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...tools.chat import Message, Reply, ToolCall
from ...tools.errors import InfrastructureError, UserError
from ...tools.formats import ToolFormat
from ...tools.formats.base import Written
from ...tools.tool import Tool
from ...verifiers.base import Score, Task
from ..base import TextEnv, Turn
from ..tasks import TaskSet

REQUIREMENTS = {
    "reasoning_gym": "reasoning-gym>=0.1.19,<0.2",
    "textarena": "textarena>=0.7.3,<0.8",
    "gem": "gem-llm>=0.1,<0.2",
    "skyrl_gym": "skyrl-gym>=0.3,<0.5",
    "openenv.core": "openenv>=0.10,<0.11",
    "inspect_ai": "inspect-ai>=0.3.270,<0.4",
    "trl": "trl>=1.16,<2",
}
"""What each bridge was tested against, by the module it imports; the extra `bridges` holds the same."""

SPLITS = ("train", "validation", "test")
"""The splits of a foreign environment. The seeds of one never belong to another."""

_SEEDS = 2**31  # below what every library takes as a seed
_whole_process = threading.RLock()  # who holds it has put its state into the generators of the process


def need(module: str) -> Any:
    """Import a foreign library. Raises `UserError` saying what to install if it is missing or does not load."""
    requirement = REQUIREMENTS[module.partition(":")[0]]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = f"this bridge needs the package {requirement.partition('>')[0]}, which cannot be imported"
        extra = "train" if module == "trl" else "bridges"
        raise UserError(
            f'{missing} ({error}): pip install "{requirement}", or pip install "quintain[{extra}]"'
        ) from error


@contextmanager
def boundary(library: str, what: str) -> Iterator[None]:
    """Turn whatever a library raises into an `InfrastructureError` of the kind `library`."""
    try:
        yield
    except (InfrastructureError, UserError):
        raise
    except Exception as error:
        reason = f"{what}: {type(error).__name__}: {error}"
        raise InfrastructureError(library, reason[:2000]) from error


@contextmanager
def construction(library: str, what: str) -> Iterator[None]:
    """Turn whatever a library raises while an environment is made into a `UserError`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        told = next((line.strip() for line in str(error).splitlines() if any(map(str.isalpha, line))), "")
        raise UserError(f"{library}: {what} cannot be made: {type(error).__name__}: {told[:500]}") from error


class Randomness:
    """The state that one episode has in the generators of the process (`random` and NumPy's old global one)."""

    def __init__(self, seed: int) -> None:
        self._python = random.Random(seed).getstate()
        self._numpy = np.random.RandomState(seed % 2**32).get_state()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Put the state in place; afterwards keep how far it got, and restore what was there."""
        with _whole_process:
            python, numpy = random.getstate(), np.random.get_state()
            random.setstate(self._python)
            np.random.set_state(self._numpy)
            try:
                yield
            finally:
                self._python, self._numpy = random.getstate(), np.random.get_state()
                random.setstate(python)
                np.random.set_state(numpy)


def env_id(library: str, name: str) -> str:
    """Return the id of a library's environment; what means something else in an id becomes a dot."""
    return f"{library}/{re.sub(r'[^A-Za-z0-9_.-]', '.', name)}"


def split_seed(rng: np.random.Generator, split: str) -> int:
    """Draw a seed in [0, 2**31) that belongs to `split` alone. Raises `UserError` for an unknown split."""
    if split not in SPLITS:
        raise UserError(f"there is no split {split!r}; the choices are: {', '.join(SPLITS)}")
    return int(rng.integers(_SEEDS // len(SPLITS))) * len(SPLITS) + SPLITS.index(split)


def seeds_as_tasks(name: str, split: str, seed: int) -> TaskSet:
    """Return an endless set of tasks that hold nothing but the seed of an episode (`info["seed"]`)."""
    if split not in SPLITS:
        raise UserError(f"{name}: there is no split {split!r}; the choices are: {', '.join(SPLITS)}")

    def make(rng: np.random.Generator, index: int) -> Task:
        return Task("", "", info={"seed": split_seed(rng, split)})

    return TaskSet.generated(make, name=name, split=split, seed=seed)


class Verbatim(ToolFormat):
    """A format without tool calls: the reply goes to the library as it is, reasoning taken out."""

    @property
    def form(self) -> str:
        """There are no calls to write."""
        return "Write no tool calls."

    def read(self, text: str, tools: Sequence[Tool]) -> tuple[str, list[Written]]:
        """Return the text."""
        return text.strip(), []

    def write(self, content: str, calls: Sequence[ToolCall]) -> str:
        """Return the text."""
        return content


@dataclass(frozen=True, slots=True)
class Said:
    """What a foreign environment answered to an action."""

    text: str | Sequence[Message]
    """What the model sees next."""
    reward: float = 0.0
    """What the library paid for the step."""
    done: bool = False
    """Whether the episode is over, by its rules or by a limit of the library."""


@dataclass(slots=True)
class World:
    """What belongs to one episode: the foreign environment, its randomness, and what it has paid."""

    env: Any
    randomness: Randomness
    paid: float = 0.0


class ForeignEnv(TextEnv):
    """A `TextEnv` played by an environment of another library. A bridge writes `open` and `play`.

    Args:
        scale: The return (sum of rewards) that is worth 0, and the one that is worth 1.
        tasks: Its tasks; `info["seed"]` of one seeds its episode, otherwise the environment's generator does.
        max_turns: Replies until we end the episode; None leaves that to the library.
        system_prompt: A system message before what the library says.
        render_mode: None or "ansi".
    """

    library = "foreign"
    """What failures and cards call the library."""

    def __init__(
        self,
        *,
        scale: Sequence[float] = (0.0, 1.0),
        tasks: TaskSet | None = None,
        max_turns: int | None = None,
        system_prompt: str | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.low, self.high = _bounds(scale, type(self).__name__)
        super().__init__(
            tasks=tasks,
            max_turns=max_turns,
            system_prompt=system_prompt,
            format=Verbatim(),
            render_mode=render_mode,
        )

    # --- what a bridge writes; both may raise anything, and run with the episode's randomness in place

    @abstractmethod
    def open(self, task: Task, seed: int) -> tuple[Any, str | Sequence[Message]]:
        """Return a foreign environment in a new episode, and what it says first."""

    @abstractmethod
    def play(self, env: Any, action: str) -> Said:
        """Give the foreign environment a reply."""

    # --- the contract of `TextEnv`

    def begin(self, task: Task) -> str | Sequence[Message]:
        """Start an episode of the library."""
        own = task.info.get("seed")
        seed = int(self.np_random.integers(_SEEDS)) if own is None else int(own)
        randomness = Randomness(seed)
        with boundary(self.library, "an episode cannot be started"), randomness.installed():
            env, said = self.open(task, seed)
        self.world = World(env, randomness)
        return said

    def respond(self, reply: Reply) -> Turn:
        """Let the library answer."""
        world = self.world
        with boundary(self.library, "a step failed"), world.randomness.installed():
            return self.paid(self.play(world.env, reply.content))

    def paid(self, said: Said) -> Turn:
        """Return what the library said as a `Turn`, its reward added to the books."""
        reward = number(said.reward, self.library)
        self.world.paid += reward
        text = said.text if said.text or said.done else "(The environment says nothing.)"
        return Turn(
            text,
            done=bool(said.done),
            score=scaled(self.world.paid, self.low, self.high, self.library),
            info={"step_reward": reward},
        )


def number(reward: Any, library: str) -> float:
    """Return a foreign reward as a float; None is 0. Raises `InfrastructureError` if it is not a finite number."""
    try:
        value = 0.0 if reward is None else float(reward)
    except (TypeError, ValueError):
        raise InfrastructureError(library, f"the reward is no number: {reward!r:.100}") from None
    if not math.isfinite(value):
        raise InfrastructureError(library, f"the reward is {value}, which is no finite number")
    return value


def scaled(total: float, low: float, high: float, library: str) -> Score:
    """Return the score of a return: linear from `low` (0) to `high` (1), cut there."""
    if not math.isfinite(total):
        raise InfrastructureError(library, f"the return is {total}, which is no finite number")
    value = min(max((total - low) / (high - low), 0.0), 1.0)
    return Score(value, parts={"return": total}, reason=f"{library} paid {total:g} of {low:g} to {high:g}")


def _bounds(scale: Sequence[float], name: str) -> tuple[float, float]:
    try:
        low, high = (float(bound) for bound in scale)
    except (TypeError, ValueError):
        raise UserError(f"{name}: scale must be two numbers, low and high, got {scale!r}") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"{name}: scale must be two finite numbers, the smaller first, got {scale!r}")
    return low, high
