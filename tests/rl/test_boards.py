"""Metrics go elsewhere when asked, under one name before and after a resume, and nowhere that nobody named."""

from __future__ import annotations

import json
import socket
import sqlite3
import struct
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from quintain.rl.boards import Boards, identity, open_boards
from quintain.rl.config_types import BoardsConfig
from quintain.rl.metrics import Event
from quintain.tools.errors import UserError

STEP = Event("rl", 1, 9, {"reward": 0.5})


def opened(folder: Path, **run: object):
    return open_boards(BoardsConfig.model_validate(run), {"name": "demo"}, folder)


class Listed:
    """A board that remembers, and may fail."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.seen: list[object] = []
        self._failure = failure

    def write(self, event: Event) -> None:
        if self._failure is not None:
            raise self._failure
        self.seen.append((event.phase, event.step, dict(event.metrics)))

    def close(self, *, failed: bool) -> None:
        self.seen.append("failed" if failed else "closed")


def test_no_board_is_asked_for_by_default(tmp_path):
    with opened(tmp_path) as boards:
        boards.write(STEP)
    assert list(tmp_path.iterdir()) == []


def test_a_sign_of_progress_is_not_for_boards():
    board = Listed()
    boards = Boards([board])
    boards.write(Event("rl", 1, 9, message="rollout 3/8"))
    boards.write(STEP)
    boards.close()
    boards.close()
    assert board.seen == [("rl", 1, {"reward": 0.5}), "closed"]


def test_a_board_that_fails_is_given_up_and_the_others_go_on():
    broken, other = Listed(OSError("connection lost")), Listed()
    boards = Boards([broken, other])
    with pytest.warns(
        RuntimeWarning, match=r"Listed takes no more metrics \(OSError: connection lost\); metrics.jsonl"
    ):
        boards.write(STEP)
    boards.write(STEP)
    assert broken.seen == ["failed"]
    assert len(other.seen) == 2


@pytest.mark.parametrize(
    ("option", "module", "extra"),
    [
        ("wandb", "wandb", "wandb"),
        ("trackio", "trackio", "trackio"),
        ("tensorboard", "torch.utils.tensorboard", "train"),
    ],
)
def test_a_missing_library_is_said_before_anything_starts(option, module, extra, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with (
        pytest.raises(UserError, match=rf"run\.{option} = true needs .*pip install 'quintain\[{extra}\]'"),
        opened(tmp_path, **{option: True}),
    ):
        pytest.fail("it was opened")


def test_the_identity_of_a_run_is_drawn_once(tmp_path):
    first, other = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    other.mkdir()
    assert identity(first) == identity(first) == json.loads((first / "boards.json").read_text())["id"]
    assert identity(first) != identity(other)


@pytest.mark.slow
def test_tensorboard_files_are_written_when_asked(tmp_path):
    pytest.importorskip("tensorboard")
    with opened(tmp_path, tensorboard=True) as boards:
        boards.write(STEP)
    assert list((tmp_path / "tensorboard").glob("events.*"))


# --- the libraries themselves, in a process of their own: they keep global state and start services

PROGRAM = """
    import sys
    from pathlib import Path
    from quintain.rl.boards import recording
    from quintain.rl.config_types import BoardsConfig
    from quintain.rl.metrics import Event

    folder, option, steps = Path(sys.argv[1]), sys.argv[2], [int(step) for step in sys.argv[3:]]
    run = BoardsConfig.model_validate({option: True, "project": "tests"})

    def show(event):
        if event.phase == "prepare":
            print(event.message)

    with recording(run, {"name": "demo"}, folder, show) as (log, tell):
        tell(Event("eval", 0, 9, {"success": 0.25}, "before"))
        for step in steps:
            tell(Event("rl", step, 9, {"reward": step / 10, "loss": float("nan")}))
"""


class Outside:
    """A server that counts who comes, in place of the world outside."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.visits = 0
        self.address = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        while True:
            try:
                self._server.accept()[0].close()
            except OSError:
                return
            self.visits += 1

    def close(self) -> None:
        self._server.close()


@pytest.fixture
def outside():
    server = Outside()
    yield server
    server.close()


