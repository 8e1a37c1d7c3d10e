"""`metrics.jsonl`: one whole line per record, torn ends tolerated, nothing that is not JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from quintain.rl.metrics import Event, MetricsLog, read_metrics


def test_a_record_has_the_events_numbers_and_its_time(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        log.write(Event("rl", 3, 60, {"reward": 0.25, "sampled_tokens": 1234}))
        log.write(Event("eval", 3, 60, {"success_greedy/2": 0.5}, "after SFT"))
    first, second = map(json.loads, path.read_text().splitlines())
    assert first == {
        "phase": "rl",
        "step": 3,
        "time_s": first["time_s"],
        "reward": 0.25,
        "sampled_tokens": 1234,
    }
    assert second["message"] == "after SFT"
    records = read_metrics(path)
    assert [r.phase for r in records] == ["rl", "eval"]
    assert records[0].metrics == {"reward": 0.25, "sampled_tokens": 1234}
    assert records[1].message == "after SFT"


def test_a_sign_of_progress_leaves_no_line(tmp_path: Path) -> None:
    with MetricsLog(tmp_path / "m") as log:
        log.write(Event("prepare", 0, 1, message="loading the model"))
    assert (tmp_path / "m").read_text() == ""


def test_what_is_not_finite_is_null_and_named(tmp_path: Path) -> None:
    path = tmp_path / "m"
    with MetricsLog(path) as log:
        log.write(Event("rl", 1, 1, {"loss": math.nan, "kl": math.inf, "lr": 0.1}))
    line = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert (line["loss"], line["kl"], line["lr"]) == (None, None, 0.1)
    assert line["nonfinite"] == ["loss", "kl"]
    assert math.isnan(read_metrics(path)[0].metrics["loss"])


@pytest.mark.parametrize(
    "tail", [b'{"phase":"rl","ste', b'{"phase":"rl","step":2,"time_s":1.0}x', b"\x00\x00", b"[]", b"null"]
)
def test_a_torn_last_line_is_skipped_and_then_replaced(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "m"
    with MetricsLog(path) as log:
        log.write(Event("rl", 1, 9, {"reward": 0.1}))
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    assert [r.step for r in read_metrics(path)] == [1]
    with MetricsLog(path) as log:
        log.write(Event("rl", 2, 9, {"reward": 0.2}))
    assert path.read_bytes().startswith(whole + b'{"phase":"rl","step":2,')
    assert [r.step for r in read_metrics(path)] == [1, 2]


def test_a_resume_cuts_the_file_to_its_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "m"
    with MetricsLog(path) as log:
        log.write(Event("rl", 1, 9, {"reward": 0.1}))
        position = log.position
        log.write(Event("rl", 2, 9, {"reward": 0.2}))
        log.write(Event("rl", 3, 9, {"reward": 0.3}))
    with MetricsLog(path, position=position) as log:
        log.write(Event("rl", 2, 9, {"reward": 0.7}))
    assert [(r.step, r.metrics["reward"]) for r in read_metrics(path)] == [(1, 0.1), (2, 0.7)]


def test_a_step_written_again_counts_once(tmp_path: Path) -> None:
    path = tmp_path / "m"
    with MetricsLog(path) as log:
        for step, reward in [(1, 0.1), (2, 0.2), (2, 0.3)]:
            log.write(Event("rl", step, 9, {"reward": reward}))
        log.write(Event("eval", 0, 9, {"success_greedy": 0.1}, "before"))
        log.write(Event("eval", 0, 9, {"success_greedy": 0.4}, "after SFT"))
    assert [(r.phase, r.step, *r.metrics.values()) for r in read_metrics(path)] == [
        ("rl", 1, 0.1),
        ("rl", 2, 0.3),
        ("eval", 0, 0.1),
        ("eval", 0, 0.4),
    ]


def test_time_goes_on_after_a_resume(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_text('{"phase":"rl","step":1,"time_s":100.0,"reward":0}\n')
    with MetricsLog(path) as log:
        log.write(Event("rl", 2, 9, {"reward": 1}))
    assert 100.0 <= read_metrics(path)[-1].time_s < 101.0


def test_the_names_of_the_record_are_refused(tmp_path: Path) -> None:
    with MetricsLog(tmp_path / "m") as log, pytest.raises(ValueError, match="cannot be called 'step'"):
        log.write(Event("rl", 1, 1, {"step": 1.0}))


def test_no_file_has_no_records(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "missing") == []
