"""What callers meet: public names, errors that say what to do, limits, pools, tiers."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import quintain.sandboxes
from quintain.sandboxes import (
    LanguageError,
    Limits,
    LimitsError,
    Pool,
    PoolExhausted,
    Reason,
    Runner,
    Sandbox,
    SandboxClosed,
    SandboxFileError,
    SandboxUnavailable,
    Tier,
    open_pool,
    open_sandbox,
    tiers,
)

PUBLIC = (
    "open_sandbox open_pool BoxSandbox Pool PoolStats Call Outcome Status Functions Limits Result Reason Usage Runner",
    "Sandbox Session Snapshot Files FileInfo Capabilities Tier SandboxError SandboxUnavailable SandboxClosed",
    "SandboxFileError LimitsError LanguageError WorkerDied PoolExhausted",
)


def test_the_public_names() -> None:
    assert sorted(quintain.sandboxes.__all__) == sorted(" ".join(PUBLIC).split())


def test_importing_is_light() -> None:
    heavy = "docker numpy sympy requests pydantic typer rich torch"
    code = f"import sys, quintain.sandboxes; print([m for m in {heavy.split()!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# --- limits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"wall_s": 0}, "Limits.wall_s must be between 0.01 and 86400, got 0."),
        ({"wall_s": float("nan")}, "Limits.wall_s must be between 0.01 and 86400, got nan."),
        ({"memory_mb": 3}, "Limits.memory_mb must be between 16 and 1048576, got 3."),
        ({"memory_mb": 256.5}, "Limits.memory_mb must be a whole number, got 256.5."),
        ({"processes": True}, "Limits.processes must be between 1 and 32768, got True."),
        ({"cpu_s": -1}, "Limits.cpu_s must be between 0.01 and 86400, got -1."),
    ],
)
def test_impossible_limits_name_the_field_and_the_value(changes: dict[str, float], words: str) -> None:
    with pytest.raises(LimitsError) as error:
        Limits(**changes)  # type: ignore[arg-type]
    assert str(error.value) == words


def test_a_misspelt_limit_lists_the_right_ones() -> None:
    with pytest.raises(
        LimitsError, match=r"There is no limit named 'wall'. The limits are: wall_s, cpu_s, memory_mb"
    ):
        Limits().but(wall=3)


# --- errors ---------------------------------------------------------------------------------------------------


def test_errors_say_what_to_do(pool: Pool) -> None:
    with pytest.raises(LanguageError, match=r"There is no language 'ruby' here; have 'python' and 'bash'"):
        pool.run_sync("x", language="ruby")
    with pytest.raises(LanguageError, match=r"There is no program 'ruby2' in this sandbox"):
        pool.run_sync(["ruby2", "x"])
    with pytest.raises(LimitsError, match=r"no network.*open_sandbox\('docker'\)"):
        pool.run_sync("x", limits=pool.limits.but(network=True))
    with pytest.raises(SandboxFileError, match=r"'../x' is outside the working folder. Give a relative path"):
        pool.run_sync("x", files={"../x": ""})
    with pytest.raises(SandboxFileError, match=r"No space left on device|File too large"):
        pool.run_sync("x", files={"big": b"x" * (100 << 20)})
    with pytest.raises(SandboxUnavailable, match=r"no sandbox backend 'moon'; have 'local' and 'docker'"):
        open_sandbox("moon")
    with pytest.raises(ValueError, match=r"no local tier 'best'; have full, bwrap-per-box, landlock"):
        open_sandbox("local", tier="best")


def test_limits_of_the_box_cannot_change_with_a_run(pool: Pool) -> None:
    async def main() -> None:
        async with pool.sandbox() as sandbox:
            with pytest.raises(
                LimitsError, match=r"disk_mb is fixed .* this one has 64, the run asks for 256"
            ):
                await sandbox.run("pass", limits=Limits())
            assert (await sandbox.run("pass", limits=sandbox.limits.but(wall_s=2))).ok

    asyncio.run(main())


def test_closed_things_say_so() -> None:
    pool = _open()
    pool.close()
    pool.close()
    with pytest.raises(SandboxClosed, match="closed"):
        pool.run_sync("pass")


def _open(**options: object) -> Pool:
    try:
        return open_pool("local", **options)  # type: ignore[arg-type]
    except SandboxUnavailable as missing:
        pytest.skip(str(missing))


def test_both_are_runners(pool: Pool) -> None:
    async def main() -> None:
        async with pool.sandbox() as sandbox:
            assert isinstance(sandbox, Sandbox)
            assert isinstance(sandbox, Runner)

    assert isinstance(pool, Runner)
    asyncio.run(main())


# --- tiers ----------------------------------------------------------------------------------------------------


def test_without_bubblewrap_it_refuses_and_names_both_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from quintain.sandboxes import local

    def missing() -> str:
        raise SandboxUnavailable("bwrap was not found.")

    monkeypatch.setattr(local, "find_bubblewrap", missing)
    with pytest.raises(SandboxUnavailable) as error:
        open_sandbox("local")
    text = str(error.value)
    assert text.startswith(
        "No local sandbox of tier bwrap-per-box or better can be opened on this machine. full: bwrap"
    )
    assert "open_sandbox('docker')" in text
    assert "min_tier='landlock' allows a tier that needs no namespaces and declares its gaps" in text
    assert "unsafe_allow='none'" in text


def test_a_worker_that_cannot_start_gives_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    from quintain.sandboxes import local

    monkeypatch.setattr(local, "find_bubblewrap", lambda: "/bin/false")
    with pytest.raises(SandboxUnavailable, match="A worker did not start"):
        open_sandbox("local")


def test_the_least_tier_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    async def refuse(tier: Tier, preload: object, workers: int) -> None:
        tried.append(tier)
        raise SandboxUnavailable("no.")

    monkeypatch.setattr(tiers, "_open", refuse)
    with pytest.raises(SandboxUnavailable):
        open_sandbox("local", min_tier="full")
    assert tried == ["full"]


def test_unsafe_warns_at_every_start_and_marks_every_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiers, "ORDER", ())
    monkeypatch.setattr(tiers, "_tier", lambda name: Tier.NONE)
    for _ in range(2):
        with pytest.warns(RuntimeWarning, match="no isolation"):
            sandbox = _unsafe()
        with sandbox:
            result = sandbox.run_sync("import os; print(os.getcwd())")
            assert not result.isolated
            assert not sandbox.capabilities.isolated
            assert "isolation" in sandbox.capabilities.gaps
            folder = Path(result.stdout.strip()).parent
            assert folder.name.startswith("quintain-unsafe-")
            assert (
                sandbox.run_sync("sleep 600", language="bash", limits=Limits(wall_s=0.3)).reason
                is Reason.TIMEOUT
            )
        assert not folder.exists()


def _unsafe() -> quintain.sandboxes.BoxSandbox:
    from quintain.sandboxes.box import BoxSandbox
    from quintain.sandboxes.local import LocalBackend
    from quintain.sandboxes.portal import Portal

    portal = Portal()

    async def make() -> BoxSandbox:
        return BoxSandbox(LocalBackend(tier=Tier.NONE), portal, Limits())

    return portal.call(make())


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize(
    ("tier", "not_promised"),
    [("bwrap-per-box", set()), ("landlock", {"snapshot-restored"})],
)
def test_the_lesser_tiers_keep_all_but_what_they_declare(tier: str, not_promised: set[str]) -> None:
    from quintain.sandboxes.check import check_sandbox

    try:
        open_sandbox("local", tier=tier).close()
    except SandboxUnavailable as missing:
        pytest.skip(str(missing))
    found = asyncio.run(check_sandbox(lambda limits: open_sandbox("local", limits=limits, tier=tier)))
    assert [(r.id, r.detail) for r in found if r.held is False] == []
    assert {r.id for r in found if r.held is None} == not_promised
    assert len(found) >= 50


def test_landlock_is_never_chosen_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    async def refuse(tier: Tier, preload: object, workers: int) -> None:
        tried.append(tier)
        raise SandboxUnavailable("no.")

    monkeypatch.setattr(tiers, "_open", refuse)
    for options in ({}, {"min_tier": "landlock"}):
        with pytest.raises(SandboxUnavailable):
            open_sandbox("local", **options)
    assert tried == ["full", "bwrap-per-box", "full", "bwrap-per-box", "landlock"]


def test_a_kernel_without_landlock_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from quintain.sandboxes import bundle

    sources = bundle._sources()
    without = tuple((n, t.replace("NEEDED_ABI = 6", "NEEDED_ABI = 99")) for n, t in sources)
    monkeypatch.setattr(bundle, "_sources", lambda: without)
    bundle.compiled.cache_clear()
    try:
        with pytest.raises(
            SandboxUnavailable, match=r"this kernel's Landlock is version .*, and 99 is needed"
        ):
            open_sandbox("local", tier="landlock")
    finally:
        bundle.compiled.cache_clear()


def test_landlock_leaves_no_folder_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    tmp_path.chmod(0o711)
    stray = tmp_path / "quintain-boxes-999999999-x" / "box-1" / "work"
    stray.mkdir(parents=True)
    (stray / "locked").mkdir(mode=0o000)
    try:
        sandbox = open_sandbox("local", tier="landlock")
    except SandboxUnavailable as missing:
        pytest.skip(str(missing))
    with sandbox:
        sandbox.run_sync("import os; os.makedirs('/'.join(['d'] * 400)); open('f', 'w').write('x')")
        assert not stray.exists()
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.skipif(os.geteuid() != 0, reason="is about what root can start as another user")
@pytest.mark.parametrize("tier", ["full", "landlock"])
def test_an_ordinary_user_has_the_same_sandbox(tier: str) -> None:
    from ordinary_user import as_ordinary_user

    code = f"""
