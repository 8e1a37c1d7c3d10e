"""A headless Chromium for tests, driven over its DevTools protocol: real clicks, real keys, what the console said."""

from __future__ import annotations

import asyncio
import base64
import itertools
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp

OPTIONS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars --force-color-profile=srgb "
    "--remote-debugging-port=0 --lang=en-US about:blank"
)
PATIENCE_S = 60.0
"""How long anything is waited for: machines that test are slow."""


def executable() -> str | None:
    """Return Chromium's path, None where it is not installed."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


class Browser:
    """One page of a browser; use it as an asynchronous context manager."""

    def __init__(self) -> None:
        self.complaints: list[str] = []
        """Errors and warnings of the console, uncaught exceptions, refused loads."""
        self.loaded: dict[str, int] = {}
        """Bytes by URL of what was loaded since the last `goto`, as they came over the wire."""
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._urls: dict[str, str] = {}
        self._load = asyncio.Event()

    async def __aenter__(self) -> Browser:
        self._profile = tempfile.mkdtemp(prefix="chromium-")
        self._process = await asyncio.create_subprocess_exec(
            str(executable()),
            f"--user-data-dir={self._profile}",
            *OPTIONS.split(),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        self._session = aiohttp.ClientSession()
        told = Path(self._profile) / "DevToolsActivePort"
        until = time.monotonic() + PATIENCE_S
        while not (told.exists() and "\n" in told.read_text()):
            assert time.monotonic() < until and self._process.returncode is None, "Chromium did not start"
            await asyncio.sleep(0.05)
        port = told.read_text().split("\n")[0]
        async with self._session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            pages = [page for page in await answer.json() if page["type"] == "page"]
        self._socket = await self._session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=2**27)
        self._reader = asyncio.create_task(self._read())
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.send(f"{domain}.enable")
        return self

    async def __aexit__(self, *_: object) -> None:
        with suppress(Exception):
            await asyncio.wait_for(self.send("Browser.close"), 5)
        self._reader.cancel()
        with suppress(asyncio.CancelledError):
            await self._reader
        await self._session.close()
        try:
            await asyncio.wait_for(self._process.wait(), 10)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        shutil.rmtree(self._profile, ignore_errors=True)

    async def send(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        answer = await asyncio.wait_for(self._answers[number], PATIENCE_S)
        assert "error" not in answer, answer
        return answer.get("result", {})

    async def _read(self) -> None:
        async for message in self._socket:
            data = message.json()
            if "id" in data:
                self._answers.pop(data["id"]).set_result(data)
                continue
            params = data["params"]
            match data["method"]:
                case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                    self.complaints.append(str(params["args"]))
                case "Runtime.exceptionThrown":
                    self.complaints.append(str(params["exceptionDetails"]))
                case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                    self.complaints.append(str(params["entry"]))
                case "Page.loadEventFired":
                    self._load.set()
                case "Network.requestWillBeSent":
                    self._urls[params["requestId"]] = params["request"]["url"]
                case "Network.loadingFinished":
                    url = self._urls.get(params["requestId"], "")
                    self.loaded[url] = self.loaded.get(url, 0) + int(params["encodedDataLength"])

    async def window(self, width: int, height: int, scheme: str = "light") -> None:
        await self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        await self.send(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
        )

    async def goto(self, url: str) -> None:
        self.loaded.clear()
        await self._during_load(self.send("Page.navigate", url=url))

    async def _during_load(self, action: Any) -> None:
        self._load.clear()
        await action
        await asyncio.wait_for(self._load.wait(), PATIENCE_S)

    async def js(self, expression: str) -> Any:
        answer = await self.send(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, expression: str) -> Any:
        """Wait until a JavaScript expression is true, and return what it gives."""
        end = time.monotonic() + PATIENCE_S
        while True:
            with suppress(AssertionError):  # the page is being replaced
                if value := await self.js(expression):
                    return value
            assert time.monotonic() < end, f"never true: {expression}"
            await asyncio.sleep(0.05)

    async def text(self, selector: str = "main") -> str:
        return " ".join(str(await self.js(f"document.querySelector({selector!r}).innerText")).split())

    async def texts(self, selector: str) -> list[str]:
        found = await self.js(f"Array.from(document.querySelectorAll({selector!r}), e => e.innerText.trim())")
        return list(found)

    async def click(self, selector: str) -> None:
        """Click in the middle of the first element that a person can see."""
        await self.until(f"!!document.querySelector({selector!r})")
        x, y = await self.js(
            f"(() => {{ const e = document.querySelector({selector!r}); e.scrollIntoView({{block: 'center'}});"
            "const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            button = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
            await self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button)

    async def put(self, selector: str, value: str) -> None:
        """Set a field as a person does who leaves it at `value`."""
        await self.js(
            f"(field => {{ field.value = {value!r}; field.dispatchEvent(new Event('input', {{bubbles: true}})); }})"
            f"(document.querySelector({selector!r}))"
        )

    async def point(self, selector: str, across: float = 0.5) -> None:
        """Move the pointer over an element."""
        x, y = await self.js(
            f"(() => {{ const b = document.querySelector({selector!r}).getBoundingClientRect();"
            f"return [b.x + b.width * {across}, b.y + b.height / 2]; }})()"
        )
        await self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    async def keys(self, keys: Sequence[str]) -> None:
        """Press keys one after another: characters, or names such as `Enter`."""
        codes = {"Enter": 13, "Escape": 27, "Tab": 9}
        for key in keys:
            text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
            code = codes.get(key, ord(key.upper()) if len(key) == 1 else 0)
            await self.send(
                "Input.dispatchKeyEvent", type="keyDown", key=key, text=text, windowsVirtualKeyCode=code
            )
            await self.send("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    async def picture(self, path: Path, *, whole: bool = False) -> None:
        """Save a screenshot as PNG: what the window shows, or the whole page."""
        shot = await self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))
