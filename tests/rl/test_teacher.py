"""A student learns from what a teacher makes of its own tokens: the formulas, the masks, and what is refused."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

from quintain import SingleTurnEnv, Task, TaskSet
from quintain.envs import register
from quintain.rl import credit, forward
from quintain.rl.alarms import raised
from quintain.rl.config import Config, LoraConfig, RlConfig, TinyModelConfig
from quintain.rl.credit import Measured
from quintain.rl.divergence import divergence, divergence_slope
from quintain.rl.learner import Learner
from quintain.rl.losses import likelihood_loss
from quintain.rl.metrics import read_metrics
from quintain.rl.packing import pack
from quintain.rl.teacher import Teacher, load_teacher
from quintain.rl.teacher_config import TeacherConfig
from quintain.rl.tiny import build_model, build_tokenizer
from quintain.rl.train import train
from quintain.tools.errors import UserError
from quintain.verifiers import ExactMatch

P, Q = (0.5, 0.25, 0.25), (0.25, 0.25, 0.5)
"""A teacher's distribution over three tokens, and a student's."""


def learner(model, teacher_model, *, temperature=1.0, ranks=None, **options) -> Learner:
    """A learner of the teacher alone; the keys of `teacher` and others beside it count."""
    said = {"path": "given", "reward_coef": 0.0, **options.pop("teacher", {})}
    given = {"steps": 10, "lr": 1e-3, "kl": {"measure_every": 0}, "teacher": said, **options}
    config = RlConfig.model_validate(given)
    teacher = Teacher(teacher_model, config.teacher, vocabulary=model.config.vocab_size)
    return Learner(
        model,
        config,
        temperature=temperature,
        generator=np.random.default_rng(0),
        teacher=teacher,
        ranks=ranks,
    )


def learn(student: Learner, batch) -> dict[str, float]:
    """One step: the metrics of `credit` and of the update, as the loop puts them together."""
    measured = student.measure(batch)
    given = credit.assign(batch, student.config, measured, kl_coef=student.kl_coef)
    return student.update(batch, given, measured) | given.metrics


def gradients(student: Learner, batch) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """What an update would move the weights by, and its metrics."""
    found = {}

    def keep(*_: object) -> None:
        found.update({n: p.grad.clone() for n, p in student.model.named_parameters() if p.grad is not None})

    student.optimizer.step = keep
    metrics = learn(student, batch)
    return found, metrics


def table(model, ids, temperature=1.0):
    """The log-probabilities of every token after every place of one sequence, by the model itself. [T, V]"""
    return torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0] / temperature, -1)


def sampled_by(model, trajectory, ids, marks, group=0, temperature=1.0):
    """A trajectory of those ids with the log-probabilities that `model` gives them."""
    with torch.no_grad():
        said = table(model, ids, temperature)
    logps = [said[t - 1, token].item() if marks[t] == "x" else 0.0 for t, token in enumerate(ids)]
    return trajectory(ids, marks, logprobs=logps, group=group)


@pytest.fixture
def played(model, trajectory):
    """Two episodes that begin alike, the first with two turns and a tool's result between, and one of their own."""
    prompt = [40 + n for n in range(20)]
    return [
        sampled_by(model, trajectory, [*prompt, 7, 8, 60, 61, 9, 10], "." * 20 + "xx..xx"),
        sampled_by(model, trajectory, [*prompt, 7, 11, 12], "." * 20 + "xxx"),
        sampled_by(model, trajectory, [50, 51, 70, 71], "..xx", group=1),
    ]


# --- the divergence


def test_the_kls_and_the_jensen_shannon_divergence_by_hand():
    p, q = torch.tensor([P]).log(), torch.tensor([Q]).log()
    forward_kl = 0.5 * math.log(0.5 / 0.25) + 0.25 * math.log(0.25 / 0.5)
    assert divergence(q, p, 0.0).item() == pytest.approx(forward_kl)
    assert divergence(q, p, 1.0).item() == pytest.approx(
        0.25 * math.log(0.25 / 0.5) + 0.5 * math.log(0.5 / 0.25)
    )
    mixed = (0.2 * 0.5 + 0.8 * 0.25, 0.25, 0.2 * 0.25 + 0.8 * 0.5)
    of_p = sum(a * math.log(a / m) for a, m in zip(P, mixed, strict=True))
    of_q = sum(b * math.log(b / m) for b, m in zip(Q, mixed, strict=True))
    assert divergence(q, p, 0.2).item() == pytest.approx(0.2 * of_p + 0.8 * of_q)


