"""A folder in a sandbox that a model works in for an episode: with Python, a shell, an editor, or all of them.

All the tools of a workspace share one box: what the shell writes the editor sees. The calls of one reply are done one
after the other in their order, because they may build on each other. At the end the verifier finds the files of the
folder in `episode.evidence["files"]`, read from outside after every process in the box has been ended.
"""

from __future__ import annotations

import asyncio
import fnmatch
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

from ..sandboxes.base import FileInfo, Limits, SandboxFileError
from .boxes import Boxes, shown, shown_command
from .editing import numbered, one_place, text_of
from .errors import ToolError, UserError
from .tool import Tool, tool
from .toolkit import Toolkit

if TYPE_CHECKING:
    from ..sandboxes import BoxSandbox, Pool
    from ..sandboxes.session import BoxSession

Offer = Literal["python", "shell", "editor"]

LIMITS = Limits(wall_s=10.0, memory_mb=512, output_bytes=1 << 16)
"""What one call may use unless the workspace is told otherwise."""
FILE_BYTES = 1 << 20
"""Bytes of the largest file that the editor opens or the evidence holds."""
EVIDENCE_FILES = 200
"""Files that the evidence holds; it names the others."""

_TOOLS: dict[Offer, tuple[str, ...]] = {
    "python": ("python",),
    "shell": ("shell",),
    "editor": ("view", "create", "replace"),
}
_HOME = "/work/"  # the working folder as programs see it; models like to write whole paths


