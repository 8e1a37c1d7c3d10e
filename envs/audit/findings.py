"""What an audit says: findings, grouped by the probe that made them, and the report of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from .played import Played


class Severity(StrEnum):
    """How bad a finding is."""

    FAULT = "fault"
    """The reward, or the environment, cannot be trusted as it is."""
    WARNING = "warning"
    """Training will probably be misled or wasted; look at it before you spend anything."""
    NOTE = "note"
    """Worth knowing; no fault, or one that the environment's card accepts."""
    CANNOT_TELL = "cannot tell"
    """The probe could not look, and says why."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a probe has found."""

    code: str
    """What it is, in one or two words, the same in every audit: `echo`, `info`, `global-rng` ..."""
    severity: Severity
    """How bad it is."""
    text: str
    """What was seen, in a sentence or two, with the numbers."""
    measured: float | None = None
    """The number that decided, where there is one: a mean reward, a share of tasks, seconds. See the text."""
    proof: tuple[Played, ...] = ()
    """Episodes that show it; two where two had to be compared."""
    probe: str = ""
    """Name of the probe; filled in by `audit`."""

    @property
    def name(self) -> str:
        """The full name, `probe/code`: what a card accepts and a test asks for."""
        return f"{self.probe}/{self.code}"

    def accepted(self, why: str) -> Finding:
        """Return the finding as a note with the reason why the environment accepts it."""
        return replace(self, severity=Severity.NOTE, text=f"{self.text} Accepted by the card: {why}")

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "name": self.name,
            "probe": self.probe,
            "code": self.code,
            "severity": str(self.severity),
            "text": self.text,
            "measured": self.measured,
            "proof": [played.to_json() for played in self.proof],
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one probe came to."""

    probe: str
    """Its name."""
    promise: str
    """What holds if it found nothing."""
    findings: tuple[Finding, ...]
    """What it found, the worst first."""
    episodes: int = 0
    """Episodes that it played."""
    seconds: float = field(default=0.0, compare=False)
    """Seconds of real time; the one thing that differs from run to run."""

    @property
    def verdict(self) -> str:
        """`passed`, or the worst severity found. Notes alone are a pass."""
        for severity in (Severity.FAULT, Severity.WARNING, Severity.CANNOT_TELL):
            if any(finding.severity is severity for finding in self.findings):
                return str(severity)
        return "passed"

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "probe": self.probe,
            "promise": self.promise,
            "verdict": self.verdict,
            "episodes": self.episodes,
            "seconds": round(self.seconds, 3),
            "findings": [finding.to_json() for finding in self.findings],
        }


@dataclass(frozen=True, slots=True)
class Report:
    """The whole audit of one environment. Equal for equal environment, settings and seed."""

    environment: str
    """Its id, or the name of its class."""
    settings: Mapping[str, Any]
    """What it was audited with, the seed included."""
    outcomes: tuple[Outcome, ...]
    """One for each probe, in the order in which they ran."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Every finding, in the order of the probes."""
        return tuple(finding for outcome in self.outcomes for finding in outcome.findings)

    @property
    def troubles(self) -> tuple[Finding, ...]:
        """The faults and warnings."""
        bad = (Severity.FAULT, Severity.WARNING)
        return tuple(finding for finding in self.findings if finding.severity in bad)

    @property
    def sound(self) -> bool:
        """Whether there is neither a fault nor a warning. What could not be told does not count against it."""
        return not self.troubles

    def named(self, name: str) -> tuple[Finding, ...]:
        """Return the findings of a probe (`leak`) or of one kind (`leak/info`)."""
        return tuple(finding for finding in self.findings if name in (finding.probe, finding.name))

    def to_json(self) -> dict[str, Any]:
        """Return plain data, with the transcripts."""
        return {
            "environment": self.environment,
            "sound": self.sound,
            "settings": dict(self.settings),
            "probes": [outcome.to_json() for outcome in self.outcomes],
        }
