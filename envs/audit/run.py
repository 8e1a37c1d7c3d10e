"""`audit`: run the probes over an environment, each within its time, and report."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...tools.errors import UserError, nearest
from ..base import TextEnv
from ..registry import load, make
from .bounds import Bounded
from .contract import Contract
from .deterministic import Deterministic
from .findings import Finding, Outcome, Report, Severity
from .hackable import NotHackable
from .informative import Informative
from .leak import NoLeak
from .probe import GROUP, Probe
from .solvable import Solvable
from .subject import OutOfTime, Settings, Source, Subject
from .trivial import NotTrivial
from .within import TookTooLong, within

_ORDER = [Severity.FAULT, Severity.WARNING, Severity.CANNOT_TELL, Severity.NOTE]


def built_in() -> tuple[Probe, ...]:
    """Return the probes that come with Quintain, in the order in which they run."""
    return (
        Contract(),
        Solvable(),
        NotTrivial(),
        Deterministic(),
        NotHackable(),
        NoLeak(),
        Bounded(),
        Informative(),
    )


def all_probes(more: Sequence[Probe] = ()) -> tuple[Probe, ...]:
    """Return the built-in probes, those of other packages (entry points), and `more`.

    Raises `UserError` for something that is no probe and for two of one name.
    """
    from importlib import metadata

    found: list[Probe] = list(built_in())
    for point in metadata.entry_points(group=GROUP):
        try:
            made = point.load()
        except Exception as error:
            raise UserError(
                f"the probe {point.name!r} ({point.value}) cannot be imported: {error}"
            ) from error
        found.append(made() if isinstance(made, type) else made)
    found += more
    for probe in found:
        if isinstance(probe, type) or not isinstance(probe, Probe):
            raise UserError(
                f"{probe!r} is no probe: it needs a `name`, a `promise` and `run(subject)`; give an instance"
            )
    names = [probe.name for probe in found]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two probes are named {name!r}")
    return tuple(found)


def audit(
    env: str | TextEnv | Callable[..., TextEnv],
    *,
    kwargs: Mapping[str, Any] | None = None,
    probes: Sequence[Probe] = (),
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    settings: Settings | None = None,
    on_outcome: Callable[[Outcome], None] | None = None,
    **options: Any,
) -> Report:
    """Say whether the reward of an environment can be trusted. Needs no model.

        report = audit("quintain/Countdown-v0", tasks=50)
        assert report.sound, report.troubles

    Args:
        env: A registered id, something that makes the environment (a class or function), or one environment, which
            is copied with `fresh` and stays open. With an id or a maker more can be told.
        kwargs: Options of the environment, for an id or a maker.
        probes: Your own, after the built-in ones.
        only: Names of probes; empty runs all.
        skip: Names of probes to leave out.
        settings: How thoroughly to look.
        on_outcome: Called after each probe.
        options: Fields of `Settings`: `tasks=50, seed=1, fuzz=1000, step_s=5, probe_s=60`.

    Raises `UserError` for an environment that cannot be made and an unknown probe or setting.
    """
    chosen = _settings(settings, options)
    running = _selected(all_probes(probes), only, skip)
    source = _source(env, dict(kwargs or {}))
    subject = _subject(source, chosen)
    card = subject.env.card
    accepted = {} if card is None else card.accepted
    outcomes = []
    try:
        for probe in running:
            outcome = _run(probe, subject, accepted)
            outcomes.append(outcome)
            if on_outcome is not None:
                on_outcome(outcome)
    finally:
        subject.close()
    return Report(source.name, {**chosen.to_json(), "kwargs": dict(source.kwargs)}, tuple(outcomes))


def _settings(settings: Settings | None, options: Mapping[str, Any]) -> Settings:
    known = list(Settings.__dataclass_fields__)
    for name in options:
        if name not in known:
            raise UserError(f"audit has no option {name!r}; {nearest(name, known)}")
    return replace(settings or Settings(), **options)


def _selected(probes: Sequence[Probe], only: Sequence[str], skip: Sequence[str]) -> list[Probe]:
    known = [probe.name for probe in probes]
    for name in [*only, *skip]:
        if name not in known:
            raise UserError(f"there is no probe {name!r}; {nearest(name, known)}. All: {', '.join(known)}")
    chosen = [probe for probe in probes if (not only or probe.name in only) and probe.name not in skip]
    if not chosen:
        raise UserError(f"no probe is left to run. All: {', '.join(known)}")
    return chosen


def _source(env: str | TextEnv | Callable[..., TextEnv], kwargs: dict[str, Any]) -> Source:
    if isinstance(env, str):
        load(env)  # an unknown id is told before anything else
        env_id = env

        def by_id(**options: Any) -> TextEnv:
            return make(env_id, **options)

        return Source(env, by_id, kwargs)
    if isinstance(env, TextEnv):
        if kwargs:
            raise UserError("kwargs are for an id or a maker; the environment has been made already")
        return Source(type(env).__name__, None, {}, env)
    if not callable(env):
        raise UserError(
            f"audit takes an id, a TextEnv or what makes one, got {type(env).__name__}; "
            "environments of other kinds come in through `quintain.envs.bridges`"
        )
    return Source(getattr(env, "__name__", type(env).__name__), env, kwargs)


def _subject(source: Source, settings: Settings) -> Subject:
    try:
        return Subject(source, settings)
    except TookTooLong:
        raise UserError(f"{source.name} could not be made within {max(60.0, settings.step_s):g} s") from None


def _run(probe: Probe, subject: Subject, accepted: Mapping[str, tuple[float, str]]) -> Outcome:
    """Run one probe; whatever goes wrong in the probe itself is something that cannot be told."""
    findings: list[Finding] = []

    def collect() -> None:
        for finding in probe.run(subject):
            findings.append(_judged(replace(finding, probe=probe.name), accepted))  # noqa: PERF401 - kept one by one

    subject.begin(probe.name)
    began = time.monotonic()
    limit = subject.settings.probe_s
    try:
        # `play` minds the time itself; the alarm is for a probe that works for long without playing.
        within(limit * 1.2 + 5, collect)
    except (OutOfTime, TookTooLong):
        text = (
            f"The probe was stopped after {limit:g} s; what it had found by then is here. Give it more time."
        )
        findings.append(Finding("time", Severity.CANNOT_TELL, text, probe=probe.name))
    except Exception:
        text = f"The probe itself failed: {traceback.format_exc()[-2000:]}"
        findings.append(Finding("failed", Severity.CANNOT_TELL, text, probe=probe.name))
    findings.sort(key=lambda finding: _ORDER.index(finding.severity))
    seconds = time.monotonic() - began
    return Outcome(probe.name, probe.promise, tuple(findings), subject.episodes, seconds)


def _judged(finding: Finding, accepted: Mapping[str, tuple[float, str]]) -> Finding:
    """Turn what the card accepts, up to the number that it names, into a note."""
    if finding.name not in accepted or finding.severity not in (Severity.FAULT, Severity.WARNING):
        return finding
    most, why = accepted[finding.name]
    if finding.measured is not None and finding.measured > most:
        more = f"{finding.text} The card accepts {most:g} at most ({why})."
        return replace(finding, text=more)
    return finding.accepted(why)
