"""The docker backend, with a real engine."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from quintain.sandboxes import Limits, LimitsError, SandboxUnavailable, open_pool, open_sandbox
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


def test_an_image_without_python_is_named(image: str) -> None:
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
