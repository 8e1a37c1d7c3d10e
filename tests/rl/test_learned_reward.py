"""A small real reward model, trained here from pairs that the verifier made, and RL against it with real gradients."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The benchmark, whose task, pairs and configs these tests share."""
    spec = importlib.util.spec_from_file_location("over", ROOT / "benchmarks" / "overoptimisation.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["over"] = module
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        spec.loader.exec_module(module)
    module.notes()
    return module


@pytest.fixture(scope="module")
def proxy(script: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The reward model and its report."""
    found: tuple[Path, dict[str, Any]] = script.reward_model(tmp_path_factory.mktemp("proxy") / "rm")
    return found


@pytest.mark.slow
def test_it_tells_nine_of_ten_held_out_pairs_apart(proxy: tuple[Path, dict[str, Any]]) -> None:
    assert proxy[1]["accuracy"] >= 0.9
    assert proxy[1]["count"] >= 150


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["grpo", "ppo"])
def test_with_a_leash_the_gold_rises_with_the_proxy(
    algorithm: str, script: ModuleType, proxy: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    points, alarms = script.curve(tmp_path / "run", script.run_config(proxy[0], algorithm, script.LEASH, 25))
    assert mean(points[-5:], "gold") > mean(points[:3], "gold") + 0.03
    assert mean(points[-5:], "proxy") > mean(points[:3], "proxy") + 0.03
    assert alarms == []


@pytest.mark.slow
def test_without_one_the_gold_falls_while_the_proxy_rises_and_the_guard_stops_the_run(
    script: ModuleType, proxy: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    config = script.run_config(proxy[0], "grpo", 0.0, 40, action="stop")
    points, alarms = script.curve(tmp_path / "run", config)
    assert alarms and len(points) == alarms[0] < 40
    assert mean(points[-3:], "gold") < max(p.gold for p in points) - 0.05
    assert mean(points[-3:], "proxy") > mean(points[:3], "proxy")


@pytest.mark.slow
def test_dpo_on_the_same_pairs_raises_the_gold_on_held_out_tasks(
    script: ModuleType, proxy: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    warm = script.warm_start(tmp_path / "warm")
    before, after = script.dpo_curve(tmp_path / "dpo", warm, proxy[0], beta=1.0, steps=24, every=24)
    assert (before.step, after.step) == (0, 24)
    assert before.distance == 0 < after.distance
    assert after.gold > before.gold + 0.08  # the standard error of each is about 0.02
    assert after.proxy > before.proxy + 0.1


def mean(points: list[Any], name: str) -> float:
    """The mean of a measurement."""
    return sum(getattr(p, name) for p in points) / len(points)
