"""The viewer's server: on this machine alone, read-only, and without a path from outside.

It listens on 127.0.0.1, answers only GET requests whose `Host` is a loopback name (a web page cannot reach it through
a name of its own), and lets no other site embed or load its pages. What models wrote is escaped; should a page of ours
fail at that, its Content-Security-Policy still runs no script but the one file of ours.
"""

from __future__ import annotations

import asyncio
import getpass
import logging
import re
import signal
import socket
import sys
import webbrowser
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path

from aiohttp import web

from ..tools.errors import UserError
from .addresses import lists_of
from .pages import NotThereError, Site
from .render import ASSETS, asset
from .runs import open_runs

FIRST_PORT = 8765
"""Where it listens by default; the next free one after it if that is taken."""
PORTS = 20
"""How many are tried."""
SLICE_S = 0.02
"""How long the index works at a time; a page waits for this at most."""
LOOK_EVERY_S = 1.0
"""How often the runs are looked at."""
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?", re.IGNORECASE)
_log = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def view(folders: Sequence[Path], port: int | None = None, *, browse: bool = False) -> None:
    """Serve the pages of the runs in `folders` until Ctrl-C.

    Args:
        folders: runs, or folders that hold runs.
        port: where to listen; by default the first free one from `FIRST_PORT` on.
        browse: open a browser.

    Raises `UserError` for a folder without a run, and a port that is taken.
    """
    site = Site(open_runs(folders))
    try:
        asyncio.run(_serve(site, port, browse=browse))
    finally:
        site.index.close()


async def _serve(site: Site, port: int | None, *, browse: bool) -> None:
    async with Viewer(site, port) as viewer:
        address = f"http://127.0.0.1:{viewer.port}/"
        names = ", ".join(run.key for run in site.runs[:4]) + (" ..." if len(site.runs) > 4 else "")
        print(f"{names} at {address}")
        print(f"from another machine:  ssh -L {viewer.port}:127.0.0.1:{viewer.port} {_here()}")
        print("Ctrl-C stops", flush=True)
        if browse:
            await asyncio.to_thread(webbrowser.open, address)
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            with suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, stop.set)
        await stop.wait()
    print("stopped", file=sys.stderr)


def _here() -> str:
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        name = "USER"
    return f"{name}@{socket.gethostname()}"


class Viewer:
    """The server of a site; use it as an asynchronous context manager."""

    def __init__(self, site: Site, port: int | None = None) -> None:
        self.site = site
        self.port = port or 0
        """Where it listens, once it does."""
        self._wanted = port
        self._runner: web.AppRunner | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Viewer:
        """Listen. Raises `UserError` if the port is taken, or all that are tried."""
        self._runner = web.AppRunner(application(self.site), access_log=None, handle_signals=False)
        await self._runner.setup()
        ports = range(FIRST_PORT, FIRST_PORT + PORTS) if self._wanted is None else [self._wanted]
        for port in ports:
            try:
                await web.TCPSite(self._runner, "127.0.0.1", port, shutdown_timeout=1.0).start()
                break
            except OSError as error:
                reason = error.strerror
        else:
            await self._runner.cleanup()
            where = f"port {ports[0]}" if len(ports) == 1 else f"any port from {ports[0]} to {ports[-1]}"
            raise UserError(f"cannot listen on {where}: {reason}; choose another with --port")
        self.port = self._runner.addresses[0][1]
        self._task = asyncio.create_task(_keep_up(self.site))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening and reading."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        if self._runner is not None:
            await self._runner.cleanup()


async def _keep_up(site: Site) -> None:
    """Read what the runs write, in slices between which pages are answered."""
    while True:
        try:
            site.refresh()
            more = site.index.work(SLICE_S)
        except Exception:
            _log.exception("reading the runs failed; trying again")
            more = False
        await asyncio.sleep(0.001 if more else LOOK_EVERY_S)


def application(site: Site) -> web.Application:
    """Return the application that serves the pages of `site`."""

    def page(make: Callable[[web.Request], str]) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            site.refresh()
            site.index.work(SLICE_S)
            status, text = _made(site, make, request)
            response = web.Response(text=text, content_type="text/html", status=status)
            if len(text) > 20_000:
                response.enable_compression()
            return response

        return answer

    async def state(request: web.Request) -> web.StreamResponse:
        return web.json_response(site.state)

    async def static(request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name not in ASSETS:
            raise web.HTTPNotFound(text="there is no such file")
        response = web.Response(text=asset(name), content_type=ASSETS[name])
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response

    app = web.Application(middlewares=[_guarded], client_max_size=1024)
    app.router.add_get("/", page(lambda r: site.home(r.query)))
    app.router.add_get("/run/{run}", page(lambda r: site.one_run(r.match_info["run"])))
    app.router.add_get("/curves", page(lambda r: site.curves(lists_of(r.query_string))))
    app.router.add_get("/episodes", page(lambda r: site.episodes(r.query)))
    app.router.add_get(
        "/episode/{run}/{file}/{line}",
        page(
            lambda r: site.episode(r.match_info["run"], r.match_info["file"], r.match_info["line"], r.query)
        ),
    )
    app.router.add_get("/side", page(lambda r: site.side(lists_of(r.query_string))))
    app.router.add_get("/compare", page(lambda r: site.compared(r.query)))
    app.router.add_get("/state", state)
    app.router.add_get("/static/{name}", static)
    app.router.add_get("/{rest:.*}", page(_nowhere))
    return app


def _nowhere(request: web.Request) -> str:
    raise NotThereError(f"there is no page {request.path[:80]}")


def _made(site: Site, make: Callable[[web.Request], str], request: web.Request) -> tuple[int, str]:
    try:
        return 200, make(request)
    except NotThereError as error:
        return 404, site.broken("Not there", str(error))
    except UserError as error:
        return 400, site.broken("This address makes no sense", str(error))
    except Exception:
        _log.exception("a page failed: %s", request.path)
        return 500, site.broken(
            "This page failed", "A mistake of Quintain's: the terminal has the traceback."
        )


@web.middleware
async def _guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer only GET and HEAD that are addressed to this machine by a loopback name; every answer has the headers."""
    response: web.StreamResponse
    if not _LOOPBACK.fullmatch(request.headers.get("Host", "")):
        response = web.Response(
            status=403, text="the viewer answers on this machine alone: open it as http://127.0.0.1:PORT/\n"
        )
    elif request.method not in ("GET", "HEAD"):
        response = web.Response(
            status=405, text="the viewer only shows: GET\n", headers={"Allow": "GET, HEAD"}
        )
    else:
        try:
            response = await handler(request)
        except web.HTTPException as error:
            response = web.Response(status=error.status, text=error.text)
    for name, value in HEADERS.items():
        response.headers[name] = value
    response.headers.setdefault("Cache-Control", "no-store")
    return response
