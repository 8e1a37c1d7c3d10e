"""*Contract*: it is a Gymnasium environment, and copies are worth what they promise."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator

from gymnasium.utils.env_checker import check_env

from ..base import TextEnv
from .findings import Finding, Severity
from .subject import Subject
from .within import TookTooLong, within

_COLOURS = re.compile(r"\x1b\[\d*m")


class Contract:
    """Runs Gymnasium's own checker on a new environment, and looks at the card."""

    name = "contract"
    promise = "Gymnasium's `check_env` finds nothing, and the environment describes itself"

    def run(self, subject: Subject) -> Iterator[Finding]:
        """Check."""
        limit = max(30.0, subject.settings.step_s)
        try:
            said = within(limit, _checked, subject)
        except TookTooLong:
            yield Finding("check-env", Severity.FAULT, f"`check_env` was not done within {limit:g} s.")
        except Exception as error:
            text = (
                f"`gymnasium.utils.env_checker.check_env` fails: {type(error).__name__}: {str(error)[:500]}"
            )
            played = subject.play("x", subject.starts[0], turns=3)
            yield Finding("check-env", Severity.FAULT, text, None, (played,))
        else:
            for text in said:
                yield Finding("check-env", Severity.WARNING, f"`check_env` warns: {text}")
        played = subject.play("x", subject.starts[0], turns=1)
        if played.error and not played.steps:
            yield Finding(
                "reset", Severity.FAULT, f"`reset` fails: {played.error.splitlines()[0]}", None, (played,)
            )
        if subject.env.card is None:
            yield Finding(
                "card",
                Severity.NOTE,
                "There is no card: `card = Card(...)` says what it is and what it pays for.",
            )


def _checked(subject: Subject) -> list[str]:
    env: TextEnv = subject.source.make()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            check_env(env, skip_render_check=env.spec is None, skip_close_check=True)
        said = [str(item.message) for item in caught if issubclass(item.category, UserWarning)]
        return sorted({_COLOURS.sub("", text).removeprefix("WARN: ").strip()[:300] for text in said})
    finally:
        env.close()