def test_towards_its_ends_the_jensen_shannon_divergence_is_a_kl():
    """Divided by beta it goes to the forward KL, by 1 - beta to the reverse KL."""
    logits = torch.randn(2, 1, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    q, p = torch.log_softmax(logits, -1)
    near = 1e-6
    assert divergence(q, p, near).item() / near == pytest.approx(divergence(q, p, 0.0).item(), rel=1e-4)
    assert divergence(q, p, 1 - near).item() / near == pytest.approx(divergence(q, p, 1.0).item(), rel=1e-4)


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_the_slope_is_autograds(beta):
    draws = torch.Generator().manual_seed(1)
    z, p = torch.randn(4, 30, generator=draws).requires_grad_(True), torch.randn(4, 30, generator=draws)
    q, p = torch.log_softmax(z, -1), torch.log_softmax(p, -1)
    divergence(q, p, beta).sum().backward()
    torch.testing.assert_close(divergence_slope(q.detach(), p, beta), z.grad, rtol=1e-5, atol=1e-6)
    assert divergence_slope(p, p, beta).abs().max() < 1e-6


# --- the gradient


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("logits", [4 * 320, 1 << 24])
def test_over_the_vocabulary_the_gradient_is_that_of_the_papers_formula(
    make_model, played, beta, logits, monkeypatch
):
    """The mean over episodes of the mean over the student's tokens of D(p_teacher || p_student), arXiv 2306.13649.

    Written out: a pass for each episode with the whole head and autograd, against packed rows that share a prompt and a
    head that takes one token at a time, or all.
    """
    monkeypatch.setattr(forward, "HEAD_LOGITS", logits)
    student, teacher = make_model(seed=0), make_model(seed=1)
    plain, loss = copy.deepcopy(student), torch.zeros(())
    for one in played:
        q, p = table(plain, one.ids, 0.7), table(teacher, one.ids, 0.7).detach()
        if beta in (0.0, 1.0):
            a, b = (p, q) if beta == 0.0 else (q, p)
            each = (a.exp() * (a - b)).sum(-1)
        else:
            m = (beta * p.exp() + (1 - beta) * q.exp()).log()
            each = beta * (p.exp() * (p - m)).sum(-1) + (1 - beta) * (q.exp() * (q - m)).sum(-1)
        mine = [t - 1 for t, marked in enumerate(one.mask) if marked]
        loss = loss + each[mine].mean() / len(played)
    (2.0 * loss).backward()
    taught = learner(
        student,
        teacher,
        temperature=0.7,
        aggregate="sequence",
        max_grad_norm=1e9,
        teacher={"over": "vocabulary", "beta": beta, "coef": 2.0},
    )
    found, metrics = gradients(taught, played)
    assert metrics["loss"] == pytest.approx(2.0 * loss.item(), rel=1e-4)
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-3, atol=1e-5)


def test_a_head_that_is_not_plain_has_the_same_gradient(make_model, played):
    """A head with a bias of zeros goes another way through the learner."""
    teacher, results = make_model(seed=1), []
    for bias in (False, True):
        student = make_model(seed=0)
        if bias:
            head = student.get_output_embeddings()
            head.bias = torch.nn.Parameter(torch.zeros(head.weight.shape[0]), requires_grad=False)
        options = {"over": "vocabulary", "beta": 0.5}
        found, metrics = gradients(learner(student, teacher, teacher=options), played)
        results.append((found, metrics["teacher_divergence"]))
    assert results[0][1] == pytest.approx(results[1][1], rel=1e-5)
    for name, gradient in results[0][0].items():
        torch.testing.assert_close(results[1][0][name], gradient, rtol=1e-3, atol=1e-6)


def test_over_sampled_tokens_an_advantage_is_the_teachers_log_probability_less_the_students(
    make_model, model, played
):
    teacher = make_model(seed=1)
    taught = learner(model, teacher, teacher={"over": "sampled", "coef": 0.5})
    measured = taught.measure(played)
    given = credit.assign(played, taught.config, measured)
    gaps = []
    for one, advantage_T in zip(played, given.advantages, strict=True):
        with torch.no_grad():
            said = table(teacher, one.ids)
        mine = [t for t, marked in enumerate(one.mask) if marked]
        gap_T = [said[t - 1, one.ids[t]].item() - one.logprobs[t] for t in mine]
        assert advantage_T == pytest.approx([0.5 * gap for gap in gap_T], abs=1e-4)
        gaps += gap_T
    assert len(gaps) == 9
    assert given.metrics == {"teacher_divergence": pytest.approx(-sum(gaps) / 9, abs=1e-4)}


