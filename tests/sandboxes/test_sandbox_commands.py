"""`quintain sandbox run | shell | check`, as a person meets them."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from quintain.cli import main
from quintain.sandboxes import SandboxUnavailable, open_sandbox


@pytest.fixture(scope="module", autouse=True)
def a_sandbox_here() -> None:
    try:
        open_sandbox("local").close()
    except SandboxUnavailable as missing:
        pytest.skip(str(missing))


def quintain(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "quintain", *words]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120)


def said(done: subprocess.CompletedProcess[str]) -> tuple[int, str, str]:
    return done.returncode, done.stdout, done.stderr


def test_run_passes_on_input_output_and_exit_status(tmp_path: Path) -> None:
    program = tmp_path / "p.py"
    program.write_text(
        "import sys\nprint(sys.stdin.read().upper())\nprint('err', file=sys.stderr)\nsys.exit(3)\n"
    )
    assert said(quintain("sandbox", "run", str(program), stdin="abc")) == (3, "ABC\n", "err\n")
    script = tmp_path / "s.sh"
    script.write_text("echo $((6 * 7))\n")
    assert said(quintain("sandbox", "run", str(script))) == (0, "42\n", "")
    assert said(quintain("sandbox", "run", "-", stdin="print(7)")) == (0, "7\n", "")


def test_run_says_why_a_program_was_stopped(tmp_path: Path) -> None:
    program = tmp_path / "p.py"
    program.write_text("print('before', flush=True)\nwhile True: pass\n")
    status, out, err = said(quintain("sandbox", "run", str(program), "--wall", "0.5"))
    assert (status, out) == (137, "before\n")
    assert err.startswith("[timeout after 0.")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "missing.py"], "error: [Errno 2] No such file or directory: 'missing.py'"),
        (
            ["run", "-", "--language", "cobol"],
            "error: There is no language 'cobol' here; have 'python' and 'bash'.",
        ),
        (["run", "-", "--wall", "0"], "error: Limits.wall_s must be between 0.01 and 86400, got 0.0."),
        (
            ["run", "-", "--backend", "moon"],
            "error: There is no sandbox backend 'moon'; have 'local' and 'docker'.",
        ),
        (
            ["run", "-", "--tier", "best"],
            "error: There is no local tier 'best'; have full, bwrap-per-box, landlock.",
        ),
        (["shell", "ruby"], "error: There is no session of kind 'ruby'; have 'python' and 'bash'."),
        (["shell", "--wall", "0"], "error: Limits.wall_s must be between 0.01 and 86400, got 0.0."),
        (["check", "--only", "nonsense"], "error: There is no check 'nonsense'. The checks are: run-python"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"print(1)")))
    assert main(["sandbox", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(message)
    assert len(err.splitlines()) == 1


def test_shell_keeps_its_state_from_line_to_line() -> None:
    done = quintain("sandbox", "shell", "python", stdin="x = 6\nx * 7\n1 / 0\nx\n")
    assert (done.returncode, done.stdout) == (0, "42\n6\n")
    assert "ZeroDivisionError" in done.stderr
    assert "python in a full sandbox" in done.stderr or "python in a bwrap-per-box sandbox" in done.stderr
    assert quintain("sandbox", "shell", stdin="cd /tmp\npwd\nexit 3\necho on\n").stdout == "/tmp\non\n"


@pytest.mark.slow
def test_ctrl_c_ends_a_run_and_leaves_nothing(tmp_path: Path) -> None:
    program = tmp_path / "p.py"
    program.write_text("import time\nprint('up', flush=True)\ntime.sleep(60)\n")
    child = subprocess.Popen(
        [sys.executable, "-m", "quintain", "sandbox", "run", str(program), "--wall", "60"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    time.sleep(3)
    started = time.monotonic()
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=30)
    assert time.monotonic() - started < 15
    assert child.returncode != 0
    assert b"Traceback" not in err


def test_check_tries_the_promises_that_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sandbox", "check", "local", "--only", "run-python", "--only", "not-root"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "kept    A Python program runs, and what it prints comes back."
    assert lines[1].startswith("kept    Programs run as an ordinary user")
    assert lines[2].startswith("2 of 2 promises kept by local, in ")
