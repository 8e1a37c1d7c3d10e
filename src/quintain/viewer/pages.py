"""The pages: from the query of a URL to a template and what it shows. Nothing here knows HTTP."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote

from ..charts import Series, chart, smooth
from ..rl.credit_file import read_credit
from ..run_folder import headline_metric, stages
from ..tools.errors import UserError
from . import curves_page, talk
from .addresses import link, pair, place_of, whole
from .compare import CHANGES, SHOWN, compare
from .facts import expected, mean_of, missing, opening, spread
from .filters import PAGE, TROUBLES, Filter
from .index import Index, IndexedFile
from .overview import overview, status
from .render import number, render, signed
from .runs import OpenRun
from .tokens import pieces_of

TOKENS = 6000
"""Tokens that one page of an episode shows."""
HURRY_S = 2.0
"""How long an episode that is asked for right after the start may hold up other pages."""
SIDES = 16
"""Episodes that stand side by side at most."""


class NotThereError(Exception):
    """What the URL names is not there; the message says what is."""


class Site:
    """All pages of the runs that were named at start."""

    def __init__(self, runs: Sequence[OpenRun]) -> None:
        self.runs = list(runs)
        self.index = Index(self.runs)
        self._refreshed = 0.0

    def refresh(self, *, at_most_every: float = 0.5) -> None:
        """Look what the runs have written since; does nothing if that was done a moment ago."""
        now = time.monotonic()
        if now - self._refreshed < at_most_every:
            return
        for run in self.runs:
            run.refresh()
        self.index.scan()
        self._refreshed = now

    @property
    def state(self) -> dict[str, Any]:
        """What a page asks again and again: a version that changes with the data, and how far the index is."""
        done, total = self.index.behind
        version = f"{sum(run.version for run in self.runs)}.{self.index.version}"
        return {"version": version, "done": done, "total": total}

    def run(self, key: str) -> OpenRun:
        """Return the run with this key. Raises `NotThereError`."""
        for run in self.runs:
            if run.key == key:
                return run
        raise NotThereError(
            f"there is no run {key!r} here; there are: {', '.join(run.key for run in self.runs)}"
        )

    def page(self, template: str, place: str, title: str, **values: Any) -> str:
        """Render a page with the frame that all have."""
        state = self.state
        return render(
            template,
            place=place,
            title=title,
            runs=self.runs,
            state=state,
            indexed=100 * state["done"] / state["total"] if state["done"] < state["total"] else None,
            several=len(self.runs) > 1,
            link=link,
            **values,
        )

    # --- The pages ----------------------------------------------------------------------------------------------

    def home(self, query: Mapping[str, str]) -> str:
        """All runs; with a single one, that."""
        if len(self.runs) == 1:
            return self.one_run(self.runs[0].key)
        return self.page(
            "runs.html", "runs", "Runs", rows=[self._row(n, run) for n, run in enumerate(self.runs)]
        )

    def _row(self, place: int, run: OpenRun) -> dict[str, Any]:
        records = run.records
        told, metric = stages(records), headline_metric(records)
        last = told.after or told.before
        success = last.metrics.get(metric) if last is not None else None
        rewards = [r.metrics["reward"] for r in records if r.phase == "rl" and "reward" in r.metrics]
        line = smooth([(float(n), y) for n, y in enumerate(rewards)])
        colour = place % curves_page.COLOURS
        spark = chart([Series("reward", line, "line", colour)], title="reward", width=180, height=64)
        return {
            "run": run,
            "colour": colour,
            "status": status(run.config, records),
            "environment": run.at("env", "id"),
            "model": run.at("model", "path"),
            "steps": max((r.step for r in records if r.phase in ("rl", "train")), default=0),
            "success": success if success is not None and math.isfinite(success) else None,
            "reward": rewards[-1] if rewards else None,
            "spark": spark,
            "episodes": sum(f.episodes for f in self.index.files.values() if f.run == run.key),
        }

    def one_run(self, key: str) -> str:
        """What a run did: its headline, curves and config, and where its episodes are."""
        run = self.run(key)
        files = [file for file in self.index.sets() if file.run == key]
        notes = list(run.notes)
        for file in self.index.files.values():
            if file.run == key and file.broken:
                lines = "one line" if file.broken == 1 else f"{file.broken} lines"
                notes.append(f"{lines} of {file.path.name} cannot be read and are left out")
        return self.page(
            "run.html",
            "run",
            run.key,
            run=run,
            notes=notes,
            files=files,
            **overview(run.config, run.config_text, run.records),
        )

    def curves(self, query: Mapping[str, Sequence[str]]) -> str:
        """Any metrics of any runs."""
        chosen = [self.run(key).key for key in query.get("run", ())] or [run.key for run in self.runs]
        runs = [(number, run) for number, run in enumerate(self.runs) if run.key in chosen]
        names = curves_page.metric_names(self.runs)
        metrics = list(query.get("m", ())) or curves_page.first_choice(names)
        axis = next(iter(query.get("x", ())), "step")
        text = next(iter(query.get("smooth", ())), "5")
        if not text.isdigit():
            raise UserError(f"smooth must be a number of neighbours, got {text[:40]!r}")
        return self.page(
            "curves.html",
            "curves",
            "Curves",
            names=names,
            metrics=set(metrics),
            chosen=set(chosen),
            axis=axis,
            axes=curves_page.AXES,
            width=int(text),
            widest=50,
            curves=curves_page.curves(runs, metrics, width=int(text), axis=axis),
            colours=curves_page.COLOURS,
        )

    def episodes(self, query: Mapping[str, str]) -> str:
        """The table of trajectories."""
        wanted = Filter.read(query)
        rows, summary = wanted.found(self.index)
        pages = max(1, math.ceil(summary["count"] / PAGE))
        return self.page(
            "episodes.html",
            "episodes",
            "Episodes",
            filter=wanted,
            rows=rows,
            summary=summary,
            choices=self.index.choices(),
            pages=pages,
            first=PAGE * (wanted.page - 1) + 1,
            columns=_COLUMNS,
            troubles=[name for name in TROUBLES if name],
            listed=quote(wanted.query(page="")),
            searchable=self.index.searchable,
        )

    def episode(self, key: str, stem: str, line: str, query: Mapping[str, str]) -> str:
        """One trajectory, turn by turn or token by token."""
        row, trajectory = self._loaded(key, stem, line)
        run = self.run(key)
        view = query.get("view", "text")
        if view != "text" and view not in talk.COLOURS:
            raise UserError(f"view must be one of text, {', '.join(talk.COLOURS)}, got {view!r}")
        listed = query.get("list", "")
        wanted = (
            Filter.read(dict(parse_qsl(listed)))
            if listed
            else Filter(exact={"run": key, "file": stem}, sort="")
        )
        place, count, before, after = wanted.neighbours(self.index, row["id"])
        credit = read_credit(run.folder, stem, trajectory)
        ratios = None
        if credit is not None and credit.logprobs is not None:
            sampled = [p for p, m in zip(trajectory.logprobs, trajectory.mask, strict=True) if m]
            ratios = [
                math.exp(min(20.0, new - old)) for new, old in zip(credit.logprobs, sampled, strict=True)
            ]
        members = self._members(row)
        parts: list[talk.Stretch] = []
        first = 0
        if view != "text":
            first = max(0, min(whole("from", query.get("from", "0")), len(trajectory.ids)))
            parts = talk.stretches(
                trajectory,
                pieces_of(trajectory.ids, run.vocabulary()),
                view,
                advantages=None if credit is None else credit.advantages,
                ratios=ratios,
                first=first,
                last=first + TOKENS,
            )
        return self.page(
            "episode.html",
            "episodes",
            row["name"],
            row=row,
            run=run,
            when=talk.when(Path(stem)),
            messages=talk.conversation(trajectory),
            judged=talk.judgement(trajectory),
            members=members,
            expected=expected(row, members),
            stored=spread(credit.advantages, signed) if credit is not None else None,
            ratio=spread(ratios, number) if ratios else None,
            view=view,
            views={"text": "conversation", **talk.COLOURS},
            missing=missing(view, credit is not None, ratios is not None, row["phase"]),
            readable=run.vocabulary() is not None or not trajectory.trainable,
            parts=parts,
            first=first,
            total=len(trajectory.ids),
            shown=TOKENS,
            listed=listed,
            back=wanted.query(),
            position=place,
            count=count,
            before=self._link(before, listed, view),
            after=self._link(after, listed, view),
        )

    def side(self, query: Mapping[str, Sequence[str]]) -> str:
        """Episodes side by side: named one by one, or all of a group, or all of a task in two files."""
        rows: list[dict[str, Any]] = []
        title = "Side by side"
        one = {name: values[0] for name, values in query.items() if values}
        if query.get("e"):
            rows += [self._loaded(*place_of(text, 3))[0] for text in query["e"][:SIDES]]
        elif "group" in one:
            self.index.hurry(one.get("run", ""), one.get("file", ""), HURRY_S)
            rows = self.index.rows(
                "SELECT * FROM episode WHERE run = ? AND stem = ? AND grp = ? ORDER BY line LIMIT ?",
                [one.get("run"), one.get("file"), whole("group", one["group"]), SIDES],
            )
            title = f"Group {whole('group', one['group'])}"
        elif "task" in one:
            for name in ("a", "b"):
                run, stem = place_of(one.get(name, ""), 2)
                self.index.hurry(run, stem, HURRY_S)
                rows += self.index.rows(
                    "SELECT * FROM episode WHERE run = ? AND stem = ? AND task = ? ORDER BY line LIMIT ?",
                    [run, stem, one["task"], SIDES // 2],
                )
            title = "The same task"
        sides: list[dict[str, Any]] = []
        for row in rows:
            trajectory = self.index.load(row)
            if trajectory is not None:
                sides.append(
                    {
                        "row": row,
                        "when": talk.when(Path(row["stem"])),
                        "messages": talk.conversation(trajectory),
                        "judged": talk.judgement(trajectory),
                    }
                )
        if not sides:
            raise NotThereError(
                "there are no such episodes (the file may have been rewritten, or is not indexed yet)"
            )
        alike = opening([side["messages"] for side in sides])
        shared = sides[0]["messages"][:alike]
        for side in sides:
            side["messages"] = side["messages"][alike:]
        mean = mean_of([row["reward"] for row in rows])
        return self.page("side.html", "episodes", title, sides=sides, shared=shared, mean=mean)

    def compared(self, query: Mapping[str, str]) -> str:
        """What changed on the same tasks between two files of trajectories."""
        sets = self.index.sets()
        places = [file.place for file in self.index.files.values()]
        if not sets:
            return self.page("compare.html", "compare", "Compare", sets=[], found=None)
        a, b = query.get("a") or _first_evaluation(sets), query.get("b") or sets[0].place
        for name, wanted in (("a", a), ("b", b)):
            if wanted not in places:
                raise NotThereError(
                    f"{name} names no trajectories: {wanted!r}; choose among {', '.join(places[:8])}"
                )
        show = query.get("show", "changed")
        if show not in CHANGES:
            raise UserError(f"show must be one of {', '.join(CHANGES)}, got {show!r}")
        page = max(1, whole("page", query.get("page") or "1"))
        found = compare(self.index, pair(a), pair(b), show=show, page=page)
        return self.page(
            "compare.html",
            "compare",
            "Compare",
            sets=sets,
            a=a,
            b=b,
            show=show,
            changes=CHANGES,
            found=found,
            number=page,
            pages=max(1, math.ceil(found.counts[show] / SHOWN)),
            names={file.place: file for file in self.index.files.values()},
        )

    def broken(self, title: str, message: str) -> str:
        """A page that says what is wrong."""
        return self.page("message.html", "", title, message=message)

    # --- Their parts --------------------------------------------------------------------------------------------

    def _loaded(self, key: str, stem: str, line: str) -> tuple[dict[str, Any], Any]:
        self.run(key)
        self.index.hurry(key, stem, HURRY_S)
        row = self.index.row(
            "SELECT * FROM episode WHERE run = ? AND stem = ? AND line = ?", [key, stem, whole("line", line)]
        )
        if row is None:
            reading = (
                " (not all is read yet: try again in a moment)"
                if self.state["done"] < self.state["total"]
                else ""
            )
            raise NotThereError(f"run {key} has no trajectory {line} in {stem}.jsonl{reading}")
        trajectory = self.index.load(row)
        if trajectory is None:
            raise NotThereError(f"{stem}.jsonl of run {key} has been rewritten since: load the page again")
        return row, trajectory

    def _members(self, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        return self.index.rows(
            "SELECT id, run, stem, line, name, verdict, score, reward FROM episode "
            "WHERE file = ? AND grp = ? ORDER BY line LIMIT 256",
            [row["file"], row["grp"]],
        )

    def _link(self, episode: int | None, listed: str, view: str) -> str | None:
        if episode is None:
            return None
        row = self.index.row("SELECT run, stem, line FROM episode WHERE id = ?", [episode])
        return None if row is None else link(row, listed, view)


_COLUMNS = (
    ("verdict", "", "Right, wrong or not graded"),
    ("score", "score", "The verifier's judgement, 0 to 1"),
    ("task", "task", "What was asked"),
    ("step", "when", "Phase and step"),
    ("reward", "reward", "Sum of the rewards of its turns"),
    ("turns", "turns", "Replies of the model"),
    ("tokens", "tokens", "Tokens that the model wrote"),
    ("errors", "failed", "Tool calls that failed, of all"),
    ("stop", "ended", "Why the episode ended"),
)


def _first_evaluation(sets: Sequence[IndexedFile]) -> str:
    """Return what to compare the newest evaluation with: the first one of its run."""
    alike = [file for file in sets if (file.phase, file.run) == (sets[0].phase, sets[0].run)]
    return alike[-1].place
