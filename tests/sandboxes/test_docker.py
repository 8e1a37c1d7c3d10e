"""The docker backend, with a real engine."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from quintain.sandboxes import (
    BoxSandbox,
    LanguageError,
    Limits,
    LimitsError,
    SandboxFileError,
    SandboxUnavailable,
    open_pool,
    open_sandbox,
)
from quintain.sandboxes.attached import Demultiplexer
from quintain.sandboxes.check import check_sandbox
from quintain.sandboxes.docker import LABEL, build_image, connect, reap

pytestmark = pytest.mark.docker


def ours(client: Any) -> list[Any]:
    return list(client.containers.list(all=True, filters={"label": LABEL}, ignore_removed=True))


def eventually_none(client: Any, but: set[str], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not [c for c in ours(client) if c.id not in but]:
            return True
        time.sleep(0.2)
    return False


@pytest.mark.slow
def test_every_promise_is_kept(image: str) -> None:
    found = asyncio.run(check_sandbox(lambda limits: open_sandbox("docker", limits=limits, image=image)))
    assert [(r.id, r.detail) for r in found if not r.held] == []
    assert len(found) >= 50


def test_a_container_is_confined_by_the_engine_too(image: str) -> None:
    client = connect()
    before = {c.id for c in ours(client)}
    with open_sandbox("docker", image=image, limits=Limits(memory_mb=128, disk_mb=16, processes=32)):
        made = [c for c in ours(client) if c.id not in before]
        settings = client.api.inspect_container(made[0].id)
        host, config = settings["HostConfig"], settings["Config"]
        assert host["NetworkMode"] == "none"
        assert host["ReadonlyRootfs"] is True
        assert host["CapDrop"] == ["ALL"]
        assert host["SecurityOpt"] == ["no-new-privileges"]
        assert host["PidsLimit"] == 34
        assert host["Memory"] == host["MemorySwap"] == (128 + 3 * 16 + 64) << 20
        assert host["Binds"] in (None, [])
        assert config["User"] == "61234:61234"
        assert not [word for word in config["Env"] if "SECRET" in word]
    assert eventually_none(client, before, 10)


def test_nothing_survives_a_killed_supervisor(image: str) -> None:
    client = connect()
    before = {c.id for c in ours(client)}
    code = f"""
