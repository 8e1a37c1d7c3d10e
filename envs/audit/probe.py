"""What a probe is. Ours register through the same door as yours: the entry-point group `quintain.probes`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from .findings import Finding, Severity
from .subject import Subject

GROUP = "quintain.probes"
"""The entry-point group of other packages: name to `module:Probe`."""


@runtime_checkable
class Probe(Protocol):
    """Looks for one kind of fault in an environment.

    class Polite:
        name = "polite"
        promise = "the prompt says please"

        def run(self, subject):
            played = subject.play("", subject.starts[0])
            if "please" not in played.opening.lower():
                yield Finding("rude", Severity.NOTE, "the prompt does not say please", proof=(played,))
    """

    name: str
    """One word; what `--probe` and `--skip` take."""
    promise: str
    """What holds if nothing is found: a sentence without full stop."""

    def run(self, subject: Subject) -> Iterable[Finding]:
        """Look, and give each finding as soon as it is made: those made before the time is up are kept."""
        ...


def cannot_tell(code: str, text: str) -> Finding:
    """Return the finding that says what a probe could not do, and why."""
    return Finding(code, Severity.CANNOT_TELL, text)


def weighed(mean: float, hits: int) -> Severity | None:
    """Return how bad it is that something which should earn nothing earned `mean` on average, on `hits` tasks.

    One hit among few tasks may be chance (a guess that was right) and is a note; half of all marks are a fault.
    """
    if hits == 0:
        return None
    if mean >= 0.5 and hits > 1:
        return Severity.FAULT
    return Severity.WARNING if mean > 0.1 and hits > 1 else Severity.NOTE
