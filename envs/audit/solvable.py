"""*Solvable*: the oracle earns full marks on every task."""

from __future__ import annotations

from collections.abc import Iterator

from .findings import Finding, Severity
from .probe import cannot_tell
from .subject import Subject


class Solvable:
    """Plays the oracle on every start."""

    name = "solvable"
    promise = "the oracle earns full marks on every task"

    def run(self, subject: Subject) -> Iterator[Finding]:
        """Play, and sort what came of it: full marks, less, not graded, broken."""
        if subject.env.oracle is None:
            yield Finding(
                "no-oracle",
                Severity.WARNING,
                "Cannot be told: there is no oracle. Set `oracle`, a policy (task, messages, rng) -> reply that "
                "solves every task; without it nothing shows that the verifier accepts a right answer.",
            )
            return
        episodes = [played for start in subject.starts if (played := subject.oracle(start)) is not None]
        count = len(episodes)
        broken = [played for played in episodes if played.error]
        if broken:
            yield Finding(
                "error",
                Severity.FAULT,
                f"With the oracle {len(broken)} of {count} episodes go wrong: {broken[0].error.splitlines()[0]}.",
                len(broken) / count,
                tuple(broken[:1]),
            )
        endless = [played for played in episodes if not played.error and not played.ended]
        if endless:
            replies = len(endless[0].steps)
            text = f"{len(endless)} of {count} episodes do not end within {replies} replies of the oracle."
            yield Finding("endless", Severity.FAULT, text, len(endless) / count, tuple(endless[:1]))
        ungraded = [
            played for played in episodes if played.ended and not played.error and played.worth is None
        ]
        if ungraded:
            score = ungraded[0].score
            why = "" if score is None else score.reason.strip().splitlines()[-1][:300]
            yield cannot_tell(
                "ungraded", f"{len(ungraded)} of {count} episodes of the oracle were not graded: {why}"
            )
        failed = [
            played for played in episodes if played.ended and played.worth is not None and not played.full
        ]
        if failed:
            score = failed[0].score
            why = "" if score is None else f" ({score.reason[:200]})"
            yield Finding(
                "oracle-fails",
                Severity.FAULT,
                f"The oracle does not earn full marks on {len(failed)} of {count} tasks: "
                f"{failed[0].reward:g} on {failed[0].start}{why}.",
                len(failed) / count,
                tuple(failed[:1]),
            )
