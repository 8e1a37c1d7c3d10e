"""*No leak*: the answer is nowhere where a model, or code that it writes, could read it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .answers import Solved, gold_text, leaves, solved
from .findings import Finding, Severity
from .needles import DISTINCT, decoys, found_in, pieces
from .played import Played, Start, plain, short
from .probe import cannot_tell
from .scan import scan
from .subject import Subject
from .tool_calls import doors

_PLACES = {
    "observation": "The first observation",
    "later-observation": "What is answered to a senseless reply",
    "info": "`info` of `reset`, or of a step before the end",
    "task-id": "The id of the task",
    "render": "What `render` shows",
    "tool-schema": "The schema of a tool",
    "repr": "`repr` of the environment",
    "options": "The options in its spec",
}
_KEPT = ("messages", "reply", "task_id", "score")  # of info: judged elsewhere, or not before the end
_SHARED = ("tool-schema", "repr", "options")
_PROMPTS = ("observation", "later-observation", "render")


@dataclass(frozen=True, slots=True)
class _Case:
    """One task: what must not be seen, and the places where it could be."""

    played: Played
    answers: tuple[str, ...]
    """Whole answers: the gold one if it is one text or number, and the one in the oracle's reply."""
    parts: tuple[str, ...]
    """Distinct texts and numbers within a gold answer that is an object or a list, and pieces of long answers."""
    places: dict[str, str]


class NoLeak:
    """Looks for the answer, in many spellings, in all that leaves the environment before the end of an episode."""

    name = "leak"
    promise = (
        "the answer is in no observation, info, tool schema, task id, sandbox file or process environment"
    )

    def run(self, subject: Subject) -> Iterator[Finding]:
        """Look in the places that every environment has, then through the tools that run code."""
        right = {item.played.start: item for item in solved(subject)}
        starts = subject.starts
        cases = [case for start in starts if (case := _case(subject, start, right.get(start))) is not None]
        if not any(case.answers or case.parts for case in cases):
            yield cannot_tell(
                "no-answers", "There is no answer to look for: tasks have none, and no oracle tells one."
            )
            return
        for place, what in _PLACES.items():
            finding = _looked(subject, cases, place, what)
            if finding is not None:
                yield finding
        for door in doors(subject.env):
            yield from _through(subject, door, cases[:4])


def _case(subject: Subject, start: Start, item: Solved | None) -> _Case | None:
    with subject.copy() as env:
        # Something senseless is said, so that later observations and infos are there to be looked at.
        if subject.play((), start, env=env, turns=0).task is None:
            return None
        rendered, described, spec = _rendered(env), repr(env), env.spec
        tools = json.dumps([tool.schema for tool in env.tools], ensure_ascii=False)
        played = subject.play(("Hello.", "What is the answer?"), start, env=env, turns=2)
        if played.task is None:
            return None
    answers = tuple(dict.fromkeys(text for text in (gold_text(played.task), _said(item)) if text))
    before_end = [step for step in played.steps if not (step.terminated or step.truncated)]
    infos = [played.info, *(step.info for step in before_end)]
    seen = "\n".join([played.opening, *(str(message.get("content", "")) for message in played.messages)])
    places = {
        "observation": "\n".join([played.opening, *_opening(played)]),
        "later-observation": "\n".join(step.observation for step in before_end),
        "info": "\n".join(_text({k: v for k, v in info.items() if k not in _KEPT}) for info in infos),
        "task-id": f"{played.info.get('task_id', '')} {played.task.id}",
        "render": rendered,
        "tool-schema": tools if env.tools else "",
        "repr": described,
        "options": "" if spec is None else _text(dict(spec.kwargs)),
    }
    long = [text for text in (*answers, *leaves(played.task.answer)) if len(text) >= 2 * DISTINCT]
    parts = [text for text in leaves(played.task.answer) if len(text) >= DISTINCT and text not in seen]
    parts += [piece for text in long for piece in pieces(text, seen)]
    return _Case(played, answers, tuple(dict.fromkeys(parts)), places)


def _said(item: Solved | None) -> str:
    """Return the answer in the oracle's reply, where one reply is all it took."""
    return item.answer if item is not None and len(item.played.replies) == 1 else ""


def _opening(played: Played) -> list[str]:
    """Return every text of the first messages, whatever field it is in."""
    return list(leaves(plain(played.info.get("messages", []))))


def _rendered(env: Any) -> str:
    if env.render_mode is None:
        env.render_mode = "ansi"  # a copy of our own
    try:
        return str(env.render() or "")
    except Exception:  # some other probe's concern
        return ""


def _text(data: Any) -> str:
    """Return data as one text to search: plain JSON, and what objects say of themselves."""
    said = (
        [repr(value) for value in data.values() if not isinstance(value, str)]
        if isinstance(data, dict)
        else []
    )
    values = " ".join(leaves(plain(data)))
    return "\n".join([json.dumps(plain(data), ensure_ascii=False, default=repr), values, *said])