def test_in_expectation_the_gradient_of_sampled_tokens_is_that_of_the_reverse_kl():
    """All tokens of a vocabulary of thirty, each as often as the student samples it."""
    draws = torch.Generator().manual_seed(2)
    z, p = torch.randn(30, generator=draws).requires_grad_(True), torch.randn(30, generator=draws)
    q, p = torch.log_softmax(z, -1), torch.log_softmax(p, -1)
    loss_N, _ = likelihood_loss(q, (p - q).detach())
    (q.exp().detach() * loss_N).sum().backward()
    torch.testing.assert_close(divergence_slope(q.detach()[None], p[None], 1.0)[0], z.grad)


def test_the_teacher_and_the_reward_are_weighed_and_added(trajectory):
    """Two episodes of one task, worth 1 and 0: half of the mean's advantage, and twice the gap."""
    good, bad = trajectory([1, 2, 3], ".xx"), trajectory([1, 2, 4], ".xx")
    bad.turns[0] = bad.turns[0].__class__(1, 3, 0.0)
    said = {"path": "given", "over": "sampled", "coef": 2.0, "reward_coef": 0.5}
    config = RlConfig.model_validate({"teacher": said})
    measured = Measured(teacher_gaps=[np.array([0.1, -0.2]), np.array([0.0, 0.3])])
    found = credit.assign([good, bad], config, measured)
    assert found.advantages[0] == pytest.approx([0.25 + 0.2, 0.25 - 0.4])
    assert found.advantages[1] == pytest.approx([-0.25, -0.25 + 0.6])
    assert found.metrics["teacher_divergence"] == pytest.approx(-0.05)


# --- the masks


@pytest.mark.parametrize("over", ["sampled", "vocabulary"])
def test_what_a_tool_said_has_no_weight(make_model, trajectory, over):
    """The tokens after the last reply are seen by nobody: other ones there change nothing at all."""
    results = []
    for said in ([60, 61, 62], [70, 71, 72]):
        student = make_model(seed=0)
        one = sampled_by(student, trajectory, [40, 41, 42, 43, *said], "..xx...")
        found, metrics = gradients(learner(student, make_model(seed=1), teacher={"over": over}), [one])
        results.append((metrics, found))
    assert results[0][0] == results[1][0]
    assert all(torch.equal(results[0][1][name], results[1][1][name]) for name in results[0][1])


def test_a_result_between_two_replies_is_context_and_no_target(make_model, model, played):
    """The divergence of the first episode is the mean over its four sampled tokens, of eight after the prompt."""
    teacher, one = make_model(seed=1), played[0]
    with torch.no_grad():
        each = divergence(table(model, one.ids), table(teacher, one.ids), 1.0)
    metrics = learn(learner(model, teacher, teacher={"over": "vocabulary"}), [one])
    assert metrics["teacher_divergence"] == pytest.approx(each[[19, 20, 23, 24]].mean().item(), rel=1e-4)


# --- learning


@pytest.mark.parametrize(
    "options",
    [{"over": "vocabulary", "beta": beta} for beta in (0.0, 0.5, 1.0)],
    ids=["forward", "jensen-shannon", "reverse"],
)
def test_on_its_own_tokens_a_student_becomes_its_teacher(make_model, played, options):
    student, teacher = make_model(seed=0), make_model(seed=1)
    taught = learner(student, teacher, lr=5e-3, lr_final=1.0, teacher=options)
    far = [learn(taught, played)["teacher_divergence"] for _ in range(30)]
    assert far[-1] < 0.25 * far[0], far


def test_a_teacher_that_says_what_the_student_says_moves_nothing(make_model, model, played):
    for over in ("sampled", "vocabulary"):
        metrics = learn(learner(copy.deepcopy(model), make_model(), teacher={"over": over}), played)
        assert metrics["teacher_divergence"] == pytest.approx(0.0, abs=1e-6)
        assert metrics["grad_norm"] == pytest.approx(0.0, abs=1e-5)


def test_the_teacher_stays_as_it_is_and_out_of_the_checkpoints(make_model, model, played):
    teacher = make_model(seed=1)
    before = copy.deepcopy(teacher.state_dict())
    taught = learner(model, teacher, teacher={"over": "vocabulary"})
    learn(taught, played)
    assert all(torch.equal(before[name], weight) for name, weight in teacher.state_dict().items())
    assert all(p.grad is None for p in teacher.parameters())
    assert set(taught.parts) == {"policy"} and "teacher" not in taught.state()


