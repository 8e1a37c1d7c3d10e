"""LoRA: what is trained, what engines and checkpoints get, what the leash is measured to."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from quintain.rl.adapters import add_adapter, load_adapter, save_whole, whole_weights
from quintain.rl.config import LoraConfig, ModelConfig
from quintain.rl.credit import Credit
from quintain.rl.forward import plain
from quintain.rl.learner import Learner
from quintain.rl.models import load_model
from quintain.rl.rl_config import RlConfig
from quintain.tools.errors import UserError


def adapted(model, **options):
    return add_adapter(model, LoraConfig(rank=4, **options), seed=1)


def learn(model, batch, steps: int = 2, **options) -> Learner:
    config = RlConfig.model_validate({"steps": 10, "lr": 1e-2, "lr_final": 1.0, **options})
    learner = Learner(model, config, temperature=1.0, generator=np.random.default_rng(0))
    for _ in range(steps):
        learner.update(batch, Credit.of_episodes(batch, np.array([1.0, -1.0])), learner.measure(batch))
    return learner


@pytest.fixture
def batch(trajectory):
    return [
        trajectory([40, 41, 42, 43], "..xx", logprobs=[0, 0, -5.0, -5.0]),
        trajectory([40, 41, 50, 51], "..xx", logprobs=[0, 0, -5.0, -5.0]),
    ]


def logits(model, ids=(40, 41, 42)) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([list(ids)])).logits


def test_a_fresh_adapter_changes_nothing(make_model):
    torch.testing.assert_close(logits(adapted(make_model())), logits(make_model()))


def test_the_same_seed_makes_the_same_adapter_and_leaves_the_process_generator(make_model):
    before = torch.random.get_rng_state()
    first, second = adapted(make_model()), adapted(make_model())
    assert torch.equal(before, torch.random.get_rng_state())
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_the_adapter_alone_is_trained(make_model, batch):
    model, before = adapted(make_model()), make_model().state_dict()
    learn(model, batch)
    after = {name.replace(".base_layer", ""): value for name, value in plain(model).state_dict().items()}
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not torch.equal(logits(model), logits(make_model()))


def test_the_whole_weights_make_the_same_model_and_leave_the_adapter(make_model, batch):
    model = adapted(make_model())
    learn(model, batch)
    expected = logits(model)
    merged = make_model()
    merged.load_state_dict(whole_weights(model))
    torch.testing.assert_close(logits(merged), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(logits(model), expected)


def test_a_checkpoint_is_a_plain_folder_with_the_adapter_inside(make_model, batch, tmp_path):
    from transformers import AutoModelForCausalLM

    model = adapted(make_model())
    learn(model, batch)
    save_whole(model, tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(logits(loaded), logits(model), rtol=1e-4, atol=1e-4)
    again = adapted(make_model())
    load_adapter(again, tmp_path)
    assert torch.equal(logits(again), logits(model))


def test_a_checkpoint_without_an_adapter_is_refused(make_model, tmp_path):
    save_whole(make_model(), tmp_path)
    with pytest.raises(UserError, match=r"holds no adapter, but model\.lora asks for one"):
        load_adapter(adapted(make_model()), tmp_path)


def test_the_leash_is_measured_to_the_base_and_no_copy_is_kept(make_model, batch):
    model = adapted(make_model())
    learner = learn(model, batch, steps=3)
    assert learner.reference.state() is None
    assert learner.kl_from_start(batch) > 0
    with model.disable_adapter():
        assert learner.kl_from_start(batch) == pytest.approx(0.0, abs=1e-6)


def test_the_engine_samples_from_base_and_adapter_together(make_model, batch):
    import asyncio

    from quintain.rl.engines import Sampling
    from quintain.rl.engines.transformers import TransformersEngine

    model = adapted(make_model())
    learn(model, batch)
    model.eval()

    async def greedy():
        engine = TransformersEngine(model)
        try:
            return await engine.generate([40, 41], Sampling(max_tokens=1, stop_ids=(), temperature=0))
        finally:
            await engine.close()

    found = asyncio.run(greedy())
    table = torch.log_softmax(logits(model, (40, 41))[0, -1], -1)
    assert list(found.ids) == [table.argmax().item()]
    assert found.logprobs[0] == pytest.approx(table.max().item(), abs=1e-4)


def test_a_target_that_is_not_there_is_named(make_model):
    with pytest.raises(UserError, match=r"model.lora.targets \['q_prj'\] does not fit the model"):
        adapted(make_model(), targets=["q_prj"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "x", "quantize": "4bit"}, "weights of 4bit cannot be trained themselves"),
        ({"quantize": "4bit", "lora": {}}, "the embedded model is too small to be quantised"),
    ],
)
def test_quantised_weights_need_an_adapter_and_a_model_worth_it(options, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig.model_validate(options)


def test_gradient_checkpointing_changes_no_gradient(make_model, batch):
    found = []
    for checkpointing in (False, True):
        model = copy.deepcopy(make_model())
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        learn(model, batch * 1, steps=1)
        found.append(model.state_dict())
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-5, atol=1e-6)


# --- QLoRA


@pytest.fixture
def saved(make_model, tokenizer, tmp_path):
    folder = tmp_path / "model"
    make_model().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_quantised_weights_stay_and_a_checkpoint_has_them_whole(saved, batch, tmp_path):
    pytest.importorskip("bitsandbytes")
    from transformers import AutoModelForCausalLM

    config = ModelConfig.model_validate(
        {"path": str(saved), "device": "cpu", "quantize": "4bit", "lora": {"rank": 4}}
    )
    model, _ = load_model(config, seed=0)
    packed = {name: p.clone() for name, p in model.named_parameters() if p.dtype == torch.uint8}
    assert len(packed) == 2 * 7
    before = logits(model.eval())  # as sampling does: the gradient must still reach the first layer after it
    learner = learn(model, batch)
    assert learner.kl_from_start(batch) > 0
    now = dict(model.named_parameters())
    assert all(torch.equal(now[name], kept) for name, kept in packed.items())
    assert all(p.abs().max() > 0 for name, p in now.items() if "lora_B" in name)
    after = logits(model.eval())
    assert (after - before).abs().max() > 0.1
    save_whole(model, tmp_path / "out")
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert not hasattr(whole.config, "quantization_config")
    torch.testing.assert_close(logits(whole), after, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("bits", "message"),
    [
        ("4bit", r"model.quantize = '4bit' needs `pip install 'quintain\[qlora\]'`"),
        ("8bit", "model.quantize = '8bit' runs on cuda, got cpu"),
    ],
)
def test_quantising_that_cannot_be_had_is_refused(bits, message, saved, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    config = ModelConfig.model_validate({"path": str(saved), "quantize": bits, "lora": {}, "device": "cpu"})
    with pytest.raises(UserError, match=message):
        load_model(config, seed=0)


# --- folders that hold something else


def test_a_model_without_a_language_head_is_refused(make_model, tokenizer, tmp_path):
    from transformers import LlamaForSequenceClassification

    config = make_model().config
    config.tie_word_embeddings = False  # tied, the head is there: it is the embedding
    LlamaForSequenceClassification(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(
        UserError,
        match=r"holds no causal language model: it lacks lm_head.weight .*LlamaForSequenceClassification",
    ):
        load_model(ModelConfig(path=str(tmp_path)), seed=0)


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(make_model, tokenizer, tmp_path):
    make_model().save_pretrained(tmp_path)
    other = copy.deepcopy(tokenizer)
    other.add_tokens([f"<new {number}>" for number in range(50)])
    other.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"its tokenizer has \d+ tokens, but the model knows 320"):
        load_model(ModelConfig(path=str(tmp_path)), seed=0)
