"""The agent's source as one text, to be given to a Python that has none of our files."""

from __future__ import annotations

import marshal
from functools import cache
from pathlib import Path

MODULES = (
    "system",
    "seccomp",
    "values",
    "files",
    "job",
    "repl",
    "calls",
    "box",
    "landlock",
    "server",
    "stream",
)
"""In the order of their imports."""

_BOOT = """\
import sys, types
sys.path[:] = [p for p in sys.path if p]
package = types.ModuleType("quintain_agent")
package.__path__ = []
sys.modules["quintain_agent"] = package
import marshal
for name, code in {codes}:
    module = types.ModuleType("quintain_agent." + name)
    module.__package__ = "quintain_agent"
    sys.modules[module.__name__] = module
    setattr(package, name, module)
    if type(code) is str:
        code = compile(code, "<quintain " + name + ">", "exec")
    exec(code, module.__dict__)
del code
import builtins, _sitebuiltins
builtins.exit = _sitebuiltins.Quitter("exit", "exit()")
builtins.quit = _sitebuiltins.Quitter("quit", "quit()")
builtins.help = _sitebuiltins._Helper()
sys.path += {paths!r}
package.{entry}.main({options!r})
"""


@cache
def _sources() -> tuple[tuple[str, str], ...]:
    folder = Path(__file__).parent / "agent"
    return tuple((name, (folder / f"{name}.py").read_text("utf-8")) for name in MODULES)


@cache
def compiled() -> bytes:
    """Return the modules compiled for an interpreter of this very version.

    A server that starts from these starts faster, and its memory stays small and whole, which each fork profits from.
    """
    return marshal.dumps([(name, compile(text, f"<quintain {name}>", "exec")) for name, text in _sources()])


def boot(entry: str, options: dict[str, object], paths: list[str], *, fd: int | None = None) -> str:
    """Return a program for `python -c` that starts the agent's module `entry` with these options.

    The modules are part of the text, or are read from a descriptor that gives what `compiled` returned.
    """
    codes = repr(_sources()) if fd is None else f"marshal.load(open({fd}, 'rb'))"
    return _BOOT.format(codes=codes, entry=entry, options=options, paths=paths)
