"""The three kinds of failure that are not bugs: the user's, a tool's, and ours.

They are kept apart everywhere. A `UserError` is for the person at the keyboard, a `ToolError` for the
model, and an `InfrastructureError` for neither: the episode ends unjudged.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something the user wrote or gave is wrong: the text says what, what was got, and what to do.

    A command prints the text without a traceback and leaves with exit code 2.
    """


class ToolError(Exception):
    """Raised inside a tool to tell the model something: the text is the observation, without a traceback."""


class InfrastructureError(RuntimeError):
    """Something of ours failed while an episode ran (a sandbox gone, a server down).

    It is never shown to the model and never a verdict: the episode ends, and its score is ungraded.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(kind, reason)
        self.kind = kind
        """The boundary that was crossed: `sandbox`, `tool`, `server` ..."""
        self.reason = reason
        """What happened, for a person."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason}"


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return a clause for an error that names the nearest of `choices`, or lists them if none is near."""
    known = sorted(choices)
    if not known:
        return "there are none"
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if not near:
        lower = {choice.lower(): choice for choice in known}
        near = [lower[key] for key in difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.5)]
    return f"did you mean {near[0]!r}?" if near else f"the choices are: {', '.join(known)}"
