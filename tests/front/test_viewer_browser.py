"""The viewer in a real Chromium: click, filter, compare, keys, live, colours; nothing from a run is markup.

With QUINTAIN_DOCS_PICTURES=1 the pictures of docs/viewer.md are made again.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from chromium import Browser, executable
from made_up import Words, write_run, write_step

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
EVIL = "<script>document.title='broken out'</script><img src=x onerror=\"document.title='broken out'\">"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(executable() is None, reason="Chromium is not installed"),
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "calculator-seed1", seed=1, evaluations={0: 0.2, 40: 0.85})
    write_run(folder / "calculator-seed2", seed=2, evaluations={0: 0.15, 40: 0.8})
    evaluations = {0: 0.5, 40: 0.5}
    write_run(
        folder / "calculator-seed3", seed=3, rl_steps=2, model_text=EVIL, name=EVIL, evaluations=evaluations
    )
    return folder


@pytest.fixture(scope="module")
def address(runs: Path) -> Iterator[str]:
    """A viewer as a person starts it; Ctrl-C ends it clean."""
    command = [sys.executable, "-u", "-m", "quintain", "view", str(runs), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first.startswith(
            "calculator-seed1, calculator-seed2, calculator-seed3 at http://127.0.0.1:"
        ), first
        url = first.split()[-1].rstrip("/")
        port = url.rpartition(":")[2]
        assert f"ssh -L {port}:127.0.0.1:{port} " in process.stdout.readline()
        assert process.stdout.readline() == "Ctrl-C stops\n"
        yield url
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (0, "", "stopped\n")


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with Browser() as opened:
        await opened.window(1280, 860)
        yield opened
        assert opened.complaints == []


async def picture(browser: Browser, name: str) -> None:
    if os.environ.get("QUINTAIN_DOCS_PICTURES"):
        from PIL import Image

        path = DOCS / name
        await browser.picture(path)
        whole = Image.open(path).convert("RGB")
        often = sorted(whole.getcolors(2**24) or (), reverse=True)[:256]
        palette = Image.new("P", (1, 1))
        palette.putpalette([part for _, colour in often for part in colour])  # type: ignore[union-attr]
        whole.quantize(palette=palette, dither=Image.Dither.NONE).save(path, optimize=True)


async def overflow(browser: Browser) -> int:
    return int(await browser.js("document.documentElement.scrollWidth - innerWidth"))


async def test_a_way_through_the_pages(browser: Browser, address: str) -> None:
    await browser.goto(address)
    await browser.until("document.querySelector('#live').innerText === 'live'")
    assert (await browser.texts("tbody a.open"))[:2] == ["calculator-seed1", "calculator-seed2"]
    await browser.click("tbody tr td.num")  # anywhere in the row
    await browser.until("location.pathname === '/run/calculator-seed1'")
    assert "0.0 % before" in (await browser.text()).replace(" %", " %")
    await picture(browser, "viewer-run.png")

    await browser.click("[data-go=e]")
    await browser.until("document.querySelector('h1').innerText === 'Episodes'")
    before = await browser.text("#found")
    await browser.put("#f-verdict", "wrong")
    await browser.until("location.search === '?verdict=wrong'")
    await browser.until(f"document.querySelector('#found').innerText !== {before!r}")
    assert set(await browser.texts(".list .badge")) == {"wrong"}
    await browser.click(".more summary")
    await browser.click("#f-step-min")
    await browser.keys("31")
    await browser.until("location.search === '?verdict=wrong&step_min=31'")
    await browser.until("document.querySelectorAll('td.when').length > 0")
    assert await browser.js("document.activeElement.id") == "f-step-min"
    assert await browser.js("document.querySelector('.more').open")
    assert all(int(text.split()[-1]) >= 31 for text in await browser.texts("td.when"))
    await browser.click("th.col-tokens a")
    await browser.until("location.search.includes('sort=-tokens')")
    await browser.until("!!document.querySelector('th.col-tokens[aria-sort=descending]')")
    tokens = [int(text) for text in await browser.texts("tbody td:nth-child(7)")]
    assert tokens == sorted(tokens, reverse=True) and len(tokens) > 3
    await picture(browser, "viewer-episodes.png")

    await browser.click("tbody a.open")  # a permalink: the same place after a reload
    await browser.until("location.pathname.startsWith('/episode/')")
    said = await browser.text()
    assert "How many pens are left?" in said and "1 of " in said
    await browser.goto(str(await browser.js("location.href")))
    assert await browser.text() == said
    await browser.click("[data-view='3']")
    await browser.until("document.querySelector('.tabs [aria-current]').innerText === 'log-probability'")
    assert await browser.js("document.querySelectorAll('.sampled i.p0').length > 10")
    assert "<|im_start|>user" in await browser.text(".tokens")
    assert "log-probability -" in str(await browser.js("document.querySelector('.sampled i').title"))
    await picture(browser, "viewer-tokens.png")
    await browser.click("[data-view='4']")
    await browser.until("document.querySelectorAll('.sampled i.an3, .sampled i.ap3').length > 10")
    await browser.click("[data-side]")
    await browser.until("document.querySelectorAll('.lane').length === 4")
    await picture(browser, "viewer-group.png")


async def test_what_changed_between_two_checkpoints(browser: Browser, address: str) -> None:
    await browser.goto(
        f"{address}/compare?a=calculator-seed1/eval-before-000000&b=calculator-seed1/eval-during-000040"
    )
    assert "tasks that both have" in await browser.text()
    await browser.click("label:has(#show-better)")
    await browser.until("location.search.includes('show=better')")
    await browser.until("Array.from(document.querySelectorAll('td.num.good')).length > 3")
    assert set(await browser.texts("tbody td:last-child")) == {"+1"}
    await picture(browser, "viewer-compare.png")
    await browser.click("tbody a.open")
    await browser.until("document.querySelectorAll('.lane').length === 2")
    assert "evaluation at step 40" in await browser.text()


async def test_curves_are_chosen_smoothed_and_read(browser: Browser, address: str) -> None:
    await browser.goto(f"{address}/curves?run=calculator-seed1&run=calculator-seed2")
    shown = await browser.texts("figcaption > b")
    assert shown[:2] == ["eval/success_greedy", "eval/success_sampled"]
    await browser.click("label:has([value='rl/grad_norm'])")
    await browser.until("document.querySelectorAll('figure').length === " + str(len(shown) + 1))
    line = "document.querySelector('figure:nth-of-type(3) path.line').getAttribute('d')"
    before = await browser.js(line)
    await browser.put("#smooth", "20")
    await browser.until("location.search.includes('smooth=20')")
    await browser.until(f"{line} !== {json.dumps(before)}")
    await browser.point("figure:nth-of-type(3) svg", across=0.6)
    await browser.until("document.querySelector('.tip') && !document.querySelector('.tip').hidden")
    tip = await browser.texts(".tip > *")
    assert len(tip) == 3 and tip[1].startswith("calculator-seed1") and 30 <= float(tip[0]) <= 40
    await picture(browser, "viewer-curves.png")
    await browser.click("label:has([value='calculator-seed2'])")
    await browser.until("!document.querySelector('figure .legend').innerText.includes('seed2')")
    await browser.click("#search")
    await browser.keys("entr")
    shown = "Array.from(document.querySelectorAll('.metrics label')).filter(l => l.offsetParent)"
    await browser.until(f"{shown}.length === 1")


async def test_all_by_keyboard(browser: Browser, address: str) -> None:
    await browser.goto(address)
    await browser.keys("?")
    await browser.until("document.querySelector('dialog').open")
    await browser.keys(["Escape"])
    await browser.until("!document.querySelector('dialog').open")
    await browser.keys("ge")
    await browser.until("location.pathname === '/episodes' && document.readyState === 'complete'")
    await browser.keys("/")
    await browser.keys("early")
    await browser.until("location.search === '?q=early'")
    await browser.keys(["Escape"])
    await browser.keys("jjk")
    at = await browser.until("document.querySelector('tr.at a.open').getAttribute('href')")
    await browser.keys(["Enter"])
    await browser.until(
        f"location.pathname + location.search === {at!r} && document.readyState === 'complete'"
    )
    assert "unreadable call" in await browser.text()
    await browser.keys("5")
    await browser.until("location.search.includes('view=ratio') && document.readyState === 'complete'")
    await browser.keys("j")
    await browser.until("document.querySelector('.crumbs').innerText.includes('2 of ')")
    await browser.until("document.readyState === 'complete'")
    assert "view=ratio" in str(await browser.js("location.search"))
    await browser.keys("u")
    await browser.until("location.pathname + location.search === '/episodes?q=early'")
    await browser.until("document.readyState === 'complete'")
    await browser.keys("gd")
    await browser.until("location.pathname === '/compare'")


async def test_colours_follow_the_system_and_the_switch(browser: Browser, address: str) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    await browser.window(1280, 860, "dark")
    await browser.goto(address)
    dark = await browser.js(ground)
    await browser.click("#theme")
    assert await browser.js("document.documentElement.dataset.theme") == "light"
    light = await browser.js(ground)
    assert light != dark
    await browser.goto(f"{address}/curves")  # it is remembered
    assert await browser.js(ground) == light
    await browser.keys("t")
    assert (await browser.text("#theme"), await browser.js(ground)) == ("dark", dark)
    await browser.goto(f"{address}/episode/calculator-seed1/rl-000021/0")
    await picture(browser, "viewer-episode-dark.png")
    await browser.keys("t")
    assert await browser.text("#theme") == "auto"


async def test_nothing_from_a_run_becomes_a_page(browser: Browser, address: str) -> None:
    for path in (
        "/",
        "/run/calculator-seed3",
        "/curves?run=calculator-seed3",
        "/episodes?run=calculator-seed3",
        "/episode/calculator-seed3/rl-000001/0",
        "/episode/calculator-seed3/rl-000001/0?view=logprob",
        "/side?run=calculator-seed3&file=rl-000001&group=0",
        "/compare?a=calculator-seed3/eval-before-000000&b=calculator-seed3/eval-during-000040&show=all",
        f"/episodes?q={'%3Cscript%3Edocument.title=%27broken out%27%3C/script%3E'}",
    ):
        await browser.goto(address + path)
        assert await browser.js("document.title") != "broken out", path
        assert await browser.js("document.querySelectorAll('script').length") == 1, path
        assert await browser.js("document.querySelectorAll('main img, main script').length") == 0, path
        assert all(url.startswith((address, "data:")) for url in browser.loaded), browser.loaded
    await browser.goto(f"{address}/episode/calculator-seed3/rl-000001/0")
    said = await browser.text()
    assert (
        said.count("<script>document.title='broken out'</script>") >= 5
    )  # reply, call, result, reason, task, part
    assert await overflow(browser) == 0


@pytest.mark.parametrize("width", [1280, 800, 500])
async def test_no_page_is_wider_than_the_window_or_heavy(browser: Browser, address: str, width: int) -> None:
    await browser.window(width, 860)
    for path in (
        "/",
        "/run/calculator-seed1",
        "/curves",
        "/episodes?step_min=1",
        "/episode/calculator-seed1/rl-000021/0",
        "/episode/calculator-seed1/rl-000021/0?view=who",
        "/side?run=calculator-seed1&file=rl-000021&group=0",
        "/compare",
    ):
        await browser.goto(address + path)
        assert await overflow(browser) == 0, path
        assert sum(browser.loaded.values()) < 300_000, browser.loaded


async def test_a_page_follows_the_run(browser: Browser, address: str, runs: Path) -> None:
    await browser.goto(f"{address}/episodes?run=calculator-seed2&file=rl-000099")
    assert "No episode is like this." in await browser.text()
    write_step(runs / "calculator-seed2", 99, random.Random(1), Words())
    await browser.until("document.querySelectorAll('tbody tr').length === 24")
    await browser.goto(f"{address}/curves?run=calculator-seed2&m=rl/news")
    with (runs / "calculator-seed2" / "metrics.jsonl").open("a") as file:
        file.write('{"phase":"rl","step":61,"time_s":99999,"news":0.125}\n')
    await browser.until("document.body.innerText.includes('0.125')")