def play(folder: Path, option: str, *steps: int, outside: Outside, home: Path, **variables: str) -> str:
    """Log a few steps in a process whose every way out leads to `outside`; return what it said and any error."""
    import quintain

    folder.mkdir(exist_ok=True)
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), outside.address)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), str(folder), option, *map(str, steps)],
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(home),
            "PYTHONPATH": str(Path(quintain.__file__).parents[1]),
            "TRACKIO_DIR": str(home / "trackio"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "",
            **proxies,
            **variables,
        },
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.stdout + done.stderr


def records(path: Path) -> list[bytes]:
    """The records of a `.wandb` file: a LevelDB log, a header of 7 bytes and then blocks of 32 KiB."""
    data, found, part, at = path.read_bytes(), [], b"", 7
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        part += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            found.append(part)
            part = b""
    return found


def wandb_runs(folder: Path) -> list[tuple[str, str, list[dict[str, float]]]]:
    """(id, project, rows) of each offline run in the folder, oldest first."""
    from wandb.proto.wandb_internal_pb2 import Record

    runs = []
    for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        identity, project, rows = "", "", []
        for data in records(path):
            record = Record.FromString(data)
            if record.HasField("run"):
                identity, project = record.run.run_id, record.run.project
            if record.HasField("history"):
                rows.append(
                    {
                        "/".join(item.nested_key) or item.key: json.loads(item.value_json)
                        for item in record.history.item
                        if not (item.key or item.nested_key[0]).startswith("_")
                    }
                )
        runs.append((identity, project, rows))
    return runs


@pytest.mark.slow
@pytest.mark.parametrize("variables", [{"WANDB_MODE": "offline"}, {}], ids=["offline", "without a login"])
def test_wandb_stays_in_the_run_folder_and_a_resumed_run_keeps_its_id(tmp_path, outside, variables):
    pytest.importorskip("wandb")
    folder = tmp_path / "demo-seed0-1"
    said = play(folder, "wandb", 1, 2, outside=outside, home=tmp_path, **variables)
    play(folder, "wandb", 2, 3, outside=outside, home=tmp_path, **variables)
    assert "W&B: nothing is sent; `wandb sync " in said
    first, second = wandb_runs(folder)
    assert first[:2] == second[:2] == (identity(folder), "tests")
    assert [(r.get("rl/step"), r.get("rl/reward")) for r in first[2]] == [(None, None), (1, 0.1), (2, 0.2)]
    assert [(r.get("rl/step"), r.get("rl/reward")) for r in second[2]] == [(None, None), (2, 0.2), (3, 0.3)]
    assert first[2][0] == {"eval/step": 0, "eval/success": 0.25}
    assert outside.visits == 0
    kept = {path.name for path in folder.glob("wandb/offline-run-*/files/*")}
    assert kept <= {"config.yaml", "wandb-summary.json"}, "something else than metrics and config was kept"


@pytest.mark.slow
def test_wandb_that_cannot_be_reached_is_said_before_anything_starts(tmp_path, outside):
    """It also shows that the tests above would see a visit."""
    pytest.importorskip("wandb")
    said = play(tmp_path / "demo", "wandb", 1, outside=outside, home=tmp_path, WANDB_API_KEY="a" * 40)
    assert "UserError: run.wandb: Weights & Biases could not be started" in said
    assert "set WANDB_MODE=offline to write to the run folder alone" in said
    assert not (tmp_path / "demo" / "metrics.jsonl").exists()
    assert outside.visits > 0


@pytest.mark.slow
def test_trackio_stays_on_the_machine_and_a_resumed_run_goes_on(tmp_path, outside):
    pytest.importorskip("trackio")
    folder = tmp_path / "demo-seed0-1"
    said = play(folder, "trackio", 1, 2, outside=outside, home=tmp_path)
    play(folder, "trackio", 2, 3, outside=outside, home=tmp_path)
    name = f"demo-seed0-1-{identity(folder)}"
    assert f"trackio: run {name}; `trackio show --project tests` shows it" in said
    (path,) = (tmp_path / "trackio").rglob("tests*.db")
    with sqlite3.connect(path) as database:
        rows = database.execute(
            "select run_id, step, metrics from metrics where run_name = ? order by id", [name]
        )
        found = [(run, step, json.loads(metrics).get("rl/reward")) for run, step, metrics in rows]
    assert [row[1:] for row in found] == [(0, None), (1, 0.1), (2, 0.2), (0, None), (2, 0.2), (3, 0.3)]
    assert len({run for run, *_ in found}) == 1
    assert outside.visits == 0
