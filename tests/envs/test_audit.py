"""Every environment that we ship passes its audit."""

from __future__ import annotations

import pytest

from quintain.envs.audit import audit
from quintain.envs.registry import load


def test_the_reward_can_be_trusted(env_case):
    env_id, options = env_case
    # Programs run in sandboxes: hundreds of them are for the thorough look.
    card = load(env_id).card if isinstance(load(env_id), type) else None
    programs = card is not None and "code" in card.tags
    skip = ["deterministic", "bounded", *(["trivial", "hackable"] if programs else [])]
    report = audit(env_id, kwargs=options, tasks=2, fuzz=20, skip=skip)
    assert report.sound, [(finding.name, finding.text) for finding in report.troubles]


@pytest.mark.slow
def test_the_reward_can_be_trusted_looked_at_thoroughly(env_case):
    env_id, options = env_case
    card = load(env_id).card if isinstance(load(env_id), type) else None
    heavy = card is not None and bool({"sandbox", "sql", "retrieval"} & set(card.tags))
    report = audit(env_id, kwargs=options, fuzz=100 if heavy else 500, seed=1)
    assert report.sound, [(finding.name, finding.text) for finding in report.troubles]


DATA = {
    "quintain/GSM8K-v0": "gsm8k_test_a.jsonl",
    "quintain/IFEval-v0": "ifeval_a.jsonl",
    "quintain/BFCL-v0": "bfcl_simple_python_a.jsonl",
    "quintain/HumanEval-v0": "humaneval.jsonl",
}


@pytest.mark.slow
@pytest.mark.parametrize("env_id", DATA)
def test_on_real_rows(env_id, data_dir):
    report = audit(env_id, kwargs={"path": str(data_dir / DATA[env_id])}, tasks=10)
    assert report.sound, [(finding.name, finding.text) for finding in report.troubles]
