"""The commands for sandboxes: `quintain sandbox check | run | shell`.

The main command line mounts `app`. Everything heavy is imported inside the commands.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from .sandboxes import BoxSandbox, Limits

app = typer.Typer(no_args_is_help=True, help="Run untrusted programs, and check that they are held.")

Backend = Annotated[str, typer.Option("--backend", "-b", help="local or docker.")]
Image = Annotated[str | None, typer.Option(help="docker: the image to use.")]
Tier = Annotated[
    str | None,
    typer.Option(help="local: full, bwrap-per-box or landlock; the better of the first two by default."),
]
Wall = Annotated[float, typer.Option(help="Seconds until everything is killed.")]
Memory = Annotated[int, typer.Option(help="MiB of memory.")]


def _options(image: str | None, tier: str | None) -> dict[str, Any]:
    return ({"image": image} if image else {}) | ({"tier": tier} if tier else {})


def _opened(backend: str, options: dict[str, Any], limits: Limits | None = None) -> BoxSandbox:
    """Open a sandbox, or end with the reason on one line."""
    from .sandboxes import SandboxError, open_sandbox

    try:
        return open_sandbox(backend, limits=limits, **options)
    except (SandboxError, ValueError, TypeError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None


@app.command()
def check(
    backend: Annotated[str, typer.Argument(help="local or docker.")] = "local",
    only: Annotated[list[str] | None, typer.Option(help="Try only this check; may be given again.")] = None,
    image: Image = None,
    tier: Tier = None,
) -> None:
    """Try every promise of a sandbox on this machine, and say which are kept."""
    import asyncio

    from .sandboxes.check import CheckResult, check_sandbox

    options = _options(image, tier)
    _opened(backend, options).close()

    def show(result: CheckResult) -> None:
        mark = {True: "kept  ", False: "BROKEN", None: "n/a   "}[result.held]
        typer.echo(f"{mark}  {result.promise}" + (f"\n        {result.detail}" if result.detail else ""))

    def opener(limits: Limits) -> BoxSandbox:
        from .sandboxes import open_sandbox

        return open_sandbox(backend, limits=limits, **options)

    try:
        results = asyncio.run(check_sandbox(opener, only=only or (), report=show))
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    broken = sum(result.held is False for result in results)
    kept = sum(result.held is True for result in results)
    seconds = sum(result.seconds for result in results)
    others = f", {len(results) - kept - broken} not offered" if kept + broken < len(results) else ""
    typer.echo(f"{kept} of {len(results)} promises kept by {backend}{others}, in {seconds:.0f} s.")
    raise typer.Exit(1 if broken else 0)


@app.command()
def run(
    file: Annotated[Path, typer.Argument(help="A Python or shell program; - reads it from standard input.")],
    language: Annotated[
        str | None, typer.Option(help="python or bash; by the file's suffix otherwise.")
    ] = None,
    backend: Backend = "local",
    wall: Wall = 10.0,
    memory: Memory = 512,
    image: Image = None,
    tier: Tier = None,
) -> None:
    """Run one program in a sandbox; its output and exit status become this command's."""
    from .sandboxes import Limits, LimitsError, SandboxError

    try:
        limits = Limits(wall_s=wall, memory_mb=memory)
        code = sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
    except (LimitsError, OSError, UnicodeDecodeError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    kind = language or ("bash" if file.suffix in (".sh", ".bash") else "python")
    stdin = b"" if str(file) == "-" or sys.stdin.isatty() else sys.stdin.buffer.read()
    with _opened(backend, _options(image, tier), limits) as sandbox:
        try:
            result = sandbox.run_sync(code, language=kind, stdin=stdin)
        except SandboxError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(2) from None
    sys.stdout.buffer.write(result.stdout_bytes)
    sys.stdout.buffer.flush()
    sys.stderr.buffer.write(result.stderr_bytes)
    sys.stderr.buffer.flush()
    if result.truncated:
        typer.echo("[more output was dropped]", err=True)
    if result.reason not in ("ok", "error"):
        typer.echo(f"[{result.reason} after {result.usage.wall_s:.1f} s]", err=True)
    status = result.exit_status
    raise typer.Exit(status if status is not None else 128 + (result.signal or 9))


@app.command()
def shell(
    kind: Annotated[str, typer.Argument(help="bash or python.")] = "bash",
    backend: Backend = "local",
    wall: Wall = 60.0,
    memory: Memory = 512,
    image: Image = None,
    tier: Tier = None,
) -> None:
    """Talk to an interpreter in a sandbox, line by line. Ctrl-C interrupts a command, Ctrl-D leaves."""
    from .sandboxes import Limits, SandboxError

    try:
        limits = Limits(wall_s=wall, memory_mb=memory)
        with _opened(backend, _options(image, tier), limits) as sandbox:
            session = sandbox.session_sync(kind)
            typer.echo(f"{kind} in a {sandbox.capabilities.tier} sandbox; {wall:g} s a command.", err=True)
            _talk(session.call_sync, "$ " if kind == "bash" else ">>> ")
    except SandboxError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None


def _talk(call: Callable[..., Any], prompt: str) -> None:
    while True:
        try:
            line = input(prompt if sys.stdin.isatty() else "")
        except EOFError:
            return
        except KeyboardInterrupt:
            typer.echo("")
            continue
        try:
            result = call(line)
        except KeyboardInterrupt:
            typer.echo("[interrupted: the interpreter was started afresh]", err=True)
            continue
        sys.stdout.write(result.stdout)
        sys.stdout.flush()
        sys.stderr.write(result.stderr)
        if result.reason == "timeout":
            typer.echo("[interrupted at its time limit]", err=True)
        if result.restarted:
            typer.echo("[the interpreter ended; the next line meets a fresh one]", err=True)