class Workspace(Toolkit):
    """A folder with tools over it. `PythonSession` and `Shell` are two with one tool each.

        env = ToolEnv(tasks, [Workspace("shell", "editor")], TestsPass(), max_turns=20)

    An episode's setup (the `info` of its task) may hold `files`, path to text, which are put into the folder, and
    `prepare`, a shell script that is run there before the model's first call. Other entries are not looked at.

    Args:
        offer: Any of "python" (code in a session that stays), "shell" (a bash that stays) and "editor" (the tools
            `view`, `create`, `replace`); without any all of them.
        files: Put into the folder in every episode, before those of the setup.
        pool: Where the boxes come from; None opens a pool when the first box is needed, which `shutdown` frees.
        limits: What one call may use, default 10 s and 512 MiB; the time of a session starts anew with each call.
        evidence: Patterns of the files that the verifier sees, such as "*.py"; `*` matches slashes too.
        backend: Of the pool that is opened here, "local" or "docker"; `options` are those of `open_pool`.

    Raises `UserError` for an unknown offer, and, when the first box is needed, if this machine has no sandbox.
    """

    def __init__(
        self,
        *offer: Offer,
        files: Mapping[str, str] | None = None,
        pool: Pool | None = None,
        limits: Limits | None = None,
        evidence: Sequence[str] = ("*",),
        backend: str = "local",
        **options: Any,
    ) -> None:
        for one in offer:
            if one not in get_args(Offer):
                raise UserError(
                    f"{type(self).__name__}: offer must be of {', '.join(get_args(Offer))}, got {one!r}"
                )
        if isinstance(evidence, str):
            raise UserError(f"{type(self).__name__}: evidence is a list of patterns, write [{evidence!r}]")
        self._offer = offer or get_args(Offer)
        self._files = _checked_files(dict(files or {}), f"{type(self).__name__}: files")
        self._evidence = tuple(evidence)
        self._boxes = Boxes(pool, limits or LIMITS, backend, options)
        self._box: BoxSandbox | None = None

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools that are offered, in the order of the offer."""
        every = {made.name: made for made in super().tools}
        return tuple(every[name] for one in dict.fromkeys(self._offer) for name in _TOOLS[one])

    # --- the life of an episode

    async def open(self, setup: Mapping[str, Any]) -> None:
        """Take a box and put the files into it; see `Toolkit.open`."""
        files = {**self._files, **_checked_files(setup.get("files") or {}, "the setup's files")}
        prepare = setup.get("prepare")
        if prepare is not None and not isinstance(prepare, str):
            raise UserError(f"the setup's prepare must be a shell script, got {type(prepare).__name__}")
        self._turn = asyncio.Lock()
        self._sessions: dict[str, BoxSession] = {}
        self._box = await self._boxes.lend()
        try:
            if files:
                await self._box.run("pass", files=files)
        except SandboxFileError as error:
            raise UserError(f"the files cannot be put into the folder: {error}") from error
        if prepare:
            result = await self._box.run(prepare, language="bash")
            if not result.ok:
                raise UserError(f"the setup's prepare failed: {shown_command(result, self._boxes.limits)}")

    async def evidence(self) -> dict[str, Any]:
        """Return `files`, path to text, and `other_files`: the paths that are too large, too many or no text."""
        box = self._at_work()
        async with self._turn:
            for session in self._sessions.values():
                await session.aclose()  # and with it whatever it left running in the folder
            self._sessions.clear()
            files: dict[str, str] = {}
            others: list[str] = []
            for entry in await box.list_files():
                if entry.kind == "dir" or not any(fnmatch.fnmatchcase(entry.path, p) for p in self._evidence):
                    continue
                text = await self._text(box, entry) if len(files) < EVIDENCE_FILES else None
                if text is None:
                    others.append(entry.path.encode("utf-8", "replace").decode())
                else:
                    files[entry.path] = text
        return {"files": files, "other_files": others}

    async def _text(self, box: BoxSandbox, entry: FileInfo) -> str | None:
        if entry.kind != "file" or entry.size > FILE_BYTES or not _is_unicode(entry.path):
            return None
        try:
            return (await box.read_file(entry.path, max_bytes=FILE_BYTES)).decode()
        except (SandboxFileError, UnicodeDecodeError):
            return None

    async def close(self) -> None:
        """Throw the box away; see `Toolkit.close`."""
        box, self._box = self._box, None
        if box is not None:
            await box.aclose()

    def shutdown(self) -> None:
        """Free the pool, if it was opened here."""
        self._boxes.close()

    def _at_work(self) -> BoxSandbox:
        assert self._box is not None, "the workspace is not open"
        return self._box

    async def _session(self, kind: str) -> BoxSession:
        if kind not in self._sessions:
            self._sessions[kind] = await self._at_work().session(kind)
        return self._sessions[kind]

    # --- the tools: the sandbox keeps their time

    @tool(timeout_s=None)
    async def python(self, code: str) -> str:
        """Run Python code and return what it prints. Variables, functions and imports stay for the next call.

        Args:
            code: Any number of lines.
        """
        async with self._turn:
            result = await (await self._session("python")).call(code)
        return shown(result, self._boxes.limits)

    @tool(timeout_s=None)
    async def shell(self, command: str) -> str:
        """Run a command in a bash and return its output. The folder and variables stay for the next command.

        Args:
            command: One or more lines of bash. It cannot ask for input.
        """
        async with self._turn:
            result = await (await self._session("bash")).call(command)
        return shown_command(result, self._boxes.limits)

    @tool(timeout_s=None)
    async def view(self, path: str = ".", first_line: int = 1, last_line: int | None = None) -> str:
        """Show a text file with line numbers, or list a folder.

        Args:
            path: Relative to the working folder.
            first_line: Where to begin, counted from 1.
            last_line: Where to stop; by default 200 lines further on.
        """
        path = _relative(path)
        async with self._turn:
            try:
                return numbered(await self._read(path), first_line, last_line)
            except ToolError as problem:
                entries = await self._listed(path)
                if entries is None:
                    raise problem from None
        return "\n".join(entries) or "The folder is empty."

    @tool(timeout_s=None)
    async def create(self, path: str, text: str) -> str:
        """Write a text file, replacing what was there.

        Args:
            path: Relative to the working folder; folders are made.
            text: The whole file.
        """
        path = _relative(path)
        async with self._turn:
            await self._write(path, text)
        return f"Wrote {path}: {len(text.splitlines())} lines."

    @tool(timeout_s=None)
    async def replace(self, path: str, old: str, new: str) -> str:
        """Replace one piece of a text file.

        Args:
            path: Relative to the working folder.
            old: The text to replace, exactly as it stands; it must occur exactly once.
            new: What to put there.
        """
        path = _relative(path)
        async with self._turn:
            text = await self._read(path)
            place = one_place(text, old, path)
            changed = text[:place] + new + text[place + len(old) :]
            await self._write(path, changed)
        line = changed.count("\n", 0, place) + 1
        last = line + new.count("\n")
        return f"Replaced in {path}.\n{numbered(changed, max(line - 3, 1), last + 3)}"

    async def _read(self, path: str) -> str:
        try:
            return text_of(await self._at_work().read_file(path, max_bytes=FILE_BYTES), path)
        except SandboxFileError as error:
            raise ToolError(str(error)) from error

    async def _write(self, path: str, text: str) -> None:
        try:
            await self._at_work().write_file(path, text.encode("utf-8", "replace"))
        except SandboxFileError as error:
            raise ToolError(str(error)) from error

    async def _listed(self, path: str) -> list[str] | None:
        """Return the entries of a folder with their sizes; None if it is none."""
        try:
            entries = await self._at_work().list_files(path)
        except SandboxFileError:
            return None
        return [
            f"{entry.path}/" if entry.kind == "dir" else f"{entry.path} ({entry.size} bytes)"
            for entry in entries
        ]


class PythonSession(Workspace):
    """The tool `python(code)` in a session that stays for the episode; `Workspace` tells the arguments."""

    def __init__(self, **options: Any) -> None:
        super().__init__("python", **options)


class Shell(Workspace):
    """The tool `shell(command)` in a bash that stays for the episode; `Workspace` tells the arguments."""

    def __init__(self, **options: Any) -> None:
        super().__init__("shell", **options)


def _relative(path: str) -> str:
    path = path.strip()
    if path.rstrip("/") + "/" == _HOME:
        return "."
    return path.removeprefix(_HOME).removeprefix("./").rstrip("/") or "."


def _checked_files(files: Any, where: str) -> dict[str, str]:
    if not isinstance(files, Mapping):
        raise UserError(f"{where} must be an object, path to text, got {type(files).__name__}")
    for path, text in files.items():
        if not isinstance(path, str) or not isinstance(text, str):
            raise UserError(f"{where}: {path!r} must be a path with a text, got {type(text).__name__}")
    return dict(files)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
