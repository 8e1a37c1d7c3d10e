"""The contract of every environment: `TextEnv`, the one class that users subclass.

A `TextEnv` is a `gymnasium.Env` whose observations and actions are text. It keeps the books of an episode (the
conversation, the turns, the score), so that a subclass only says how an episode begins and what is answered to a
reply. What a subclass returns is checked here, once, for everybody above.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, Self

import gymnasium
import numpy as np

from ..tools.chat import Message, Reply, ToolCall
from ..tools.chat import system as system_message
from ..tools.errors import InfrastructureError, UserError
from ..tools.formats import ToolFormat, format_named
from ..tools.schema import Function
from ..tools.tool import Tool, as_tools
from ..verifiers.base import Episode, Score, Task, Verifier
from . import state as states
from .card import Card
from .choice import chosen
from .spaces import TextSpace
from .tasks import TaskSet
from .transcript import as_messages, text_of, transcribed
from .turn import Turn as Turn
from .turn import checked

Answer = tuple[str, float, bool, bool, dict[str, Any]]
"""What `step` returns: observation, reward, terminated, truncated, info."""

Policy = Callable[[Task, Sequence[Message], np.random.Generator], str]
"""Writes the next reply from the task (answer included: it is for oracles and demonstrators) and the conversation."""


class Closable(Protocol):
    """Anything that an environment opened and has to close."""

    def close(self) -> None:
        """Free it; closing twice is fine."""
        ...


@dataclass(slots=True)
class Books:
    """What the base class keeps of one episode."""

    task: Task
    log: list[Message | Reply]  # a reply becomes a message when somebody asks for it
    turns: int = 0
    calls: int = 0
    reward: float = 0.0
    over: bool = False

    @property
    def messages(self) -> list[Message]:
        """The conversation so far, a new list."""
        return [entry.as_message() if isinstance(entry, Reply) else entry for entry in self.log]


class TextEnv(gymnasium.Env[str, str]):
    """An environment whose observations and actions are text. Subclass it and write `begin` and `respond`:

        class GuessNumber(TextEnv):
            def begin(self, task):
                self.secret = int(self.np_random.integers(1, 101))
                return "I think of a whole number from 1 to 100. Guess it."

            def respond(self, reply):
                guess = reply.content.strip()
                if not guess.isdecimal():
                    return "Write a whole number and nothing else."
                if int(guess) == self.secret:
                    return Turn("Right.", reward=1.0, done=True)
                return "Too low." if int(guess) < self.secret else "Too high."

        env = GuessNumber(max_turns=8)
        observation, info = env.reset(seed=1)
        observation, reward, terminated, truncated, info = env.step("50")

    Rules for subclasses: set the state of an episode in `begin`, every attribute anew, and nowhere else (`fresh`
    shares the rest between copies; what `begin` and `respond` set is what `get_state` captures); draw randomness
    only from `self.np_random`; answer a senseless reply with a text that says what is wanted, instead of raising.
    Both methods may raise `InfrastructureError`.

    Args:
        tasks: The problems; an episode is about one of them. None for a game that makes its own.
        verifier: Judges the finished episode. None where `respond` gives the rewards.
        tools: What the model may call. It learns of them from its chat template, see `ToolEnv`.
        system_prompt: Content of a system message before the first user message.
        max_turns: Replies until the episode is truncated, None for no limit.
        format: How tool calls are written: a name ("hermes", "llama3", ...; see `tools.formats`) or a `ToolFormat`,
            default `Hermes`.
        render_mode: None, or "ansi": `render` then returns the conversation so far.

    `info` holds `task_id` and `messages`, the messages that are new to the model; after a step also `reply`, the
    reply as it was read; at the end of an episode `score`. An ungraded score has reward 0.0 and must be left out
    of every statistic.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012 - declared so by Gymnasium

    card: Card | None = None
    """What it is, what it pays for and where it comes from; every environment of the library has one."""

    oracle: Policy | None = None
    """A policy that solves every task, if there is one: for tests and audits."""

    demonstrator: Policy | None = None
    """A policy whose episodes a model can be warmed up on; it need not be good at it."""

    _apart = frozenset(
        {
            "_books", "_judged_episode", "_judged_s", "_np_random", "_np_random_seed", "_episodes", "_definition",
            "_opened", "observation_space", "action_space", "spec", "render_mode",
        }
    )  # fmt: skip
    """Attributes that are no part of a state, or are kept in it by themselves."""

    def __init__(
        self,
        *,
        tasks: TaskSet | Sequence[Task] | None = None,
        verifier: Verifier | None = None,
        tools: Sequence[Tool | Function] = (),
        system_prompt: str | None = None,
        max_turns: int | None = None,
        format: ToolFormat | str | None = None,  # noqa: A002 - the name of the contract
        render_mode: str | None = None,
    ) -> None:
        name = type(self).__name__
        if max_turns is not None and (
            isinstance(max_turns, bool) or not isinstance(max_turns, int) or max_turns < 1
        ):
            raise UserError(f"{name}: max_turns must be at least 1 or None, got {max_turns!r}")
        if render_mode not in (None, "ansi"):
            raise UserError(f"{name}: render_mode must be None or 'ansi', got {render_mode!r}")
        if verifier is not None and not isinstance(verifier, Verifier):
            raise UserError(
                f"{name}: verifier must be a Verifier, got {type(verifier).__name__}; "
                "make one of a function with `@verifier`"
            )
        self.tasks = tasks if tasks is None or isinstance(tasks, TaskSet) else TaskSet(tasks)
        if self.tasks is not None:
            self.tasks.check(verifier)
        self.verifier = verifier
        self.tools: tuple[Tool, ...] = as_tools(tools)
        self.system_prompt = system_prompt
        self.max_turns = max_turns
        self.format: ToolFormat = format_named(format)
        self.render_mode = render_mode
        self.observation_space = TextSpace()
        self.action_space = TextSpace()
        self._opened: list[Closable] = []
        self._books: Books | None = None
        self._judged_episode: Episode | None = None
        self._judged_s = 0.0
        self._episodes = 0
        self._definition: Mapping[str, Any] | None = None

    # --- what a subclass writes

    def begin(self, task: Task) -> str | Sequence[Message]:
        """Start an episode and return what the model is asked; as it stands, the prompt of the task."""
        return task.prompt

    def respond(self, reply: Reply) -> str | Turn:
        """Answer a reply with a text, or with a `Turn` that also has a reward or an end."""
        raise UserError(f"{type(self).__name__} must define `respond(self, reply)`: return a text or a Turn")

    async def arespond(self, reply: Reply) -> str | Turn:
        """Answer a reply without blocking the event loop; as it stands, `respond` inline."""
        return self.respond(reply)

    def judged(self, reply: Reply) -> Reply:
        """Return what the verifier is to see as the model's last reply; as it stands, the reply itself."""
        return reply

    def evidence(self) -> Mapping[str, Any]:
        """Return what the verifier may see of the world besides the conversation (files, rows, a board).

        Called once, at the end of an episode, where there is a verifier. Plain JSON data that the environment read
        itself, never something that the model's code reported.
        """
        return {}

    async def aevidence(self) -> Mapping[str, Any]:
        """Return the same without blocking the event loop; as it stands, `evidence` inline."""
        return self.evidence()

    def finish(self) -> None:
        """Free what the episode held. Called once when an episode ends in `step`, after it has been judged."""

    async def afinish(self) -> None:
        """Do the same when it ends in `astep`; as it stands, `finish` inline."""
        self.finish()

    # --- the contract

    @property
    def task(self) -> Task | None:
        """The task of the episode; None before the first `reset`."""
        return None if self._books is None else self._books.task

    @property
    def judged_episode(self) -> Episode | None:
        """The episode as the verifier saw it, evidence included; None if none has judged it (yet)."""
        return self._judged_episode

    @property
    def judged_s(self) -> float:
        """Seconds of wall clock that the verifier has taken in this episode, evidence included."""
        return self._judged_s

    @property
    def schemas(self) -> list[dict[str, Any]]:
        """The tools as a chat template or a server wants them; none where the format writes them into the prompt."""
        return [tool.schema for tool in self.tools] if self.format.native else []

    @property
    def messages(self) -> list[Message]:
        """The conversation so far, a new list."""
        return [] if self._books is None else self._books.messages

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start an episode and return what the model sees first, and `info`.

        `options={"task": t}` starts the very task `t`, an index or a `Task`; otherwise one is drawn, with
        `options={"difficulty": d}` of that difficulty: a number, a label, or `[lowest, highest]`. A group of
        episodes that are to be compared gets the same task and the same `seed`.

        Raises `UserError` for an unknown option, and a task or a difficulty that does not exist.
        """
        super().reset(seed=seed)
        if self._definition is None:
            self._definition = dict(self.__dict__)  # what differs from it later belongs to the episode
        self._episodes = 1 if seed is not None else self._episodes + 1
        task = chosen(options or {}, self.tasks, self.np_random, type(self).__name__)
        if task is None:
            task = Task(f"seed-{self.np_random_seed}-{self._episodes}", "")
        opening = as_messages(self.begin(task), f"{type(self).__name__}.begin")
        if not opening:
            raise UserError(
                f"{type(self).__name__}.begin must return what the model is asked, got an empty text"
            )
        if not task.prompt:
            task = Task(task.id, text_of(opening), task.answer, task.info)
        if self.system_prompt is not None:
            opening.insert(0, system_message(self.system_prompt))
        self._books, self._judged_episode, self._judged_s = Books(task, list(opening)), None, 0.0
        return text_of(opening), {"task_id": task.id, "messages": opening}

    def step(self, action: str) -> Answer:
        """Give the environment a reply; see `gymnasium.Env.step`. Any text is answered, none raises.

        Raises `gymnasium.error.ResetNeeded` before the first `reset` and after the end of an episode.
        """
        books, reply = self._take(action)
        try:
            said = self.respond(reply)
            if said.__class__ is str and said and books.turns != self.max_turns:  # most steps of most games
                return self._go_on(books, reply, said)
            turn = checked(said, self)
            score = turn.score
            if score is None and self.verifier is not None and self._ends(books, turn):
                score = self._judge(self.verifier, books, reply)
            answer = self._answer(books, reply, turn, score)
        except InfrastructureError as failure:
            answer = self._broken(books, reply, failure)
        if books.over:
            self.finish()
        return answer

    async def astep(self, action: str) -> Answer:
        """Do what `step` does without blocking the event loop: episodes, and calls of one reply, overlap."""
        if type(self).step is not TextEnv.step:
            return self.step(action)
        books, reply = self._take(action)
        try:
            said = await self.arespond(reply)
            if said.__class__ is str and said and books.turns != self.max_turns:
                return self._go_on(books, reply, said)
            turn = checked(said, self)
            score = turn.score
            if score is None and self.verifier is not None and self._ends(books, turn):
                score = await self._ajudge(self.verifier, books, reply)
            answer = self._answer(books, reply, turn, score)
        except InfrastructureError as failure:
            answer = self._broken(books, reply, failure)
        if books.over:
            await self.afinish()
        return answer

    def parse(self, text: str) -> Reply:
        """Read a reply as `step` will, with call ids that are unique in the episode."""
        calls = 0 if self._books is None else self._books.calls
        if not isinstance(text, Reply):
            if not text.isascii():  # lone surrogates: no tokenizer, no file takes them
                text = text.encode("utf-8", "replace").decode()
            return self.format.parse(text, calls, self.tools)
        if calls and text.tool_calls:
            numbered = [
                ToolCall(f"call_{i}", call.name, call.arguments)
                for i, call in enumerate(text.tool_calls, calls)
            ]
            return Reply(text, content=text.content, reasoning=text.reasoning, tool_calls=numbered)
        return text

    def fresh(self) -> Self:
        """Return another environment of the same definition, in no episode and with a generator of its own.

        Tasks, verifier, tools and what they hold open are shared: a copy costs microseconds, and closing it
        closes nothing.
        """
        other = copy.copy(self)
        other._np_random = None
        other._np_random_seed = None
        other._books = None
        other._judged_episode = None
        other._judged_s = 0.0
        other._episodes = 0
        other._opened = []
        other.observation_space = copy.copy(self.observation_space)
        other.action_space = copy.copy(self.action_space)
        return other

    def get_state(self) -> dict[str, Any]:
        """Return the episode as plain data: the books, the generator, and every attribute that the episode has set.

        The state is a copy, can be pickled, and goes through JSON where the attributes of the subclass do. What
        the definition shares (tasks, tools, verifier) is not part of it.

        Raises `StateError` naming the attribute for one that cannot be copied, such as an open sandbox, and
        `gymnasium.error.ResetNeeded` before the first `reset`.
        """
        return states.capture(self)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on where `get_state` was called, on this environment or another of the same definition (`fresh`).

        The state is copied: many branches may start from the same one. Raises `StateError` if it is the state of
        another environment.
        """
        states.restore(self, state)

    def __deepcopy__(self, memo: dict[Any, Any]) -> Self:
        """Return a branch: a fresh environment in the same state."""
        other = self.fresh()
        memo[id(self)] = other
        if self.task is not None:
            other.set_state(self.get_state())
        return other

    def render(self) -> str | None:
        """Return the conversation so far as text if `render_mode` is "ansi", else None."""
        if self.render_mode is None or self._books is None:
            return None
        return "\n\n".join(transcribed(message) for message in self._books.messages)

    def close(self) -> None:
        """Free what this environment opened itself. Closing twice is fine."""
        while self._opened:
            self._opened.pop().close()

    async def aclose(self) -> None:
        """Do what `close` does without blocking the event loop; as it stands, `close` inline."""
        self.close()

    # --- the books

    def _take(self, action: str) -> tuple[Books, Reply]:
        books = self._books
        if books is None or books.over or not isinstance(action, str):
            self._refuse(action)
        reply = self.parse(action)
        books.log.append(reply)
        books.turns += 1
        if reply.tool_calls:
            books.calls += len(reply.tool_calls)
        return books, reply

    def _refuse(self, action: Any) -> NoReturn:
        if self._books is None or self._books.over:
            state = "has not started" if self._books is None else "is over"
            raise gymnasium.error.ResetNeeded(f"the episode {state}: call reset() before step()")
        raise UserError(f"an action must be text (str), got {type(action).__name__}")

    def _go_on(self, books: Books, reply: Reply, text: str) -> Answer:
        message: Message = {"role": "user", "content": text}
        books.log.append(message)
        return text, 0.0, False, False, {"task_id": books.task.id, "messages": [message], "reply": reply}

    def _ends(self, books: Books, turn: Turn) -> bool:
        return turn.done or (self.max_turns is not None and books.turns >= self.max_turns)

    def _judge(self, verifier: Verifier, books: Books, reply: Reply) -> Score:
        began = time.monotonic()
        try:
            return verifier(self._episode(books, reply, self.evidence()))
        finally:
            self._judged_s += time.monotonic() - began

    async def _ajudge(self, verifier: Verifier, books: Books, reply: Reply) -> Score:
        began = time.monotonic()
        try:
            return await verifier.acall(self._episode(books, reply, await self.aevidence()))
        finally:
            self._judged_s += time.monotonic() - began

    def _episode(self, books: Books, reply: Reply, evidence: Any) -> Episode:
        if not isinstance(evidence, Mapping):
            name = type(self).__name__
            raise UserError(
                f"{name}.evidence must return a mapping, got {type(evidence).__name__}; see `aevidence`"
            )
        self._judged_episode = Episode(books.task, self.judged(reply), tuple(books.messages), evidence)
        return self._judged_episode

    def _answer(self, books: Books, reply: Reply, turn: Turn, score: Score | None) -> Answer:
        new = as_messages(turn.text, f"{type(self).__name__}.respond")
        books.log.extend(new)
        info: dict[str, Any] = {"task_id": books.task.id, "messages": new, "reply": reply, **turn.info}
        reward = float(turn.reward)
        books.over = self._ends(books, turn)
        if not new and not books.over:
            raise UserError(
                f"{type(self).__name__}.respond must answer something or end the episode, got an empty text"
            )
        if books.over and score is not None:
            reward += score.value
            if not score.graded:
                reward = 0.0
        books.reward += reward
        if books.over:
            info["score"] = _of_rewards(books.reward) if score is None else score
        return text_of(new), reward, turn.done, books.over and not turn.done, info

    def _broken(self, books: Books, reply: Reply, failure: InfrastructureError) -> Answer:
        books.over = True
        info: dict[str, Any] = {"task_id": books.task.id, "messages": [], "reply": reply}
        info["score"] = Score.ungraded(f"infrastructure: {failure}")
        return "", 0.0, False, True, info


def _of_rewards(total: float) -> Score:
    """Return the score of an episode without verifier: the sum of its rewards, within [0, 1]."""
    return Score(min(max(total, 0.0), 1.0), parts={"return": total}, reason="the sum of the rewards")
