"""`quintain gateway` as its user starts and stops it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from quintain.cli import main
from quintain.rl.trajectory import Trajectory


class Started:
    """A gateway in a process of its own, told to listen on a free port."""

    def __init__(self, model: Path, out: Path, options: Sequence[str]) -> None:
        command = [sys.executable, "-m", "quintain", "gateway", "--model", str(model), "--out", str(out)]
        self.process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        said = "".join(self.process.stdout.readline() for _ in range(2))
        url, key = re.search(r"at (http://127\S+)/v1,", said), re.search(r"token (\S+)", said)
        assert url and key, said
        self.url, self.key = url[1], key[1]

    def post(self, path: str, body: dict) -> dict:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"}
        asked = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(asked, timeout=60) as got:
            return json.load(got)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(60) == 0


@pytest.fixture
def start(model, tokenizer, tmp_path: Path) -> Iterator[Callable[..., Started]]:
    """Start a gateway of the small model that writes to `sessions.jsonl`."""
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    made: list[Started] = []

    def begin(*options: str) -> Started:
        made.append(Started(tmp_path / "model", tmp_path / "sessions.jsonl", options))
        return made[-1]

    yield begin
    for one in made:
        one.process.kill()
        one.process.wait()
        assert one.process.stdout is not None
        one.process.stdout.close()


@pytest.mark.slow
def test_sessions_are_lines_of_the_file_and_one_that_nobody_ended_is_ungraded(start, tmp_path: Path) -> None:
    gateway = start("--model.dtype", "float32", "--max-tokens", "5")
    ask = {"model": "m", "messages": [{"role": "user", "content": "3*4?"}], "seed": 1}
    for name in ("done", "left"):
        gateway.post(f"/s/{name}/v1/chat/completions", ask)
    gateway.post("/sessions/done/finish", {"score": 1.0})
    gateway.stop()
    lines = (tmp_path / "sessions.jsonl").read_text().splitlines()
    done, left = map(Trajectory.from_json, lines)
    assert [(t.id, t.graded, t.sampled_tokens) for t in (done, left)] == [
        ("done", True, 5),
        ("left", False, 5),
    ]
    assert (done.reward, done.ids) == (1.0, left.ids)  # one seed
    assert "stopped before the session was finished" in left.score.reason


@pytest.mark.slow
def test_a_gateway_that_recorded_nothing_leaves_no_file(start, tmp_path: Path) -> None:
    start().stop()
    assert not (tmp_path / "sessions.jsonl").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--engine", "vlm"], "--engine.kind: must be 'transformers', 'vllm', 'vllm-server' or 'openai'"),
        (
            ["--engine", "vllm-server"],
            "needs engine.server.urls, the servers' addresses, or engine.server.start",
        ),
        (
            ["--engine.server.strat", "1"],
            "--engine.server.strat: no such key; did you mean engine.server.start?",
        ),
        (["--model.dtype", "int8"], "--model.dtype: must be 'float32' or 'bfloat16'"),
    ],
)
def test_a_mistake_in_its_options_is_told_by_name(options, says, capsys) -> None:
    assert main(["gateway", "--model", "nowhere", *options]) == 2
    assert says in capsys.readouterr().err


def test_a_server_that_is_not_there_is_told_in_one_message(model, tokenizer, tmp_path: Path, capsys) -> None:
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    out = tmp_path / "sessions.jsonl"
    servers = ["--engine", "vllm-server", "--engine.server.urls", '["http://127.0.0.1:9"]']
    options = ["--model", str(tmp_path / "model"), "--out", str(out), "--engine.server.start_s", "0.1"]
    assert main(["gateway", *options, *servers]) == 2
    said = capsys.readouterr().err
    assert "error: the vLLM server http://127.0.0.1:9 is not ready: " in said and "Traceback" not in said
    assert "see that it runs and that engine.server.urls has its address" in said
    assert not out.exists()
