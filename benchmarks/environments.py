"""What a turn of an environment costs: ours, and the same game in the libraries that others use.

    python benchmarks/environments.py                          # makes an environment of packages for each peer
    python benchmarks/environments.py --only by_gymnasium,by_quintain
    python benchmarks/environments.py --python by_gem=/path/bin/python   # or use one that is there

`game` says what is played. Every library plays in a process of its own, one after the other, and again in every
round. Processor time; a round's figure is the least of several, and a ratio is to ours of the same round.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from common import ENVIRONMENTS, at_least, environment, finish, machine, names, parser, ratio, spread, table

PEERS = {
    "by_skyrl_gym": ["skyrl-gym==0.4.0"],
    "by_gem": ["gem-llm==0.1.0", "requests"],  # which it imports and does not ask for
    "by_verifiers": ["verifiers==0.3.1"],
    "by_verifiers_agent": ["verifiers==0.4.0", "uv"],
    "by_openenv": ["openenv==0.10.0"],
}
HERE = ("by_gymnasium", "by_quintain", "by_trl")
"""Played by the interpreter that runs this file."""
GAMES = (*HERE, *PEERS)
GYMNASIUM = "the same as `gymnasium.make` gives it: order, limit and types checked"
OURS_ALONE = "ours: `ToolEnv`, reply with a call in, parse, tool, messages out"
KINDS = {
    "step": ("A step alone: reply in, observation out", "ours: `TextEnv.step`"),
    "rollout": (
        "A whole turn of a rollout: messages to the policy, reply in, read, step, messages out",
        "ours: `TextEnv` in the agent loop",
    ),
    "tools": ("A whole turn with a tool call", "ours: `ToolEnv` in the agent loop"),
}
"""Title of the table, and what the ratios are to."""


def interpreter(name: str, given: dict[str, str], cache: Path) -> str | None:
    """Return the Python of a peer: this one, a given one, or one of an environment that is made; None without one."""
    if name in given:
        return given[name]
    if name in HERE:
        return sys.executable
    try:
        return str(environment(cache / name, PEERS[name]))
    except (subprocess.SubprocessError, OSError) as error:
        print(f"{name}: left out, its packages cannot be installed: {error}", file=sys.stderr)
        return None


def played(name: str, python: str) -> list[tuple[str, str, float]]:
    """Let one library play in a process of its own; nothing where it fails, which is said."""
    surroundings = {**os.environ, "OMP_NUM_THREADS": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}
    paths = [str(Path(__file__).resolve().parent)]
    if name in HERE:
        paths += [str(Path(p).resolve()) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    surroundings["PYTHONPATH"] = os.pathsep.join(paths)
    command = [python, "-P", "-m", "game", name]  # -P: folders of this repository are named like packages
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=surroundings)
    if done.returncode:
        print(f"{name}: left out: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return []
    return [(what, kind, value) for what, kind, value in json.loads(done.stdout.splitlines()[-1])]


def collected(rounds: list[dict[str, tuple[str, float]]]) -> list[dict[str, Any]]:
    """Return a row for everything that was played in all rounds, with ratios to ours of the same round."""
    rows = []
    for what, (kind, _) in rounds[0].items():
        if not all(what in found for found in rounds):
            continue
        row: dict[str, Any] = {"what": what, "kind": kind, "us": spread([found[what][1] for found in rounds])}
        base = KINDS[kind][1] if kind in KINDS else None
        if base is not None and all(base in found for found in rounds):
            row["to_ours"] = spread([found[what][1] / found[base][1] for found in rounds])
        rows.append(row)
    return rows


def show(figures: dict[str, Any]) -> None:
    """Print a table for each kind of turn."""
    rows = figures["rows"]
    for kind, (title, _) in KINDS.items():
        lines = [
            (
                row["what"].replace("ours", "**ours**", 1) if row["what"].startswith("ours") else row["what"],
                f"{row['us']['low'] / 1000:.4f}",
                ratio(row["to_ours"]) if "to_ours" in row else "–",
            )
            for row in rows
            if row["kind"] == kind
        ]
        if lines:
            table(f"{title}:", ("", "CPU-ms, the least", "/ ours, the middle of the rounds"), lines)
    by_name = {row["what"]: row for row in rows}
    wanted = []
    if GYMNASIUM in by_name and "to_ours" in by_name[GYMNASIUM]:
        ratios = [1 / value for value in by_name[GYMNASIUM]["to_ours"]["rounds"]]
        wanted.append(
            ("`TextEnv.step` / Gymnasium's, conversation by hand", "at most 1.3", ratio(spread(ratios)))
        )
    if OURS_ALONE in by_name:
        wanted.append((OURS_ALONE, "at most 0.15 CPU-ms", f"{by_name[OURS_ALONE]['us']['low'] / 1000:.3f}"))
    wanted += [
        (row["what"], "under 1.2 s of wall time", f"{row['us']['median'] / 1e6:.2f}")
        for row in rows
        if row["kind"] == "wall"
    ]
    if wanted:
        table("What is wanted:", ("", "wanted", "measured"), wanted)


def options() -> argparse.Namespace:
    """Return what was asked for."""
    made = parser(__doc__)
    made.add_argument(
        "--only",
        type=names(GAMES),
        default=list(GAMES),
        help="libraries, with commas between: " + ", ".join(GAMES),
    )
    made.add_argument(
        "--python", action="append", default=[], metavar="LIBRARY=PATH", help="use this interpreter"
    )
    made.add_argument("--cache", type=Path, default=ENVIRONMENTS, help="where environments are made")
    made.add_argument("--rounds", type=at_least(1), default=3, help="how often everything is played")
    chosen = made.parse_args()
    chosen.given = {}
    for part in chosen.python:
        name, _, path = part.partition("=")
        if name not in GAMES or not Path(path).is_file():
            made.error(
                f"--python: {part!r} is not LIBRARY=PATH with one of {', '.join(GAMES)} and an interpreter"
            )
        chosen.given[name] = path
    return chosen


def main() -> None:
    """Play all rounds and print the tables."""
    chosen = options()
    pythons = {name: interpreter(name, chosen.given, chosen.cache) for name in chosen.only}
    before = machine()
    rounds: list[dict[str, tuple[str, float]]] = []
    for _ in range(chosen.rounds):
        found = {}
        for name, python in pythons.items():
            if python is not None:
                found |= {what: (kind, value) for what, kind, value in played(name, python)}
        rounds.append(found)
    figures = {"peers": PEERS, "rows": collected(rounds)}
    show(figures)
    finish(chosen, before, figures)


if __name__ == "__main__":
    main()
