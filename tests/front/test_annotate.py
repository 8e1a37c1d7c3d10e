"""The page on which people compare answers: blind, on this machine alone, by the keyboard, never losing a label."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import aiohttp
import pytest

from quintain.annotate import Annotation, annotate
from quintain.rl.stages.labels import LabelFile, item_key, read_labels
from quintain.rl.stages.preference import Preference, read_preferences, write_preferences
from quintain.tools.errors import UserError

HOSTILE = "</script><img src=x onerror=alert(1)>\u202e{{ 7*7 }}"
PAIRS = [
    Preference(
        ({"role": "user", "content": f"{n}: {HOSTILE}"},),
        ({"role": "assistant", "content": f"one {n}"},),
        ({"role": "assistant", "content": f"two {n}"},),
    )
    for n in range(3)
]


@pytest.fixture
async def served(tmp_path):
    with LabelFile(tmp_path / "labels.jsonl") as labels:
        server = Annotation(PAIRS, labels, ["ann", "bo"], seed=1)
        await server.start()
        try:
            async with aiohttp.ClientSession() as client:
                yield server, client, tmp_path / "labels.jsonl"
        finally:
            await server.stop()


async def key_of(server, client) -> dict[str, str]:
    async with client.get(server.url("ann")) as page:
        found = re.search(r'data-key="([^"]+)"', await page.text())
    assert found is not None
    return {"X-Annotate-Key": found[1]}


async def test_all_are_compared_once_and_each_label_is_in_the_file_when_it_is_acknowledged(served):
    server, client, path = served
    key = await key_of(server, client)
    seen = []
    for count in range(1, 4):
        item = await (await client.get(server.url("ann") + "/item", headers=key)).json()
        seen.append(item["item"])
        body = {"item": item["item"], "rating": 1, "seconds": 1.5}
        async with client.post(server.url("ann") + "/label", json=body, headers=key) as answer:
            assert await answer.json() == {"saved": item["item"]}
        assert len(read_labels(path)) == count
    assert sorted(seen) == sorted(item_key(one) for one in PAIRS)
    assert (await (await client.get(server.url("ann") + "/item", headers=key)).json())["done"]
    assert not (await (await client.get(server.url("bo") + "/item", headers=key)).json())["done"]
    last = await (await client.get(server.url("ann") + "/item?back=1", headers=key)).json()
    assert last["item"] == seen[-1] and last["rating"] == 1


async def test_what_is_shown_does_not_tell_which_side_was_called_better(served):
    server, client, _ = served
    item = await (await client.get(server.url("ann") + "/item", headers=await key_of(server, client))).json()
    assert set(item) == {
        "done", "item", "labelled", "total", "rating", "tools", "prompt", "left", "right"
    }  # fmt: skip
    assert not re.search("chosen|rejected|swapped", json.dumps(item))


@pytest.mark.parametrize(
    ("path", "headers", "body", "status"),
    [
        ("ann", {"Host": "evil.example"}, None, 403),
        ("ann/item", {"X-Annotate-Key": "guess"}, None, 403),
        ("eve", {}, None, 404),
        ("ann/label", {"X-Annotate-Key": "guess"}, {"item": "x", "rating": 1}, 403),
        ("ann/label", {}, {"item": "none", "rating": 1}, 400),
        ("ann/label", {}, {"item": "", "rating": 9}, 400),
        ("ann/label", {}, {"rating": 1}, 400),
    ],
)
async def test_requests_that_are_none_of_the_page_are_refused_and_leave_no_label(
    served, path, headers, body, status
):
    server, client, labels = served
    headers = {**await key_of(server, client), **headers}
    url = f"http://127.0.0.1:{server.port}/a/{path}"
    asked = client.get(url, headers=headers) if body is None else client.post(url, json=body, headers=headers)
    async with asked as answer:
        assert answer.status == status
    assert read_labels(labels) == []


async def test_the_page_loads_nothing_and_runs_only_its_own_script(served):
    server, client, _ = served
    async with client.get(server.url("ann")) as page:
        text, policy = await page.text(), page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert not re.search(r"https?://|innerHTML|eval\(", text)


def test_names_and_ports_that_cannot_be_are_refused(tmp_path):
    with LabelFile(tmp_path / "l.jsonl") as labels:
        for names in (["a/b"], [], ["ann", "ann"]):
            with pytest.raises(UserError, match="annotators need names"):
                Annotation(PAIRS, labels, names)


async def test_what_was_said_is_written_as_preferences(served, tmp_path, capsys):
    server, client, labels = served
    key = await key_of(server, client)
    item = await (await client.get(server.url("ann") + "/item", headers=key)).json()
    await client.post(server.url("ann") + "/label", json={"item": item["item"], "rating": 8}, headers=key)
    write_preferences(tmp_path / "items.jsonl", PAIRS)
    annotate(tmp_path / "items.jsonl", labels, [], export=tmp_path / "out.jsonl", report=True)
    (made,) = read_preferences(tmp_path / "out.jsonl").kept
    assert made.chosen[0]["content"] == item["right"][0]["text"] and made.strength == 8
    assert '"labels": 1' in capsys.readouterr().out


@pytest.mark.browser
@pytest.mark.slow
async def test_in_a_browser_keys_judge_and_hostile_texts_stay_texts(served, tmp_path):
    """A headless browser types 1, s and 8; the page ends with thanks and three labels are on the disk."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium here")
    server, _, labels = served
    shown = await _typed(chromium, server.url("ann"), ["1", "s", "8"], tmp_path)
    assert "All are compared" in shown["note"] and shown["progress"] == "3 of 3 compared"
    assert HOSTILE in shown["texts"] and shown["images"] == 0
    said = read_labels(labels)
    assert [label.rating in (1, 8) for label in said] == [True, False, True] and said[1].rating == 0


