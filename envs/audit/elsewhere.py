"""Play episodes in another process, with other hash seed, time zone and locale, and return what happened there.

The environment travels as its id or maker with options, else as a copy of the instance; classes of modules that the
other process cannot import travel by value.
"""

from __future__ import annotations

import importlib.util
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

from .played import Start
from .subject import Settings, Source, Subject

Script = tuple[Start, tuple[str, ...]]
"""An episode and its replies."""


class Unable(Exception):  # noqa: N818 - the name is the sentence
    """The episodes could not be played in another process; the text says why."""


def play_elsewhere(payload: bytes, hash_seed: int, timeout_s: float) -> list[Any]:
    """Return the `Played.key()` of each script that was `packed`, played in a fresh process.

    Raises `Unable` if the process fails or takes too long.
    """
    environment = {
        **os.environ,
        "PYTHONHASHSEED": str(hash_seed),
        "TZ": "Pacific/Kiritimati" if hash_seed % 2 else "Pacific/Pago_Pago",  # never the same date
        "LC_ALL": "C.UTF-8",
        "COLUMNS": "33",
    }
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; sys.argv[:] = ['audit']; "
        "from quintain.envs.audit.elsewhere import serve; serve(sys.stdin.buffer.read(), OUT)"
    )
    with tempfile.TemporaryDirectory(prefix="quintain-audit-") as folder:
        out = Path(folder) / "played.json"
        process = subprocess.Popen(
            [sys.executable, "-c", code.replace("OUT", repr(str(out)))],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        try:
            _, said = process.communicate(payload, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise Unable("the other process took longer than it may") from None
        finally:
            if process.poll() is None:
                with suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        if process.returncode != 0 or not out.is_file():
            lines = said.decode("utf-8", "replace").strip().splitlines()
            raise Unable(f"the other process failed: {lines[-1][:500] if lines else process.returncode}")
        played: list[Any] = json.loads(out.read_text(encoding="utf-8"))
        return played


def packed(source: Source, settings: Settings, scripts: Sequence[Script]) -> bytes:
    """Return an environment and what is to be played in it, to be given to `play_elsewhere`.

    Raises `Unable` if the environment cannot travel.
    """
    import cloudpickle  # comes with Gymnasium

    what: Any
    if source.factory is None:
        assert source.instance is not None
        what, home = source.instance.fresh(), type(source.instance).__module__
    else:
        what = _maker(source)
        home = str(getattr(what, "__module__", type(what).__module__))
    by_value = home in sys.modules and not _importable(home)
    if by_value:
        cloudpickle.register_pickle_by_value(sys.modules[home])
    try:
        body = cloudpickle.dumps((source.name, what, dict(source.kwargs), settings, list(scripts)))
    except Exception as error:  # locks, sockets, processes: whatever pickle meets
        raise Unable(f"the environment cannot travel to another process: {error}"[:500]) from error
    finally:
        if by_value:
            cloudpickle.unregister_pickle_by_value(sys.modules[home])
    return bytes(body)


def _maker(source: Source) -> Any:
    """Return what makes the environment; for an id what is behind it, as another process may not know the id."""
    from ...tools.errors import UserError
    from ..registry import load

    with suppress(UserError):
        return load(source.name)
    return source.factory


def _importable(module: str) -> bool:
    if module == "__main__":
        return True  # cloudpickle takes what stands there by value anyway
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin == getattr(sys.modules[module], "__file__", None)


def serve(payload: bytes, out: str) -> None:
    """Play what another process asks for and write the keys to the file `out`."""
    from ..base import TextEnv

    name, what, kwargs, settings, scripts = pickle.loads(payload)
    source = Source(name, None, kwargs, what) if isinstance(what, TextEnv) else Source(name, what, kwargs)
    subject = Subject(source, settings)
    subject.begin("elsewhere")
    keys = [subject.play(replies, start, turns=len(replies)).key() for start, replies in scripts]
    subject.close()
    Path(out).write_text(json.dumps(keys), encoding="utf-8")
