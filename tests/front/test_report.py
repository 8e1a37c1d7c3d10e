"""The report: one page out of a run's folder, whole or torn, in which no model text is markup."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from quintain.report import plot_learning_curve, render, write_report
from quintain.tools.errors import UserError

MakeRun = Callable[..., Path]
EVIL = "<script>console.error('broken out')</script><img src=x onerror=alert(1)>\"'&{{7*7}}"


class Page(HTMLParser):
    """What a browser would make of a page: tags, attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "input", "br", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def having(self, **attributes: str) -> list[dict[str, str | None]]:
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [found for _, found in self.tags if all(found.get(k) == v for k, v in wanted.items())]


def test_the_headline_is_held_out_success(make_run: MakeRun) -> None:
    page = Page(render(make_run()))
    assert not page.open
    assert "0.0 % before → 41.0 % after warm start → 95.0 % after training" in page.text
    assert "of 200 held-out problems solved (most likely answer); 95 % interval 88.0–100.0 %" in page.text
    assert "finished" in page.text and "RL steps 60" in page.text


def test_a_run_in_progress_says_so(make_run: MakeRun) -> None:
    page = Page(render(make_run(stop_after=31)))
    assert "RL step 31 of 60" in page.text
    assert "78.6 % so far" in page.text


def test_episodes_are_shown_turn_by_turn(make_run: MakeRun) -> None:
    page = Page(render(make_run()))
    shown = page.having(class_="card episode")
    verdicts = {episode["data-verdict"] for episode in shown}
    assert verdicts == {"right", "wrong", "ungraded"}
    assert shown[0]["data-file"] == "rl-000051"
    for expected in ["calculator", '"expression": "', "the last number of the reply is", "final_number 1"]:
        assert expected in page.text
    assert "unreadable call" in page.text
    assert "not graded · ended: error the sandbox was gone" in page.text


def test_nothing_a_model_writes_is_markup(make_run: MakeRun) -> None:
    page = Page(render(make_run(model_text=EVIL, name=EVIL)))
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert not any(tag == "img" for tag, _ in page.tags)
    assert "<script>console.error('broken out')</script>" in page.text
    assert "{{7*7}}" in page.text
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_the_page_loads_nothing(make_run: MakeRun) -> None:
    page = Page(render(make_run()))
    for _, attributes in page.tags:
        for name in ("src", "href", "action", "data"):
            assert (attributes.get(name) or "data:").startswith("data:")
    (policy,) = page.having(http_equiv="Content-Security-Policy")
    assert re.match(r"default-src 'none'; .*script-src 'sha256-[\w+/=]+'", policy["content"] or "")


@pytest.mark.parametrize(
    "missing",
    [
        ["metrics.jsonl"],
        ["config.toml"],
        ["trajectories"],
        ["metrics.jsonl", "trajectories"],
        ["config.toml", "trajectories"],
    ],
)
def test_missing_parts_are_left_out(make_run: MakeRun, missing: list[str]) -> None:
    folder = make_run(rl_steps=20)
    for name in missing:
        shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()
    page = Page(render(folder))
    assert not page.open
    assert ("Learning curve" in page.text) == ("metrics.jsonl" not in missing)
    assert ("What the model did" in page.text) == ("trajectories" not in missing)
    assert ("config.toml" in page.text) == ("config.toml" not in missing)


def test_torn_last_lines_are_tolerated(make_run: MakeRun) -> None:
    folder = make_run(rl_steps=20)
    for path in [folder / "metrics.jsonl", *(folder / "trajectories").iterdir()]:
        path.write_bytes(path.read_bytes()[:-40])
    assert "What the model did" in render(folder)


@pytest.mark.parametrize("shape", [{"sft": False}, {"rl_steps": 0}, {"rl_steps": 1}, {"stop_after": 1}])
def test_runs_of_other_shapes(make_run: MakeRun, shape: dict[str, object]) -> None:
    page = Page(render(make_run(**shape)))
    assert not page.open
    assert "Learning curve" in page.text
    assert "nan" not in page.text.lower().replace("finance", "")


def test_numbers_that_are_not_finite_leave_gaps(make_run: MakeRun) -> None:
    folder = make_run(rl_steps=5)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"phase":"rl","step":6,"time_s":9,"reward":null,"kl":null,"nonfinite":["reward","kl"]}\n')
        file.write('{"phase":"eval","step":6,"time_s":9,"success_greedy":null,"ci_low":null,"ci_high":1}\n')
    text = render(folder)
    assert "nan" not in re.sub(r"<style>.*?</style>|<script>.*?</script>", "", text, flags=re.S).lower()


def test_a_report_takes_the_place_of_the_last_one_whole(make_run: MakeRun) -> None:
    folder = make_run(rl_steps=5)
    first = write_report(folder)
    assert first == folder / "report.html"
    assert write_report(folder) == first
    assert [path.name for path in folder.glob(".*")] == []


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run: neither config"):
        render(tmp_path)
    with pytest.raises(UserError, match="there is no folder"):
        render(tmp_path / "nowhere")


@pytest.mark.slow
def test_the_learning_curve_is_a_picture(make_run: MakeRun, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot_learning_curve(make_run(), tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UserError, match="has no success to draw"):
        plot_learning_curve(tmp_path, tmp_path / "none.png")


def chromium(page: Path, profile: Path, *options: str) -> subprocess.CompletedProcess[str]:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("Chromium is not installed")
    profile.mkdir(parents=True)
    quiet = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --enable-logging=stderr --v=0"
    )
    command = [browser, *quiet.split(), f"--user-data-dir={profile}", *options, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("size", ["1280,900", "500,900"])
def test_a_browser_shows_it_without_a_complaint(make_run: MakeRun, tmp_path: Path, size: str) -> None:
    page = write_report(make_run(model_text=EVIL))
    shown = chromium(page, tmp_path / "profile", "--dump-dom", f"--window-size={size}")
    assert "CONSOLE" not in shown.stderr
    dom = Page(shown.stdout)
    assert sum(tag == "script" for tag, _ in dom.tags) == 1
    assert "<script>console.error('broken out')</script>" in dom.text
    count = re.search(r"(\d+) of (\d+)", dom.text)
    assert count is not None and count[1] == count[2] != "0"
    (filters,) = dom.having(class_="filters")
    assert "hidden" not in filters


@pytest.mark.browser
@pytest.mark.slow
def test_the_browser_would_tell_of_an_error(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<script>console.error('seen')</script>")
    assert "CONSOLE" in chromium(page, tmp_path / "profile", "--dump-dom").stderr