from quintain.sandboxes import open_pool
import time
pool = open_pool("docker", image={image!r}, size=2)
print(pool.run_sync("print(7)").stdout, flush=True)
time.sleep(60)
"""
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"7\n"
    time.sleep(1)
    assert [c for c in ours(client) if c.id not in before]
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    time.sleep(2)
    reap(client)  # as the next start does: what was made but not yet started when the end came
    assert eventually_none(client, before, 10)


def test_the_reaper_removes_strays_only(image: str) -> None:
    client = connect()
    labels = {LABEL: "x", f"{LABEL}.pid": "1:not-its-start", f"{LABEL}.until": str(int(time.time()) + 999)}
    stray = client.containers.run(image, ["sleep", "600"], detach=True, labels=labels, network_mode="none")
    other = client.containers.run(image, ["sleep", "600"], detach=True, network_mode="none")
    try:
        assert reap(client) >= 1
        assert stray.id not in {c.id for c in ours(client)}
        other.reload()
        assert other.status == "running"
    finally:
        for container in (stray, other):
            with contextlib.suppress(Exception):
                container.remove(force=True)


def test_a_removed_container_is_a_lost_box_and_a_pool_goes_on(image: str) -> None:
    from quintain.sandboxes import WorkerDied

    client = connect()
    before = {c.id for c in ours(client)}
    with open_sandbox("docker", image=image, spares=0) as sandbox:
        for container in ours(client):
            if container.id not in before:
                container.remove(force=True)
        time.sleep(0.5)
        with pytest.raises(WorkerDied, match=r"lost. Call reset\(\) to go on"):
            sandbox.run_sync("print(1)")
        sandbox.reset_sync()
        assert sandbox.run_sync("print(1)").stdout == "1\n"


def test_wrong_images_and_limits_are_named(image: str) -> None:
    with pytest.raises(SandboxUnavailable, match=r"no image 'no-such:1'. Pull or build it first"):
        open_sandbox("docker", image="no-such:1")
    with (
        open_sandbox("docker", image=image) as sandbox,
        pytest.raises(LimitsError, match=r"processes is fixed .* this one has 64, the run asks for 9"),
    ):
        sandbox.run_sync("pass", limits=sandbox.limits.but(processes=9))


@pytest.fixture(scope="module")
def plain(image: str) -> Iterator[BoxSandbox]:
    from docker_image import make_image

    made = make_image(connect(), python=False)
    limits = Limits(wall_s=5, processes=32, disk_mb=16, output_bytes=1 << 16)
    with (
        pytest.warns(RuntimeWarning, match=r"has no python3, so every program is a `docker exec`"),
        open_sandbox("docker", image=made, limits=limits, spares=0) as sandbox,
    ):
        yield sandbox


def test_without_python_scripts_and_programs_run(plain: BoxSandbox) -> None:
    result = plain.run_sync("read x; echo $x $((6 * 7)); echo err >&2; exit 3", language="bash", stdin="in\n")
    assert (result.stdout, result.stderr, result.exit_status) == ("in 42\n", "err\n", 3)
    result = plain.run_sync(["printf", "%s|", "a b", "$HOME"], files={"d/f": b"\x00x"}, env={"A": "1"})
    assert (result.reason, result.stdout) == ("ok", "a b|$HOME|")
    assert plain.run_sync("wc -c < d/f; id -u", language="bash").stdout == "2\n61234\n"
    assert plain.capabilities.languages == ("bash",)
    assert set(plain.capabilities.gaps) == {"disk", "agent", "seccomp"}


def test_without_python_programs_are_held(plain: BoxSandbox) -> None:
    short = plain.limits.but(wall_s=1.0)
    assert plain.run_sync("echo on; sleep 60", language="bash", limits=short).reason == "timeout"
    started = time.monotonic()
    left = plain.run_sync(
        "setsid sleep 611 & sleep 612 & kill -9 $PPID; sleep 613", language="bash", limits=short
    )
    assert not left.ok
    assert time.monotonic() - started < 10
    assert plain.run_sync("setsid sleep 614 & sleep 615 & echo on", language="bash").stdout == "on\n"
    alive = plain.run_sync(
        "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'sleep 61[12345]'", language="bash"
    )
    assert alive.stdout == "0\n"
    bomb = plain.run_sync("b() { b | b & }; b; sleep 60", language="bash", limits=short)
    assert bomb.reason == "timeout"
    flood = plain.run_sync("yes", language="bash", limits=plain.limits.but(wall_s=20))
    assert (flood.reason, len(flood.stdout_bytes), flood.stdout_truncated) == ("output", 1 << 16, True)
    assert plain.run_sync("echo on", language="bash").stdout == "on\n"


def test_without_python_files_are_read_written_and_listed(plain: BoxSandbox) -> None:
    data = bytes(range(256)) * 400
    plain.write_file_sync("a/b.bin", data)
    assert plain.read_file_sync("a/b.bin") == data
    plain.run_sync("ln -s /etc out; mkfifo pipe; ln -s a/b.bin in", language="bash")
    found = {info.path: (info.kind, info.size) for info in plain.list_files_sync()}
    assert found["a/b.bin"] == ("file", len(data))
    assert (found["out"][0], found["pipe"][0], found["a"][0]) == ("link", "other", "dir")
    assert plain.read_file_sync("in") == data
    for path in ("out/passwd", "pipe", "a", "missing"):
        with pytest.raises(SandboxFileError, match=r"Could not read the file"):
            plain.read_file_sync(path)
    with pytest.raises(SandboxFileError, match=r"more than 5 bytes"):
        plain.read_file_sync("a/b.bin", max_bytes=5)
    with pytest.raises(SandboxFileError, match=r"leaves the working folder"):
        plain.write_file_sync("out/x", b"")


def test_without_python_the_rest_is_refused_by_name(plain: BoxSandbox) -> None:
    with pytest.raises(LanguageError, match=r"This image has no python3.*Use an image with python3"):
        plain.run_sync("print(1)")
    with pytest.raises(LanguageError, match=r"no sessions"):
        plain.session_sync("bash")
    with pytest.raises(LanguageError, match=r"There is no program 'ruby2' in this sandbox"):
        plain.run_sync(["ruby2"])
    with pytest.raises(LanguageError, match=r"Snapshots need an image with python3"):
        plain.snapshot_sync()


def test_an_image_without_python_and_shell_is_named(image: str) -> None:
    import io
    import tarfile

    client = connect()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for folder in ("tmp", "work"):
            entry = tarfile.TarInfo(folder)
            entry.type = tarfile.DIRTYPE
            archive.addfile(entry)
    client.api.import_image_from_data(buffer.getvalue(), repository="quintain-empty", tag="1")
    with pytest.raises(SandboxUnavailable, match="python3"):
        open_sandbox("docker", image="quintain-empty:1")


def test_the_image_is_built_from_the_file_in_the_package(image: str) -> None:
    client = connect()
    build_image(client, tag="quintain-built:1", base=image)
    with open_sandbox("docker", image="quintain-built:1") as sandbox:
        assert sandbox.run_sync("import os; print(os.getcwd())").stdout == "/work\n"


def test_a_pool_gives_each_program_a_container(image: str) -> None:
    with open_pool("docker", image=image, size=3) as pool:

        async def main() -> list[str]:
            code = "import os; print(os.path.exists('seen')); open('seen', 'w')"
            return [r.stdout for r in await asyncio.gather(*(pool.run(code) for _ in range(5)))]

        assert asyncio.run(main()) == ["False\n"] * 5


def test_without_an_engine_it_says_where_it_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    with pytest.raises(
        SandboxUnavailable, match=r"No Docker engine answers at unix:///nonexistent.*Start one"
    ):
        open_sandbox("docker")


def test_frames_of_the_engine_are_taken_apart() -> None:
    framed = b"\x01\x00\x00\x00\x00\x00\x00\x03abc\x02\x00\x00\x00\x00\x00\x00\x02er\x01\x00\x00\x00\x00\x00\x00\x01d"
    for size in (1, 2, 7, 100):
        demux = Demultiplexer()
        out = b"".join(demux.take(framed[i : i + size]) for i in range(0, len(framed), size))
        assert (out, bytes(demux.errors)) == (b"abcd", b"er")