async def _typed(chromium: str, url: str, keys: list[str], folder: Path) -> dict[str, object]:
    """Open the page, press the keys one after another, and return what it shows, over the browser's own protocol."""
    import asyncio

    profile = folder / "profile"
    process = await asyncio.create_subprocess_exec(
        chromium, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}",
        "--remote-debugging-port=0", "--window-size=1280,900", "about:blank",
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        async with asyncio.timeout(120):
            while True:
                line = (await process.stderr.readline()).decode()
                if found := re.search(r"ws://[\w.:]+", line):
                    break
        base = found[0].replace("ws://", "http://")
        async with aiohttp.ClientSession() as client, asyncio.timeout(120):
            targets = await (await client.get(f"{base}/json")).json()
            page = next(target for target in targets if target["type"] == "page")
            async with client.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                number = 0

                async def call(method: str, **params: object) -> dict:
                    nonlocal number
                    number += 1
                    await socket.send_json({"id": number, "method": method, "params": params})
                    while True:
                        answer = await socket.receive_json()
                        if answer.get("id") == number:
                            return answer["result"]

                async def value(code: str) -> object:
                    found = await call("Runtime.evaluate", expression=code, returnByValue=True)
                    return found["result"].get("value")

                async def until(code: str) -> None:
                    while not await value(code):
                        await asyncio.sleep(0.05)

                await call("Page.navigate", url=url)
                await until("document.querySelectorAll('#left pre').length > 0")
                texts = await value("document.querySelector('#prompt pre').textContent")
                images = await value("document.images.length")
                picture = await call("Page.captureScreenshot")
                (folder / "page.png").write_bytes(__import__("base64").b64decode(picture["data"]))
                for count, key in enumerate(keys, 1):
                    await call("Input.dispatchKeyEvent", type="keyDown", key=key, text=key)
                    await call("Input.dispatchKeyEvent", type="keyUp", key=key)
                    await until(f"document.querySelector('#progress').textContent.startsWith('{count} of')")
                note = await value("document.querySelector('#note').textContent")
                progress = await value("document.querySelector('#progress').textContent")
                return {"texts": texts, "images": images, "note": note, "progress": progress}
    finally:
        process.kill()
        await process.wait()