import asyncio, os
from quintain.sandboxes import open_sandbox
from quintain.sandboxes.check import check_sandbox
found = asyncio.run(check_sandbox(lambda limits: open_sandbox("local", limits=limits, tier={tier!r})))
print(os.getuid(), len(found) >= 50, [(r.id, r.detail) for r in found if r.held is False])
"""
    assert as_ordinary_user(["-c", code]) == "65534 True []\n"


# --- pools ----------------------------------------------------------------------------------------------------


def test_a_pool_runs_from_threads_and_loops_at_once(pool: Pool) -> None:
    got: list[str] = []

    async def many(start: int) -> list[str]:
        return [r.stdout for r in await asyncio.gather(*(pool.run(f"print({start + i})") for i in range(10)))]

    def loop(start: int) -> None:
        got.extend(asyncio.run(many(start)))

    def plain(start: int) -> None:
        got.extend(pool.run_sync(f"print({start + i})").stdout for i in range(10))

    threads = [threading.Thread(target=t, args=(i * 100,)) for i, t in enumerate((loop, plain, loop, plain))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(int(line) for line in got) == sorted(i * 100 + j for i in range(4) for j in range(10))


def test_runs_of_a_pool_do_not_meet(pool: Pool) -> None:
    pool.run_sync("open('mine', 'w').write('x')")
    assert pool.run_sync("import os; print(os.listdir('.'))").stdout == "[]\n"


def test_who_waits_too_long_for_a_place_is_told() -> None:
    with _open(size=1, wait_s=0.3) as pool:

        async def main() -> None:
            first = asyncio.ensure_future(pool.run("import time; time.sleep(1.5)"))
            await asyncio.sleep(0.2)
            with pytest.raises(PoolExhausted, match=r"None of the pool's 1 places became free within 0.3 s"):
                await pool.run("pass")
            assert pool.stats().running == 1
            assert (await first).ok

        asyncio.run(main())


def test_as_many_programs_are_kept_loaded_as_there_are_places_and_one_more_can_run_beside_them() -> None:
    with _open(size=1, wait_s=0.3) as pool:

        async def main() -> None:
            first = await pool.functions("def f(): return 1")
            with pytest.raises(PoolExhausted, match=r"None of the pool's 1 places became free within 0.3 s"):
                await pool.functions("def f(): return 2")
            assert (await pool.run("pass")).ok
            await first.aclose()
            with pytest.raises(SandboxFileError):
                await pool.functions("pass", files={"../outside": ""})
            second = await pool.functions("def f(): return 2")
            assert (await second.call("f")).value == 2
            await second.aclose()
            assert pool.stats().lent == 0

        asyncio.run(main())


def test_a_cancelled_run_gives_its_place_back() -> None:
    with _open(size=1) as pool:

        async def main() -> None:
            task = asyncio.ensure_future(pool.run("import time; time.sleep(60)"))
            await asyncio.sleep(0.2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            started = time.monotonic()
            assert (await pool.run("print(1)")).stdout == "1\n"
            assert time.monotonic() - started < 30
            assert pool.stats().running == 0

        asyncio.run(main())


def test_boxes_are_lent_and_counted(pool: Pool) -> None:
    async def main() -> None:
        async with pool.sandbox() as one, pool.sandbox() as two:
            assert pool.stats().lent == 2
            await one.write_file("a", "1")
            await two.write_file("a", "2")
            assert (await one.read_file("a"), await two.read_file("a")) == (b"1", b"2")
        assert pool.stats().lent == 0

    asyncio.run(main())


def test_modules_are_preloaded_and_a_missing_one_is_named() -> None:
    with _open(preload=("numpy",)) as pool:
        result = pool.run_sync(
            "import sys; print('numpy' in sys.modules); import numpy; print(numpy.arange(3).sum())"
        )
        assert result.stdout == "True\n3\n", result
        two = [pool.run_sync("import numpy; print(numpy.random.rand())").stdout for _ in range(2)]
        assert two[0] != two[1]
    with pytest.raises(SandboxUnavailable, match=r"could not be imported: no_such_module"):
        open_pool("local", preload=("no_such_module",))


def test_two_processes_have_pools_of_their_own() -> None:
    _open().close()
    code = "from quintain.sandboxes import open_pool\nwith open_pool() as p: print(p.run_sync('print(6 * 7)').stdout)"
    children = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(3)]
    assert [child.communicate(timeout=60)[0] for child in children] == [b"42\n\n"] * 3


def test_a_limit_this_machine_cannot_give_is_refused_before_a_line_has_run(pool: Pool) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] > 1 << 16:
        pytest.skip("this machine allows that many open files")
    with pytest.raises(LimitsError, match=r"This machine does not allow open_files=65536"):
        pool.run_sync("print('ran')", limits=pool.limits.but(open_files=1 << 16))
