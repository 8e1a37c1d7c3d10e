"""Search a sandbox from within, by the environment's own tools, without putting there what is searched for.

The texts travel masked, and are unmasked only in the memory of the search: neither its program nor its arguments
hold them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from .played import Played, Start
from .subject import Subject
from .tool_calls import Door, output

_MASK = 0x2A
_DONE = "search-done"

_PYTHON = """
import json, os, sys, time
until = time.monotonic() + 2.5
wanted = [bytes(b ^ {mask} for b in one) for one in {masked}]
def report(place, data):
    for i, one in enumerate(wanted):
        if one in data:
            print("HIT", i, json.dumps(place))
for key, value in os.environ.items():
    report("environment " + key, (key + "=" + value).encode("utf-8", "replace"))
for path in ("/proc/self/environ", "/proc/1/environ"):
    try: report("environment " + path, open(path, "rb").read())
    except OSError: pass
for path in ("/proc/self/cmdline", "/proc/1/cmdline"):
    try: report("arguments " + path, open(path, "rb").read(200000))
    except OSError: pass
seen = 0
roots = [os.getcwd(), os.path.dirname(os.getcwd()), os.path.expanduser("~"), "/tmp", "/work", "/workspace", "/tests", "/app",
         "/data", "/home", "/root", "/mnt", "/srv", "/logs", "/solution", "/oracle", "/dev/shm", "/var/tmp"]
done = set()
for root in roots:
    root = os.path.realpath(root)
    if root == "/" or root in done:
        continue
    for folder, folders, names in os.walk(root):
        if seen > 3000 or time.monotonic() > until:
            break
        folders[:] = sorted(f for f in folders if os.path.join(folder, f) not in done and not f.startswith(("lib", "__pycache__", ".git", "site-packages")))
        for name in sorted(names):
            seen += 1
            if seen > 3000 or time.monotonic() > until:
                break
            path = os.path.join(folder, name)
            report("file name " + path, name.encode("utf-8", "replace"))
            try:
                if os.path.isfile(path) and os.path.getsize(path) < 2000000:
                    report("file " + path, open(path, "rb").read())
            except OSError:
                pass
    done.add(root)
print("{done}")
"""


@dataclass(frozen=True, slots=True)
class Hit:
    """A text that was found."""

    text: str
    place: str
    """`environment KEY`, `arguments PATH`, `file PATH` or `file name PATH`."""


@dataclass(frozen=True, slots=True)
class Scanned:
    """What one search came to."""

    played: Played
    looked: bool
    """Whether the search ran to its end."""
    hits: tuple[Hit, ...]
    chance: bool
    """Whether one of the decoys was found."""
    said: str
    """What the tool answered."""


def scan(subject: Subject, door: Door, start: Start, wanted: Sequence[str], fakes: Sequence[str]) -> Scanned:
    """Start an episode, search the sandbox for texts and for decoys, and return what was found."""
    texts = [*wanted, *fakes]
    program = _in_python(texts) if door.kind == "python" else _in_shell(texts)
    played = subject.play(door.reply(subject.env, program), start, turns=1)
    said = output(played) or played.error
    found = re.findall(r'^HIT (\d+) "(.*)"$', said, re.MULTILINE)
    hits = tuple(Hit(texts[int(i)], place) for i, place in found if int(i) < len(wanted))
    chance = any(int(i) >= len(wanted) for i, _ in found)
    return Scanned(played, _DONE in said, hits, chance, said)


def _in_python(texts: Sequence[str]) -> str:
    masked = [[byte ^ _MASK for byte in text.encode("utf-8", "replace")] for text in texts]
    return (
        _PYTHON.replace("{mask}", str(_MASK)).replace("{masked}", json.dumps(masked)).replace("{done}", _DONE)
    )


def _in_shell(texts: Sequence[str]) -> str:
    """Return commands for a plain shell with grep and find; a pattern such as `[4][2]` does not find itself."""
    lines = []
    for i, text in enumerate(texts):
        if "\n" in text:
            continue
        pattern = "".join(_char(char) for char in text)
        quoted = "'" + pattern.replace("'", "'\\''") + "'"
        lines.append(
            f"env | grep -q -e {quoted} && echo 'HIT {i} \"environment\"'; "
            f"cat /proc/1/environ 2>/dev/null | grep -aq -e {quoted} && echo 'HIT {i} \"environment /proc/1\"'; "
            f"grep -rlIs -e {quoted} . /tmp /home /root /work /workspace /tests /app /data /mnt /srv /solution "
            f"--exclude-dir=.git 2>/dev/null | head -3 | while read -r f; do echo 'HIT {i} \"file '\"$f\"'\"'; done"
        )
    return "\n".join([*lines, f"echo {_DONE}"])


def _char(char: str) -> str:
    if char.isalnum() or char in " _":
        return f"[{char}]"
    return f"\\{char}" if char in "\\^$.*[]" else char
