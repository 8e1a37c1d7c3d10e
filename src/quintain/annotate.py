"""`quintain annotate`: a local page on which people compare two answers, blind, by the keyboard.

It listens on this machine alone, answers only requests addressed to it by a loopback name, loads nothing from
anywhere, and shows every text as text. A label is on the disk before it is acknowledged.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiohttp import web

from .rl.stages.labels import (
    NAME,
    LabelFile,
    Queue,
    agreement,
    as_shown,
    item_key,
    latest,
    make_label,
    preferences_of,
    read_labels,
)
from .rl.stages.preference import Preference, read_preferences, write_preferences
from .tools.errors import UserError

TEMPLATES = Path(__file__).parent / "templates"
_LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?")
MAX_BODY = 4096
"""Bytes of a label as it is sent."""


class Annotation:
    """The page and its few requests, over a file of comparisons and a file of labels.

    Args:
        items: The comparisons; which side was called better plays no role and is not shown.
        labels: Where labels go, see `LabelFile`.
        annotators: Who may label; each has a page of their own, `/a/NAME`.
        seed: Draws the order and the sides that each of them sees.

    Raises `UserError` for a name that is none, or no items.
    """

    def __init__(
        self, items: Sequence[Preference], labels: LabelFile, annotators: Sequence[str], seed: int = 0
    ) -> None:
        wrong = [name for name in annotators if not NAME.fullmatch(name)]
        if wrong or not annotators or len(set(annotators)) < len(annotators):
            raise UserError(
                "annotators need names of letters, digits, dots, dashes and underscores, each once, "
                f"got {list(annotators)}"
            )
        if not items:
            raise UserError("there is nothing to compare")
        self._items = {item_key(one): one for one in items}
        self._labels = labels
        self._queues = {name: Queue(items, name, seed) for name in annotators}
        self._key = secrets.token_urlsafe(24)
        self._runner: web.AppRunner | None = None
        self.port = 0
        """Where it listens, once started."""

    def url(self, annotator: str) -> str:
        """Return the address of a person's page."""
        return f"http://127.0.0.1:{self.port}/a/{annotator}"

    async def start(self, port: int = 0) -> None:
        """Listen on 127.0.0.1. Raises `UserError` where the port is taken."""
        app = web.Application(client_max_size=MAX_BODY, middlewares=[self._guarded])
        app.router.add_get("/a/{name}", self._page)
        app.router.add_get("/a/{name}/item", self._item)
        app.router.add_post("/a/{name}/label", self._label)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise UserError(f"port {port} cannot be used: {error}") from None
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if not _LOOPBACK.fullmatch(request.headers.get("Host", "")):
            raise web.HTTPForbidden(text="this page answers on this machine alone: ask 127.0.0.1")
        if request.match_info.get("name") not in self._queues:
            raise web.HTTPNotFound(text="there is no such annotator; start with --annotator NAME")
        response: web.StreamResponse = await handler(request)
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    async def _page(self, request: web.Request) -> web.Response:
        from jinja2 import Environment

        script = (TEMPLATES / "annotate.js").read_text("utf-8")
        style = (TEMPLATES / "annotate.css").read_text("utf-8")
        page = Environment(autoescape=True).from_string((TEMPLATES / "annotate.html").read_text("utf-8"))
        text = page.render(name=request.match_info["name"], key=self._key, script=script, style=style)
        policy = (
            f"default-src 'none'; connect-src 'self'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        return web.Response(text=text, content_type="text/html", headers={"Content-Security-Policy": policy})

    async def _item(self, request: web.Request) -> web.Response:
        """Give the next comparison, or the one before the last with `?back=N`."""
        self._check_key(request)
        name = request.match_info["name"]
        queue, mine = self._queues[name], self._of(name)
        back = request.query.get("back", "0")
        key: str | None = None
        if back.isdecimal() and int(back) and mine:
            key = mine[max(0, len(mine) - int(back))]
        else:
            key = queue.next(mine)
        total = len(queue.order)
        if key is None:
            return web.json_response({"done": True, "labelled": len(mine), "total": total})
        one, swapped = self._items[key], queue.swapped(key)
        earlier = latest(self._labels.labels).get((key, name))
        left, right = (one.rejected, one.chosen) if swapped else (one.chosen, one.rejected)
        return web.json_response(
            {
                "done": False,
                "item": key,
                "labelled": len(mine),
                "total": total,
                "rating": None if earlier is None else as_shown(earlier.rating, swapped),
                "tools": [tool["function"]["name"] for tool in one.tools],
                "prompt": _shown(one.prompt),
                "left": _shown(left),
                "right": _shown(right),
            }
        )

    async def _label(self, request: web.Request) -> web.Response:
        self._check_key(request)
        if request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType(text="the content type must be application/json")
        name = request.match_info["name"]
        try:
            body = await request.json()
            item, seconds = str(body["item"]), float(body.get("seconds", 0.0))
            if item not in self._items or not 0 <= seconds < 1e7:
                raise ValueError("there is no such comparison")
            label = make_label(item, name, body["rating"], self._queues[name].swapped(item), seconds)
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise web.HTTPBadRequest(text=f"not a label: {error}") from None
        try:
            self._labels.add(label)  # on the disk when this returns
        except OSError as error:
            raise web.HTTPInsufficientStorage(text=f"the label was not saved: {error}") from None
        return web.json_response({"saved": item})

    def _check_key(self, request: web.Request) -> None:
        """Refuse who has not read the page: another site may send requests, but not read it."""
        given = request.headers.get("X-Annotate-Key", "")
        if not hmac.compare_digest(given.encode(), self._key.encode()):
            raise web.HTTPForbidden(text="reload the page: it belongs to an earlier start")

    def _of(self, name: str) -> list[str]:
        """Return the items that a person has labelled, the latest last."""
        mine: dict[str, None] = {}
        for label in self._labels.labels:
            if label.annotator == name and label.item in self._items:
                mine.pop(label.item, None)
                mine[label.item] = None
        return list(mine)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _shown(messages: Sequence[Any]) -> list[dict[str, str]]:
    shown = []
    for message in messages:
        parts = [message.get("reasoning_content") or "", message["content"]]
        parts += [
            f"{call['function']['name']}({json.dumps(call['function']['arguments'], ensure_ascii=False)})"
            for call in message.get("tool_calls") or ()
        ]
        shown.append({"role": message["role"], "text": "\n".join(part for part in parts if part)})
    return shown


def annotate(
    items: Path,
    labels: Path,
    annotators: Sequence[str],
    *,
    seed: int = 0,
    port: int = 0,
    export: Path | None = None,
    report: bool = False,
) -> None:
    """Serve until Ctrl-C; or write the preferences that the labels say, or how far people agree, and stop."""
    rows = read_preferences(items, what="the comparisons")
    if export is not None or report:
        if not labels.is_file():
            raise UserError(f"{labels} does not exist: there are no labels yet")
        said = read_labels(labels)
        if export is not None:
            print(f"{write_preferences(export, preferences_of(rows.kept, said))} preferences in {export}")
        if report:
            print(json.dumps(agreement(said), indent=2))
        return

    async def run() -> None:
        with LabelFile(labels) as file:
            server = Annotation(rows.kept, file, annotators or ["me"], seed)
            await server.start(port)
            try:
                for name in annotators or ["me"]:
                    print(f"{name}: {server.url(name)}")
                print(f"labels go to {labels}; Ctrl-C stops, the same command goes on", flush=True)
                await asyncio.Event().wait()
            finally:
                await server.stop()

    try:
        asyncio.run(run())
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
