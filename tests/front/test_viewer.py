"""The viewer without a browser: which runs it opens, what its pages say, and whom its server answers."""

from __future__ import annotations

import socket
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from looking import lines, site_of

from quintain.tools.errors import UserError
from quintain.viewer.pages import NotThereError, Site
from quintain.viewer.render import ASSETS, asset
from quintain.viewer.runs import open_runs
from quintain.viewer.serve import FIRST_PORT, Viewer, application

MakeRun = Callable[..., Path]
EVIL = "<script>console.error('broken out')</script><img src=x onerror=alert(1)>\"'&{{7*7}}"


# --- The runs -------------------------------------------------------------------------------------------------


def test_a_folder_of_runs_stands_for_the_runs_in_it(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("b", rl_steps=1), make_run("a", rl_steps=1)
    assert [run.key for run in open_runs([tmp_path])] == ["a", "b"]


def test_runs_of_one_name_are_told_apart(make_run: MakeRun) -> None:
    folders = [make_run("x/run 1", rl_steps=1), make_run("y/run 1", rl_steps=1)]
    assert [run.key for run in open_runs([*folders, folders[0]])] == ["run-1", "run-1~2"]


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"there is no folder .*nowhere"):
        open_runs([tmp_path / "nowhere"])
    with pytest.raises(UserError, match="is a file; name the folder"):
        open_runs([tmp_path / "file"])
    with pytest.raises(
        UserError, match=r"holds no run: neither config.toml nor metrics.jsonl nor trajectories"
    ):
        open_runs([tmp_path])


def test_metrics_are_followed_as_they_grow_and_are_cut(make_run: MakeRun) -> None:
    folder = make_run(rl_steps=5, sft=False)
    (run,) = open_runs([folder])
    path = folder / "metrics.jsonl"
    before = len(run.records)
    with path.open("a") as file:
        file.write('{"phase":"rl","step":6,"time_s":9,"reward":0.5}\n{"phase":"rl","st')
    run.refresh()
    assert len(run.records) == before + 1
    with path.open("a") as file:
        file.write('ep":7,"time_s":9,"reward":0.75}\n')
    run.refresh()
    assert run.records[-1].metrics == {"reward": 0.75}
    path.write_text('{"phase":"rl","step":1,"time_s":1,"reward":0.25}\n')  # a resumed run
    run.refresh()
    assert [record.metrics["reward"] for record in run.records] == [0.25]


def test_broken_files_are_told_in_words(make_run: MakeRun) -> None:
    folder = make_run(rl_steps=1)
    (folder / "config.toml").write_text("= nonsense")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write("nonsense\n")
    with (folder / "trajectories" / "rl-000001.jsonl").open("a") as file:
        file.write("nonsense\n")
    page = site_of(folder).one_run(folder.name)
    assert "config.toml cannot be read as TOML" in page
    assert "one line of metrics.jsonl cannot be read and are left out" in page
    assert "one line of rl-000001.jsonl cannot be read and are left out" in page


