"""With `rl.compile` the learner computes what it did before, and compiles once for packed rows of any layout."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from quintain.rl.compiling import compile_layers
from quintain.rl.config import RlConfig
from quintain.rl.credit import Credit
from quintain.rl.learner import Learner
from quintain.tools.errors import UserError


def learner(model, **options) -> Learner:
    config = RlConfig.model_validate({"steps": 10, "lr": 1e-3, "micro_batch_tokens": 64, **options})
    return Learner(model, config, temperature=1.0, generator=np.random.default_rng(0))


def batches(trajectory, count: int):
    """Steps of 3 to 8 episodes of 6 to 40 tokens, in groups of two that begin alike."""
    rng = np.random.default_rng(7)
    for _ in range(count):
        batch = []
        for number in range(int(rng.integers(3, 9))):
            own = int(rng.integers(3, 20))
            begin = np.random.default_rng(number // 2).integers(40, 300, size=18).tolist()
            ids = begin + rng.integers(40, 300, size=own).tolist()
            batch.append(trajectory(ids, "." * 18 + "x" * own, group=number // 2))
        yield batch, rng.normal(size=len(batch))


@pytest.mark.slow
def test_the_numbers_are_those_without_and_a_new_layout_compiles_nothing(
    make_model, trajectory, tmp_path, monkeypatch
):
    from torch._dynamo.utils import counters

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("torch._inductor.config.compile_threads", 1)  # no pool of processes
    torch._dynamo.reset()
    counters.clear()
    models = [make_model(), make_model()]
    plain, compiled = learner(models[0]), learner(models[1], compile=True)
    graphs = []
    for batch, advantages in batches(trajectory, 5):
        credit = Credit.of_episodes(batch, advantages)
        ours, theirs = (one.update(batch, credit, one.measure(batch)) for one in (compiled, plain))
        assert ours == pytest.approx(theirs, abs=1e-5, rel=1e-5)
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[-1] == graphs[1] > 0
    for name, weight in models[0].state_dict().items():
        torch.testing.assert_close(models[1].state_dict()[name], weight, atol=1e-5, rtol=1e-5)


def test_a_pass_that_is_not_packed_runs_as_it_was(model, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda *_, **__: pytest.fail)
    ids = torch.arange(40, 50)[None]
    before = model(input_ids=ids).logits
    compile_layers(model)
    assert torch.equal(model(input_ids=ids).logits, before)


def test_a_machine_without_a_compiler_is_refused_with_what_torch_said(model, monkeypatch):
    def compiler(*_, **__):
        raise RuntimeError("No working C++ compiler found\nmore")

    monkeypatch.setattr(torch, "compile", compiler)
    with pytest.raises(
        UserError,
        match=r"rl.compile needs a C\+\+ compiler \(g\+\+ or clang\), .*cpu here \(RuntimeError: No working C\+\+",
    ):
        learner(model, compile=True)


def test_a_model_that_cannot_run_packed_rows_is_refused(model, monkeypatch):
    model.config._attn_implementation = "eager"
    with pytest.raises(UserError, match="packed rows, which LlamaForCausalLM cannot run"):
        learner(model, compile=True)


def test_a_model_that_does_not_name_its_layers_is_refused(model):
    bare = copy.deepcopy(model)
    bare._no_split_modules = []
    with pytest.raises(UserError, match="LlamaForCausalLM does not say what its layers are"):
        compile_layers(bare)
