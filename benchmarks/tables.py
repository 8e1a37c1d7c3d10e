"""Writes the tables of the pages that quote benchmarks from what stands in `results`, as `pictures.py` draws it.

    python benchmarks/tables.py

A table stands between `<!-- NAME -->` or `<!-- NAME PART -->` and `<!-- / -->`. NAME is that of a benchmark, whose
`show` prints it, or `SHOWN[PART]` does, or it is `beside`; what is between is replaced. Where `results` has no such
figures (`NAME.json` is not there, or lacks the part), what is between stays: it was written by hand, and says so.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import re
from pathlib import Path
from typing import Any

from common import ratio, table
from pictures import Results

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
PAGES = tuple(HERE.parent / page for page in ("benchmarks/README.md", "README.md", "docs/comparison.md"))
OF_BESIDE = ("environments", "rollouts", "learner")
"""The benchmarks that `beside` is made of."""
TABLE = re.compile(r"<!-- (\w+)(?: (\w+))? -->\n.*?<!-- / -->", re.S)


def conditions(found: dict[str, Any]) -> str:
    """Return by what and on what it was measured, as a sentence."""
    machine = found["machine"]
    load = f"load {machine['load'][0]:.0f} before and {machine['load_after'][0]:.0f} after"
    where = f"{machine['processor']}, {machine['cores']} cores, Python {machine['python']}"
    return f"Measured on {machine['time'][:10]} by `{found['command']}`: {where}, {load}."


def section(name: str, part: str | None, results: Path = RESULTS) -> str | None:
    """Return the tables of a benchmark or of a part of it, None where there are no such figures."""
    path = results / f"{name}.json"
    if not path.exists():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    module = importlib.import_module(name)
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        (module.show if part is None else module.SHOWN[part])(found["figures"])
    return f"{conditions(found)}\n{text.getvalue().rstrip()}" if text.getvalue() else None


def beside(results: Path = RESULTS) -> str:
    """Return what others cost beside ours, out of the results of several benchmarks."""
    found = Results(results)
    environments, rollouts, learner = (found.figures(name) for name in OF_BESIDE)
    tools, sampled = rollouts["tools"], rollouts["generate"]["smollm2"]
    packages = {name: packages[0].replace("==", " ") for name, packages in environments["peers"].items()}
    trl = f"TRL {found.files['learner']['machine']['versions']['trl']}"

    def cpu_ms(begins: str) -> str:
        return f"{found.environment(begins)['us']['low'] / 1000:.4f} CPU-ms"

    def turn(what: str, ours: str, name: str, theirs: str) -> tuple[str, ...]:
        return what, cpu_ms(ours), f"{name}: {cpu_ms(theirs)}", ratio(found.environments(theirs))

    def work(
        what: str, ours: float, name: str, theirs: float, unit: str, spread: dict[str, Any]
    ) -> tuple[str, ...]:
        return what, f"{ours:,.1f} {unit}", f"{name}: {theirs:,.1f} {unit}", ratio(spread)

    alone, whole, called = "ours: `TextEnv.step`", "ours: `TextEnv` in", "ours: `ToolEnv` in"
    update, step = learner["update"], learner["step"]
    rows = [
        turn("a step of an environment alone", alone, packages["by_skyrl_gym"], "skyrl-gym"),
        turn("the same", alone, f"{packages['by_gem']}, history concatenated", "GEM: step, history"),
        turn("a turn of a rollout, without the model", whole, packages["by_verifiers"], "verifiers 0.3"),
        turn("the same", whole, f"{packages['by_openenv']}, client and server", "OpenEnv: client"),
        turn("a turn with a tool call", called, f"{trl}, tokens included", "TRL"),
        work("episodes with a tool that takes 0.2 s", tools["ours_cpu_s"], trl, tools["trl_cpu_s"], "CPU s",
             tools["ratio_cpu"]),
        work("the same", tools["ours_wall_s"], trl, tools["trl_wall_s"], "s of wall time", tools["ratio_wall"]),
        work("sampling several turns with SmolLM2", sampled["ours_cpu_s"], "padded `generate`",
             sampled["generate_cpu_s"], "CPU s", sampled["ratio_cpu"]),
        work("a GRPO update on episodes of several turns", update["ours"]["cpu_s"], trl, update["TRL"]["cpu_s"],
             "CPU s", found.trl("update", "ours")),
        work("a whole GRPO step of one turn", step["step ours"]["cpu_s"], trl, step["step TRL"]["cpu_s"], "CPU s",
             found.trl("step", "step ours")),
    ]  # fmt: skip
    days = ", ".join(f"{name} on {found.files[name]['machine']['time'][:10]}" for name in OF_BESIDE)
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        table(f"Measured: {days}.", ("", "Quintain", "other", "other / Quintain"), rows)
    return text.getvalue().strip()


def filled(page: str, results: Path = RESULTS) -> str:
    """Return a page with all of its tables written anew."""

    def written(found: re.Match[str]) -> str:
        name, part = found.groups()
        text = beside(results) if name == "beside" else section(name, part, results)
        begin = f"<!-- {name} -->" if part is None else f"<!-- {name} {part} -->"
        return found[0] if text is None else f"{begin}\n\n{text}\n\n<!-- / -->"

    return TABLE.sub(written, page)


if __name__ == "__main__":
    for path in PAGES:
        before = path.read_text(encoding="utf-8")
        after = filled(before)
        path.write_text(after, encoding="utf-8")
        print(f"{path.relative_to(HERE.parent)}: {'written anew' if after != before else 'as it was'}")