def test_a_run_that_has_written_nothing_yet_has_all_pages(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('name = "new"\n')
    site = site_of(tmp_path)
    assert "This run has written nothing yet" in site.home({})
    assert "No metrics have been written yet" in site.curves({})
    assert "No trajectories have been saved yet" in site.episodes({})
    assert "No trajectories have been saved yet" in site.compared({})


# --- Pages ----------------------------------------------------------------------------------------------------


def every_page(site: Site, key: str) -> dict[str, str]:
    return {
        "home": site.home({}),
        "run": site.one_run(key),
        "curves": site.curves({}),
        "episodes": site.episodes({"q": EVIL, "run": key, "part": EVIL}),
        "table": site.episodes({"part": f"brevity{EVIL}", "task": f"train/rl-1-0{EVIL}"}),
        "episode": site.episode(key, "rl-000001", "0", {"list": "verdict=wrong"}),
        "tokens": site.episode(key, "rl-000001", "0", {"view": "logprob"}),
        "group": site.side({"run": [key], "file": ["rl-000001"], "group": ["0"]}),
        "compare": site.compared({"show": "all"}),
        "wrong": site.broken("No", EVIL),
    }


class Tags(HTMLParser):
    """The elements that a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]


def test_nothing_from_a_run_or_a_url_is_markup(make_run: MakeRun) -> None:
    folder = make_run("evil", model_text=EVIL, name=EVIL, evaluations={0: 0.2, 40: 0.9})
    site = site_of(folder)
    for page, text in every_page(site, folder.name).items():
        tags = Tags(text)
        assert (tags.names.count("script"), tags.names.count("img")) == (1, 0), page  # ours, in the head
        assert not any(name.startswith("on") or name == "style" for name, _ in tags.attributes), page
        links = [value for name, value in tags.attributes if name in ("href", "src", "action")]
        assert all(
            value.startswith(("/", "#", "data:,")) and not value.startswith("//") for value in links
        ), page
    assert "&lt;img src=x onerror=alert(1)&gt;" in site.episode(folder.name, "rl-000001", "0", {})
    assert "{{7*7}}" in site.episode(folder.name, "rl-000001", "0", {})


def test_half_a_character_does_not_break_a_page(tmp_path: Path) -> None:
    path = tmp_path / "trajectories" / "rl-000001.jsonl"
    path.parent.mkdir()
    (line,) = lines("HALF")
    path.write_text(line.replace("HALF", "\\ud83d"))
    site = site_of(tmp_path)
    assert "The answer is 7.?" in site.episode(site.runs[0].key, "rl-000001", "0", {})


def test_a_page_weighs_less_than_300_kb(make_run: MakeRun) -> None:
    folder = make_run(evaluations={0: 0.2, 40: 0.9})
    shared = sum(len(asset(name).encode()) for name in ASSETS)
    for name, text in every_page(site_of(folder), folder.name).items():
        assert shared + len(text.encode()) < 300_000, name


def test_what_is_not_there_says_so(make_run: MakeRun) -> None:
    folder = make_run(rl_steps=1)
    site = site_of(folder)
    with pytest.raises(NotThereError, match=f"there is no run 'x' here; there are: {folder.name}"):
        site.one_run("x")
    with pytest.raises(NotThereError, match=r"has no trajectory 99 in rl-000001.jsonl"):
        site.episode(folder.name, "rl-000001", "99", {})
    with pytest.raises(NotThereError, match="has no trajectory 0 in"):
        site.episode(folder.name, "../../config", "0", {})
    with pytest.raises(UserError, match="line must be a whole number, got 'x'"):
        site.episode(folder.name, "rl-000001", "x", {})
    with pytest.raises(UserError, match="view must be one of text, who, logprob, advantage, ratio, got 'x'"):
        site.episode(folder.name, "rl-000001", "0", {"view": "x"})
    with pytest.raises(NotThereError, match="a names no trajectories"):
        site.compared({"a": "x/y"})
    with pytest.raises(UserError, match="smooth must be a number"):
        site.curves({"smooth": ["x"]})
    with pytest.raises(UserError, match="x must be one of step, time, got 'y'"):
        site.curves({"x": ["y"]})


# --- The server -----------------------------------------------------------------------------------------------


async def answered(site: Site, path: str, method: str = "GET", **headers: str) -> web.Response | Any:
    async with TestClient(TestServer(application(site))) as client:
        answer = await client.request(method, path, headers=headers, allow_redirects=False)
        await answer.read()
        return answer


async def test_only_loopback_names_are_answered(make_run: MakeRun) -> None:
    site = site_of(make_run(rl_steps=1))
    for host in ("127.0.0.1:80", "localhost", "LOCALHOST:9", "[::1]:3"):
        assert (await answered(site, "/state", Host=host)).status == 200
    for host in (
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:80",
        "10.0.0.1",
        "a@127.0.0.1",
        "",
    ):
        for path in ("/", "/state", "/static/viewer.js"):
            assert (await answered(site, path, Host=host)).status == 403, host


async def test_it_only_shows(make_run: MakeRun) -> None:
    site = site_of(make_run(rl_steps=1))
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"):
        assert (await answered(site, "/", method)).status == 405
    assert (await answered(site, "/", "HEAD")).status == 200


async def test_no_path_comes_from_outside(make_run: MakeRun) -> None:
    folder = make_run(rl_steps=1)
    site = site_of(folder)
    secret = (folder / "config.toml").read_text().split("\n")[0]
    for path in (
        "/static/..%2fserve.py",
        "/static/%2e%2e/serve.py",
        "/static/style.css%00",
        "/run/..%2f..",
        f"/run/{folder.name}%2f..",
        f"/episode/{folder.name}/..%2f..%2fconfig/0",
        "/episode/..%2f/rl-000001/0",
        "/etc/passwd",
    ):
        answer = await answered(site, path)
        assert answer.status == 404, path
        assert secret not in await answer.text() and "root:" not in await answer.text()


async def test_every_answer_forbids_scripts_but_ours(make_run: MakeRun) -> None:
    site = site_of(make_run(rl_steps=1))
    for path in ("/", "/nowhere", "/state", "/static/style.css", "/episodes?sort=x"):
        headers = (await answered(site, path)).headers
        assert "script-src 'self'" in headers["Content-Security-Policy"]
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert (await answered(site, "/episodes?sort=x")).status == 400


async def test_the_state_changes_with_the_run(make_run: MakeRun) -> None:
    folder = make_run(rl_steps=1)
    site = site_of(folder)
    before = await (await answered(site, "/state")).json()
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"phase":"rl","step":2,"time_s":9,"reward":0.5}\n')
    site.refresh(at_most_every=0.0)
    after = await (await answered(site, "/state")).json()
    assert before["version"] != after["version"] and after["done"] == after["total"]


async def test_a_port_that_is_taken(make_run: MakeRun) -> None:
    folder = make_run(rl_steps=1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"cannot listen on port {port}: .*; choose another with --port"):
            async with Viewer(site_of(folder), port):
                pass
    async with Viewer(site_of(folder)) as one, Viewer(site_of(folder)) as other:
        assert FIRST_PORT <= one.port < other.port