@pytest.mark.slow
def test_an_adapter_is_taught_as_whole_weights_are(make_model, played):
    from quintain.rl.adapters import add_adapter

    student = add_adapter(make_model(seed=0), LoraConfig(rank=2), seed=1)
    taught = learner(student, make_model(seed=1), lr=2e-2, lr_final=1.0, teacher={"over": "vocabulary"})
    far = [learn(taught, played)["teacher_divergence"] for _ in range(20)]
    assert far[-1] < 0.6 * far[0]


def test_a_restored_student_goes_on_exactly(make_model, model, played):
    teacher, options = make_model(seed=1), {"teacher": {"over": "vocabulary", "beta": 0.5}, "minibatches": 2}
    first = learner(model, teacher, **options)
    learn(first, played)
    state, kept = copy.deepcopy(first.state()), copy.deepcopy(model)
    expected = learn(first, played)
    second = learner(kept, teacher, **options)
    second.restore(state)
    assert learn(second, played) == expected
    assert all(torch.equal(kept.state_dict()[name], weight) for name, weight in model.state_dict().items())


def test_with_stale_samples_the_gap_is_to_the_learner_and_not_to_the_sampler(make_model, model, played):
    """The sampler's log-probabilities are those of older weights: here, of another model."""
    teacher = make_model(seed=1)
    given = {"teacher": {"over": "sampled"}}
    expected = learner(model, teacher, **given).measure(played).teacher_gaps
    stale = [copy.deepcopy(one) for one in played]
    for one in stale:
        one.logprobs[:] = [p - 1.0 if mine else 0.0 for p, mine in zip(one.logprobs, one.mask, strict=True)]
    found = learner(model, teacher, staleness=1, **given).measure(stale).teacher_gaps
    for a, b in zip(found, expected, strict=True):
        assert a == pytest.approx(b, abs=1e-4)


def test_a_taught_student_is_not_told_that_it_has_nothing_to_learn():
    steps = [{"zero_variance": 0.0, "kl": 0.0}] * 5 + [{"zero_variance": 1.0, "kl": 6.0}] * 5
    taught = [step | {"teacher_divergence": 0.1} for step in steps]
    assert {"nothing to learn", "far from the start"} <= {
        name for end in range(1, 11) for name in raised(steps[:end])
    }
    assert not any(raised(taught[:end]) for end in range(1, 11))


# --- what is refused


@pytest.fixture
def student(make_model):
    return make_model()


def save(folder, model, tokenizer):
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return TeacherConfig(path=str(folder))


def test_a_teacher_is_read_from_its_folder(make_model, student, tokenizer, tmp_path):
    config = save(tmp_path, make_model(seed=1), tokenizer)
    found = load_teacher(config, student, tokenizer, longest=512)
    expected = make_model(seed=1).state_dict()
    assert all(torch.equal(expected[name], weight) for name, weight in found.model.state_dict().items())
    assert not any(p.requires_grad for p in found.model.parameters())


def test_a_teacher_of_another_vocabulary_is_refused(student, tokenizer, tmp_path):
    shape = TinyModelConfig(layers=1, width=32, heads=4, kv_heads=2, mlp=32, vocabulary=320)
    words = build_tokenizer(["zebras zigzag, zebras zoom\n"] * 9, shape)
    config = save(tmp_path, build_model(shape, words, torch.Generator().manual_seed(0)), words)
    with pytest.raises(UserError) as error:
        load_teacher(config, student, tokenizer, longest=64)
    text = str(error.value)
    assert text.startswith(f"rl.teacher.path {str(tmp_path)!r} has another vocabulary than the student: ")
    assert "which is number 263 here and unknown there" in text and "the same tokenizer" in text


def test_a_teacher_with_a_smaller_head_is_refused_and_one_with_a_larger_head_is_cut(
    make_model, student, tokenizer, trajectory, tmp_path
):
    larger = make_model(seed=1)
    larger.resize_token_embeddings(400)
    config = save(tmp_path, larger, tokenizer)
    config = config.model_copy(update={"over": "vocabulary"})
    teacher = load_teacher(config, student, tokenizer, longest=64)
    one = sampled_by(student, trajectory, [40, 41, 42, 43], "..xx")
    (batch,) = pack([one], 8192)
    assert teacher.beside(batch, 1.0).logprobs(slice(0, 2)).exp().sum(-1).tolist() == pytest.approx([1, 1])
    student.resize_token_embeddings(450)
    with pytest.raises(UserError, match=r"has a head of 400 tokens and the student one of 450"):
        load_teacher(config, student, tokenizer, longest=64)


