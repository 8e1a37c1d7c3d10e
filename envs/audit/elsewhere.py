"""Play episodes in another process, with other hash seed, time zone and locale, and return what happened there.

The environment travels as its id or maker with options, else as a copy of the instance; classes of modules that the
other process cannot import travel by value.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from .. import parcel
from ..parcel import Unable
from .played import Start
from .subject import Settings, Source, Subject

Script = tuple[Start, tuple[str, ...]]
"""An episode and its replies."""


class Elsewhere:
    """A fresh process that plays what was `packed`. Close it, whatever comes of it."""

    def __init__(self, payload: bytes, hash_seed: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="quintain-audit-")
        folder = Path(self._folder.name)
        self._out, self._said = folder / "played.json", folder / "said.txt"
        (folder / "payload").write_bytes(payload)
        code = (
            f"import sys; sys.path[:] = {sys.path!r}; sys.argv[:] = ['audit']; "
            f"from quintain.envs.audit.elsewhere import serve; serve({str(folder)!r})"
        )
        environment = {
            **os.environ,
            "PYTHONHASHSEED": str(hash_seed),
            "TZ": "Pacific/Kiritimati" if hash_seed % 2 else "Pacific/Pago_Pago",  # never the same date
            "LC_ALL": "C.UTF-8",
            "COLUMNS": "33",
        }
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                env=environment,
                start_new_session=True,
            )

    def keys(self, timeout_s: float) -> list[Any]:
        """Return the `Played.key()` of each script. Raises `Unable` if the process fails or takes too long."""
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise Unable("the other process took longer than it may") from None
        if status != 0 or not self._out.is_file():
            lines = self._said.read_text(errors="replace").strip().splitlines()
            raise Unable(f"the other process failed: {lines[-1][:500] if lines else status}")
        played: list[Any] = json.loads(self._out.read_text(encoding="utf-8"))
        return played

    def close(self) -> None:
        """End the process and all that it started."""
        with suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._folder.cleanup()


def packed(source: Source, settings: Settings, scripts: Sequence[Script]) -> bytes:
    """Return an environment and what is to be played in it, to be given to `Elsewhere`.

    Raises `Unable` if the environment cannot travel.
    """
    what: Any
    if source.factory is None:
        assert source.instance is not None
        what, home = source.instance.fresh(), type(source.instance).__module__
    else:
        what = _maker(source)
        home = str(getattr(what, "__module__", type(what).__module__))
    return parcel.packed((source.name, what, dict(source.kwargs), settings, list(scripts)), home)


def _maker(source: Source) -> Any:
    """Return what makes the environment; for an id what is behind it, as another process may not know the id."""
    from ...tools.errors import UserError
    from ..registry import load

    with suppress(UserError):
        return load(source.name)
    return source.factory


def serve(folder: str) -> None:
    """Play what another process asks for: `payload` in a folder, answered by `played.json`."""
    from ..base import TextEnv

    name, what, kwargs, settings, scripts = pickle.loads(Path(folder, "payload").read_bytes())
    source = Source(name, None, kwargs, what) if isinstance(what, TextEnv) else Source(name, what, kwargs)
    subject = Subject(source, settings)
    subject.begin("elsewhere")
    keys = [subject.play(replies, start, turns=len(replies)).key() for start, replies in scripts]
    subject.close()
    Path(folder, "played.json").write_text(json.dumps(keys), encoding="utf-8")
