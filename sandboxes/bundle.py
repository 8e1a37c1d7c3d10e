"""The agent's source as one text, to be given to a Python that has none of our files."""

from __future__ import annotations

from functools import cache
from pathlib import Path

MODULES = ("system", "seccomp", "values", "files", "job", "repl", "calls", "box", "server", "stream")
"""In the order of their imports."""

_BOOT = """\
import sys, types
sys.path[:] = [p for p in sys.path if p]
package = types.ModuleType("quintain_agent")
package.__path__ = []
sys.modules["quintain_agent"] = package
for name, source in {sources!r}:
    module = types.ModuleType("quintain_agent." + name)
    module.__package__ = "quintain_agent"
    sys.modules[module.__name__] = module
    setattr(package, name, module)
    exec(compile(source, "<quintain " + name + ">", "exec"), module.__dict__)
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


def boot(entry: str, options: dict[str, object], paths: list[str]) -> str:
    """Return a program for `python -c` that starts the agent's module `entry` with these options."""
    return _BOOT.format(sources=_sources(), entry=entry, options=options, paths=paths)