def test_a_teacher_that_sees_less_than_an_episode_is_refused(make_model, student, tokenizer, tmp_path):
    config = save(tmp_path, make_model(context=64), tokenizer)
    message = r"rollout.episode_tokens is 65, but rl.teacher.path '.*' sees 64 tokens at most"
    with pytest.raises(UserError, match=message):
        load_teacher(config, student, tokenizer, longest=65)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("tiny", "rl.teacher.path = 'tiny' would be a model that has learned nothing"),
        ("./nowhere", "rl.teacher.path './nowhere' is not a folder"),
    ],
)
def test_a_teacher_that_is_not_there_is_refused_by_its_name(path, message, student, tokenizer):
    with pytest.raises(UserError, match=message):
        load_teacher(TeacherConfig(path=path), student, tokenizer, longest=64)


ALONE = {"path": "x", "reward_coef": 0.0}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"teacher": {"path": "x", "over": "sampled", "beta": 0.5}},
            r'use teacher.over = "vocabulary" with teacher.beta = 0.5',
        ),
        ({"teacher": {"path": ""}}, "at least 1 character"),
        (
            {"teacher": ALONE, "algorithm": "ppo", "kl": {"coef": 0.0}},
            'advantage = "gae" works on the reward',
        ),
        ({"teacher": ALONE, "resample_rounds": 3}, "resample_rounds = 3 works on the reward"),
        ({"teacher": ALONE, "overlong_buffer": 0.2}, "overlong_buffer = 0.2 works on the reward"),
        (
            {"teacher": ALONE, "kl": {"coef": 0.1, "where": "reward"}},
            'teacher.reward_coef = 0 learns from the teacher alone, and kl.where = "reward" works on the reward',
        ),
        ({"group_size": 1, "teacher": {"path": "x"}}, "group_size must be at least 2"),
    ],
)
def test_options_that_do_not_go_together_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        RlConfig.model_validate(given)


def test_without_the_reward_an_episode_may_be_alone_in_its_group():
    assert RlConfig.model_validate({"group_size": 1, "teacher": ALONE}).group_size == 1


def test_a_learner_without_the_teacher_of_its_config_is_a_mistake(model):
    config = RlConfig.model_validate({"teacher": ALONE})
    with pytest.raises(ValueError, match="has a teacher if and only if"):
        Learner(model, config, temperature=1.0, generator=np.random.default_rng(0))


# --- whole runs


class Sort(SingleTurnEnv):
    """Write three digits in ascending order."""

    def __init__(self, split="train", render_mode=None):
        def task(rng, index):
            digits = [str(digit) for digit in rng.integers(0, 10, 3)]
            return Task("", f"Sort: {' '.join(digits)}", " ".join(sorted(digits)))

        tasks = TaskSet.generated(task, name="sort", split=split)
        super().__init__(tasks, ExactMatch(), render_mode=render_mode)
        self.oracle = lambda task, messages, rng: task.answer


register("quintain-tests/Sort-v0", Sort)


def run(folder, sft_steps, rl=None) -> tuple[list[float], list[float]]:
    """Train a tiny model; the held-out success of each evaluation, and the divergence of each RL step."""
    shape = {"layers": 2, "width": 64, "mlp": 128, "vocabulary": 280, "context": 64}
    chosen = Config.model_validate(
        {
            "threads": 1,
            "env": {"id": "quintain-tests/Sort-v0", "eval_kwargs": {"split": "test"}},
            "model": {"device": "cpu", "tiny": shape},
            "rollout": {"turn_tokens": 8, "episode_tokens": 64},
            "sft": {"episodes": 2000, "steps": sft_steps, "tokens_per_step": 1024, "warmup_steps": 5},
            "rl": rl,
            "eval": {"problems": 200, "every": 0, "greedy": False},
        }
    )
    folder.mkdir()
    train(chosen, folder)
    records = read_metrics(folder / "metrics.jsonl")
    return (
        [r.metrics["success_sampled"] for r in records if r.phase == "eval" and r.metrics],
        [r.metrics["teacher_divergence"] for r in records if r.phase == "rl"],
    )


@pytest.mark.slow
def test_a_student_that_plays_comes_near_its_teacher_without_any_reward(tmp_path):
    """Measured: the teacher solves 96 % and the student 20 % before; 60 steps bring it within 10 points."""
    (best,), _ = run(tmp_path / "teacher", 120)
    said = {"path": str(tmp_path / "teacher/checkpoints/step-000000"), "reward_coef": 0.0}
    rl = {
        "steps": 60,
        "groups": 64,
        "group_size": 1,
        "minibatches": 2,
        "lr": 2e-3,
        "kl": {"measure_every": 0},
    }
    (before, after), far = run(tmp_path / "student", 40, rl | {"teacher": said})
    assert best > 0.9 and before < 0.4
    assert after > best - 0.1
    assert np.mean(far[-3:]) < 0.1 * far[0]
