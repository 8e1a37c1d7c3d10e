"""Data and a verifier: one question, one reply, one score."""

from __future__ import annotations

from collections.abc import Sequence

from ..tools.chat import Reply
from ..tools.errors import UserError
from ..verifiers.base import Task, Verifier
from .base import TextEnv, Turn
from .tasks import TaskSet


class SingleTurnEnv(TextEnv):
    """Ask the prompt of a task and judge the first reply.

    tasks = TaskSet.from_file("gsm8k.jsonl", prompt="question", answer="answer")
    env = SingleTurnEnv(tasks, FinalNumber())
    """

    def __init__(
        self,
        tasks: TaskSet | Sequence[Task],
        verifier: Verifier,
        *,
        system_prompt: str | None = None,
        render_mode: str | None = None,
    ) -> None:
        if verifier is None or tasks is None:
            raise UserError(f"{type(self).__name__} needs tasks and a verifier")
        super().__init__(tasks=tasks, verifier=verifier, system_prompt=system_prompt, render_mode=render_mode)

    def respond(self, reply: Reply) -> Turn:
        """End the episode: the verifier judges."""
        return Turn(done=True)