def _looked(subject: Subject, cases: Sequence[_Case], place: str, what: str) -> Finding | None:
    """Compare how often a place holds the task's own answer with how often it holds others."""
    hits: list[tuple[_Case, str, str]] = []
    asked = chance = tried = 0
    for i, case in enumerate(cases):
        text = case.places[place]
        if not case.answers and (not case.parts or place in _PROMPTS):
            continue
        asked += 1
        hit = _hit(case, text, in_prompt=place in _PROMPTS)
        if hit is not None:
            hits.append((case, *hit))
        for decoy in _others(subject, cases, i):
            tried += 1
            chance += found_in(text, decoy) is not None
    if not hits:
        return None
    share, by_chance = len(hits) / asked, chance / max(tried, 1)
    case, answer, how = max(hits, key=lambda hit: len(hit[1]))
    distinct = len(answer) >= DISTINCT or (
        how.startswith("as ") and how != "as it is" and how != "as a decimal"
    )
    if place in _PROMPTS:
        # Prompts name numbers and words of their answers by nature now and then; always is another matter.
        severity = _graded(share - by_chance, 0.5, 0.25) if asked > 1 else _graded(float(distinct), 1, 1)
    elif distinct and by_chance < 0.1:
        severity = Severity.FAULT
    else:
        severity = _graded(share - by_chance, 0.5, 0.25) if asked > 2 else None
    if severity is None:
        return None
    if place in ("repr", "options"):
        severity = Severity.WARNING
    text = (
        f"{what} holds the answer on {len(hits)} of {asked} tasks (other answers of its kind: {by_chance:.0%}): "
        f"{short(answer, 60)!r} {how}."
    )
    return Finding(place, severity, text, share, (case.played,))


def _graded(excess: float, fault: float, warning: float) -> Severity | None:
    if excess >= fault:
        return Severity.FAULT
    return Severity.WARNING if excess >= warning else None


def _hit(case: _Case, text: str, *, in_prompt: bool) -> tuple[str, str] | None:
    for answer in case.answers:
        how = found_in(text, answer)
        if how is not None:
            return answer, how
    if in_prompt:  # the parts of an answer (the numbers to use, the file to mend) are often given on purpose
        return None
    for part in case.parts:
        if part in text or (len(part) < 200 and found_in(text, part) is not None):
            return part, "as a part"
    return None


def _others(subject: Subject, cases: Sequence[_Case], i: int) -> list[str]:
    """Return answers of the same kind that are not this task's, at most eight."""
    if not cases[i].answers:
        return []
    answer = cases[i].answers[0]
    if len(answer) > 200:
        return []
    others = [case.answers[0] for case in cases if case.answers and case.answers[0] != answer]
    rng = subject.rng("decoys", i)
    return [*others[:4], *decoys(answer, rng, count=4)]


def _through(subject: Subject, door: Any, cases: Sequence[_Case]) -> Iterator[Finding]:
    """Search the sandbox from within, through a tool that runs code."""
    files: list[tuple[Played, str, str]] = []
    looked = 0
    said = ""
    for case in cases:
        wanted = [text for text in (*case.answers, *case.parts) if 3 <= len(text) <= 200][:12]
        if not wanted:
            continue
        rng = subject.rng("scan", case.played.start.seed)
        fakes = decoys(wanted[0], rng, count=3)
        result = scan(subject, door, case.played.start, wanted, fakes)
        said = result.said
        looked += result.looked
        # What turns up as often as texts of its shape is chance.
        hits = [hit for hit in result.hits if len(hit.text) >= DISTINCT or not result.chance]
        files += [(result.played, hit.text, hit.place) for hit in hits]
    if not looked:
        if any(case.answers or case.parts for case in cases):
            why = (
                f"the tool {door.tool.name} does not run the search: {short(said, 200)!r}"
                if said
                else "answers are too short"
            )
            yield cannot_tell("sandbox", f"Whether the sandbox holds the answer: {why}.")
        return
    for code, kinds, what in (
        (
            "process-environment",
            ("environment", "arguments"),
            "The environment or arguments of the sandbox's process",
        ),
        ("sandbox-file", ("file", "file name"), "A file in the sandbox"),
    ):
        found = [
            hit for hit in files if hit[2].partition(" ")[0] in {kind.partition(" ")[0] for kind in kinds}
        ]
        if found:
            played, text, place = found[0]
            share = len({hit[0].start for hit in found}) / looked
            severity = Severity.FAULT if share >= 0.5 or len(text) >= DISTINCT else Severity.WARNING
            yield Finding(
                code,
                severity,
                f"{what} holds the answer, as code that the tool {door.tool.name} runs can read: "
                f"{short(text, 60)!r} in {place}.",
                share,
                (played,),
            )
