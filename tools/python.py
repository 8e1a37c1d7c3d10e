"""The Python tool: the model's code runs in a sandbox, and what it printed comes back.

Nothing is kept between calls; `workspace.PythonSession` keeps all.
"""

from __future__ import annotations

from typing import Any

from ..sandboxes.base import Limits, Runner, SandboxUnavailable
from .boxes import shown
from .errors import UserError
from .tool import Tool

LIMITS = Limits(wall_s=5.0, memory_mb=512, output_bytes=1 << 16)
"""What one program may use unless `python_tool` is told otherwise."""


class PythonTool(Tool):
    """The tool `python(code)`. `close` frees the sandbox if the tool opened it itself."""

    def __init__(self, sandbox: Runner | None = None, limits: Limits | None = None, **options: Any) -> None:
        limits = limits or LIMITS
        self._owned = sandbox is None
        if sandbox is None:
            from ..sandboxes import open_pool

            try:
                sandbox = open_pool(limits=limits)
            except SandboxUnavailable as error:
                raise UserError(f"the Python tool has no sandbox to run in: {error}") from error
        self.sandbox = sandbox

        async def python(code: str) -> str:
            """Run a Python program and return what it prints.

            Args:
                code: The whole program. Nothing is kept between calls.
            """
            return shown(await sandbox.run(code, language="python", limits=limits), limits)

        # The sandbox keeps the time; waiting for a free one is not the program's.
        super().__init__(python, **{"timeout_s": None, **options})

    def close(self) -> None:
        """Free the sandbox if the tool opened it. Closing twice is fine."""
        if self._owned:
            self.sandbox.close()


def python_tool(sandbox: Runner | None = None, limits: Limits | None = None, **options: Any) -> PythonTool:
    """Return a tool `python(code)` whose programs run in `sandbox`, each in a fresh one.

    Args:
        sandbox: A pool, or anything else that runs programs; None opens a local pool, which `close` frees.
        limits: What one program may use, default 5 s and 512 MiB.
        options: Of `Tool`: another name, description or output_chars.

    Raises `UserError` if none is given and this machine has no sandbox.
    """
    return PythonTool(sandbox, limits, **options)
