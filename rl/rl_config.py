"""The `[rl]` section: what is learned from the episodes of a step, and the presets named as in the literature.

An algorithm is a choice of functions, not a class: which advantage (`advantages`), which loss (`losses`), which
denominator. A preset fills in such a choice; whatever a config says beside it counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from .config_types import Count, CountOrNone, Fraction, NotNegative, Positive, Rate, Section, warmup_fits
from .guard_config import GuardConfig
from .teacher_config import TeacherConfig

Advantage = Literal["mean", "mean_std", "leave_one_out", "batch", "group_batch", "gae"]
Loss = Literal["clip", "sequence_clip", "weighted", "likelihood"]
Algorithm = Literal["grpo", "dr_grpo", "dapo", "gspo", "cispo", "rloo", "reinforce_pp", "ppo"]

PRESETS: Mapping[Algorithm, Mapping[str, Any]] = {
    # arXiv 2402.03300, eq. 3 and section 4.1.2
    "grpo": {
        "advantage": "mean_std",
        "loss": "clip",
        "clip_low": 0.2,
        "clip_high": 0.2,
        "aggregate": "sequence",
        "kl": {"coef": 0.04, "estimator": "k3", "where": "loss"},
    },
    # arXiv 2503.20783, section 3.2: neither the group's deviation nor the reply's length divides
    "dr_grpo": {
        "advantage": "mean",
        "loss": "clip",
        "clip_low": 0.2,
        "clip_high": 0.2,
        "aggregate": "constant",
    },
    # arXiv 2503.14476, sections 3.1 to 3.4
    "dapo": {
        "advantage": "mean_std",
        "loss": "clip",
        "clip_low": 0.2,
        "clip_high": 0.28,
        "aggregate": "token",
        "resample_rounds": 3,
        "overlong_buffer": 0.2,
    },
    # arXiv 2507.18071, section 5.1
    "gspo": {
        "advantage": "mean_std",
        "loss": "sequence_clip",
        "clip_low": 3e-4,
        "clip_high": 4e-4,
        "aggregate": "sequence",
    },
    # arXiv 2506.13585, section 3.1: an upper bound on the weight alone
    "cispo": {
        "advantage": "mean_std",
        "loss": "weighted",
        "clip_low": 1.0,
        "clip_high": 0.28,
        "aggregate": "token",
        "resample_rounds": 3,
        "overlong_buffer": 0.2,
    },
    # arXiv 2402.14740, eq. 8 and section 3: KL in the reward
    "rloo": {
        "advantage": "leave_one_out",
        "loss": "likelihood",
        "aggregate": "sum",
        "kl": {"coef": 0.03, "estimator": "k1", "where": "reward"},
    },
    # arXiv 2501.03262: token-level KL in the reward, advantages normalised over the batch
    "reinforce_pp": {
        "advantage": "batch",
        "loss": "clip",
        "clip_low": 0.2,
        "clip_high": 0.2,
        "aggregate": "token",
        "kl": {"coef": 0.01, "estimator": "k1", "where": "reward"},
    },
    # arXiv 1707.06347 with arXiv 1506.02438; KL in the reward as in arXiv 1909.08593
    "ppo": {
        "advantage": "gae",
        "loss": "clip",
        "clip_low": 0.2,
        "clip_high": 0.2,
        "aggregate": "token",
        "kl": {"coef": 0.01, "estimator": "k1", "where": "reward"},
        "critic": {},
    },
}
"""What each named algorithm sets; everything else keeps its default."""


class KlConfig(Section):
    """The leash to a reference model: the model at the start of RL, or the one under a LoRA adapter."""

    coef: NotNegative = 0.0
    """The weight of the KL divergence from the reference, a token."""
    estimator: Literal["k1", "k2", "k3"] = "k3"
    """How it is estimated from the sampled tokens; `losses.kl_estimate` has the formulas."""
    where: Literal["loss", "reward"] = "loss"
    """`loss` adds it to the loss; `reward` takes it off the reward of each token before advantages are made."""
    target: Positive | None = None
    """The KL, in nats a token, that `coef` is moved towards after each step; none leaves it as it is."""
    gain: Rate = 0.1
    """With `target`: the largest relative change of `coef` a step is a fifth of this."""
    measure_every: CountOrNone = 1
    """RL steps between two measurements of `kl` where `coef` is 0; 0 measures never and keeps no reference."""

    @model_validator(mode="after")
    def _can_move(self) -> KlConfig:
        if self.target is not None and self.coef == 0:
            raise ValueError("kl.target moves kl.coef by factors, so kl.coef must not start at 0")
        if self.where == "loss" and self.coef > 0 and self.estimator == "k1":
            raise ValueError(
                'kl.estimator = "k1" has no gradient as a loss; use k2 or k3, or where = "reward"'
            )
        return self

    @property
    def needs_reference(self) -> bool:
        """Whether a reference model has to be kept."""
        return self.coef > 0 or self.measure_every > 0


class EntropyConfig(Section):
    """A bonus for entropy, fixed or controlled."""

    coef: NotNegative = 0.0
    """The weight of the entropy bonus, a token."""
    target: NotNegative | None = None
    """Entropy in nats a token below which `coef` grows and above which it shrinks; none leaves it as it is."""
    gain: Rate = 0.01
    """With `target`: how far `coef` moves for a step that is one nat off."""
    max_coef: NotNegative = 0.1
    """With `target`: the largest `coef`."""


class ImportanceConfig(Section):
    """The correction for a sampler that is not the learner: other arithmetic, or older weights."""

    kind: Literal["off", "truncate", "mask"] = "off"
    """`truncate` bounds the ratio learner / sampler by `cap`; `mask` leaves out what is not in [floor, cap]."""
    level: Literal["token", "sequence"] = "token"
    """Whether tokens or whole sequences are weighed."""
    cap: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 2.0
    """The largest ratio."""
    floor: Fraction = 0.5
    """The smallest ratio that `mask` keeps."""


class CriticConfig(Section):
    """The value function of PPO; used with `advantage = "gae"`."""

    kind: Literal["shared", "separate"] = "separate"
    """`shared` puts a value head on the policy's last hidden state, `separate` trains a model of its own."""
    path: Annotated[str, Field(min_length=1)] | None = None
    """The model that a separate critic starts from; none copies the policy."""
    lr: Rate = 1e-3
    """The peak learning rate of the critic (of the head, where it is shared)."""
    coef: Positive = 0.5
    """The weight of the value loss beside the policy's, where the trunk is shared."""
    gamma: Fraction = 1.0
    """The discount a token."""
    lam: Fraction = 0.95
    """The decay of generalised advantage estimation a token."""
    clip: Positive | None = 0.2
    """How far an estimate may move in one step before its loss is clipped; none for no clip."""
    warmup_steps: CountOrNone = 0
    """RL steps at the start in which the critic alone learns."""
    whiten: bool = True
    """Give the advantages of a step mean 0 and variance 1 over all tokens."""
    bootstrap: bool = True
    """Where a limit cut an episode, count the critic's estimate of what would have come; termination never does."""


class CurriculumConfig(Section):
    """Tasks that are neither too easy nor too hard, by how often they have succeeded so far."""

    low: Fraction = 0.2
    """The lowest success rate that is wanted."""
    high: Fraction = 0.8
    """The highest."""
    bucket: Annotated[str, Field(min_length=1)] | None = None
    """A key of the tasks' info, for example `difficulty`: what is learned about a task counts for all alike."""
    explore: Fraction = 0.1
    """The share of tasks drawn whatever is believed about them."""
    half_life: Positive = 50.0
    """Steps after which half of what was seen is forgotten."""

    @model_validator(mode="after")
    def _is_a_band(self) -> CurriculumConfig:
        if self.low >= self.high:
            raise ValueError(f"low must be below high, got {self.low} and {self.high}")
        return self


class RlConfig(Section):
    """Reinforcement learning on the verified reward. Leave the section out for SFT alone."""

    algorithm: Algorithm | None = None
    """A preset: grpo, dr_grpo, dapo, gspo, cispo, rloo, reinforce_pp or ppo; keys given beside it count."""
    steps: Count = 60
    """Steps; each samples once and updates `epochs` x `minibatches` times."""
    groups: Count = 24
    """Problems of one step."""
    group_size: Count = 8
    """Episodes sampled for each problem; their rewards are compared with each other."""
    minibatches: Count = 1
    """Optimiser steps that the episodes of one step are split into."""
    epochs: Count = 1
    """How often each episode is used."""
    lr: Rate = 5e-4
    """The peak learning rate of AdamW."""
    lr_final: Fraction = 0.1
    """The learning rate at the end, as a fraction of the peak."""
    warmup_steps: CountOrNone = 0
    """Steps over which the learning rate rises to its peak."""
    weight_decay: NotNegative = 0.0
    """Decoupled weight decay."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradients are scaled down to this norm."""
    advantage: Advantage = "mean"
    """Reward less the group's mean (`mean`), over its deviation (`mean_std`), less the others' mean (`leave_one_out`);
    normalised over the batch (`batch`; `group_batch` less the group's mean first); `gae` asks the critic."""
    credit: Literal["trajectory", "turn"] = "trajectory"
    """Whether an episode is compared as a whole, or each turn by what was paid from it on (mean and mean_std)."""
    turn_discount: Fraction = 1.0
    """With credit = "turn": what a reward of the next turn counts."""
    components: dict[str, NotNegative] = Field(default_factory=dict)
    """Weights of the score's parts; each part is then normalised within its group on its own. Empty: the reward."""
    loss: Loss = "clip"
    """`clip` is PPO's clipped ratio, `sequence_clip` one ratio a sequence, `weighted` a clipped weight on the
    log-likelihood, `likelihood` the plain policy gradient."""
    clip_low: Annotated[float, Field(gt=0, le=1)] = 0.2
    """The ratio is clipped below 1 - clip_low."""
    clip_high: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.28
    """The ratio is clipped above 1 + clip_high."""
    dual_clip: Annotated[float, Field(gt=1, allow_inf_nan=False)] | None = None
    """With loss = "clip": the most that a bad token's ratio can cost; none for no bound."""
    aggregate: Literal["token", "sequence", "constant", "sum"] = "token"
    """The loss is the mean over tokens, over each episode's mean, over tokens / `rollout.episode_tokens`, or over
    each episode's sum."""
    old_logprobs: Literal["sampler", "learner"] = "sampler"
    """Whose probabilities the ratio is taken to: those sampled with, or the learner's own before the step."""
    resample_rounds: CountOrNone = 0
    """How often groups in which all rewards agree are replaced by new ones (dynamic sampling)."""
    overlong_buffer: Fraction = 0.0
    """The last part of `rollout.episode_tokens` in which a growing penalty is taken off the reward; 0 for none."""
    micro_batch_tokens: Annotated[int, Field(ge=16)] = 8192
    """Tokens of one forward and backward pass: a bound on memory, without influence on the result."""
    staleness: CountOrNone = 0
    """Steps that the weights of the sampler may be behind the learner's: episodes of later steps are then played while
    the learner trains. 0 samples and trains in turn."""
    in_flight: bool = False
    """With `staleness`: new weights go to the sampler at once, in the middle of episodes; no two runs are alike."""
    masters: bool = True
    """Keep float32 masters of bfloat16 weights; without them small steps are rounded away, for less memory."""
    compile: bool = False
    """Run the learner's layers through torch.compile: slow to start, fewer and larger kernels then."""
    on_nonfinite: Literal["stop", "skip"] = "stop"
    """What happens at a loss or gradient that is not finite; its episodes are saved in both cases."""
    stop_at: Annotated[float, Field(gt=0, le=1)] | None = None
    """Held-out success at which training ends early; none never does."""
    kl: KlConfig = KlConfig()
    """The leash to the reference model."""
    entropy: EntropyConfig = EntropyConfig()
    """The entropy bonus."""
    importance: ImportanceConfig = ImportanceConfig()
    """The correction for a sampler that is not the learner."""
    critic: CriticConfig | None = None
    """The value function of PPO."""
    curriculum: CurriculumConfig | None = None
    """Which tasks come next; none plays all in turn."""
    guard: GuardConfig | None = None
    """Proxy against gold; none watches nothing."""
    teacher: TeacherConfig | None = None
    """Another model that scores the student's tokens (on-policy distillation); none learns from the reward alone."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in_the_preset(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or given.get("algorithm") not in PRESETS:
            return given
        return _laid_over(PRESETS[given["algorithm"]], given)

    @model_validator(mode="after")
    def _sizes_fit(self) -> RlConfig:
        grouped = self.advantage in ("mean", "mean_std", "leave_one_out", "group_batch")
        if grouped and self.rewarded and self.group_size < 2:
            raise ValueError(
                f"group_size must be at least 2 with advantage = {self.advantage!r}, got {self.group_size}: "
                "an episode alone in its group has nothing to be compared with"
            )
        if self.minibatches > self.groups * self.group_size:
            raise ValueError(
                f"minibatches must not exceed the episodes of a step, got {self.minibatches} for "
                f"{self.groups} groups x {self.group_size}"
            )
        return warmup_fits(self, self.warmup_steps, self.steps)

    @property
    def rewarded(self) -> bool:
        """Whether anything is learned from the reward."""
        return self.teacher is None or self.teacher.reward_coef > 0

    @model_validator(mode="after")
    def _reward_is_wanted(self) -> RlConfig:
        """With the teacher alone, refuse what would have changed the reward or the advantages made of it."""
        unused = {
            'advantage = "gae"': self.advantage == "gae",
            f"resample_rounds = {self.resample_rounds}": self.resample_rounds > 0,
            f"overlong_buffer = {self.overlong_buffer:g}": self.overlong_buffer > 0,
            'kl.where = "reward"': self.kl.where == "reward" and self.kl.coef > 0,
            f"components = {self.components}": bool(self.components),
        }
        named = [what for what, there in unused.items() if there]
        if named and not self.rewarded:
            raise ValueError(
                f"teacher.reward_coef = 0 learns from the teacher alone, and {named[0]} works on the reward: "
                "leave it out, or raise teacher.reward_coef"
            )
        return self

    @model_validator(mode="after")
    def _choices_fit(self) -> RlConfig:
        if self.guard is not None and self.guard.action == "raise_kl" and not self.kl.needs_reference:
            raise ValueError(
                'guard.action = "raise_kl" needs the reference from the start: set kl.coef or kl.measure_every above 0'
            )
        if self.advantage == "gae" and self.critic is None:
            raise ValueError(
                'advantage = "gae" needs a critic: add a section [rl.critic], or use algorithm = "ppo"'
            )
        if self.critic is not None and self.advantage != "gae":
            raise ValueError(
                f'a critic is used with advantage = "gae" alone, got advantage = {self.advantage!r}: '
                "leave [rl.critic] out"
            )
        if self.credit == "turn" and self.advantage not in ("mean", "mean_std"):
            raise ValueError(
                f'credit = "turn" goes with advantage = "mean" or "mean_std", got {self.advantage!r}'
            )
        if self.components and (self.advantage != "mean_std" or self.credit != "trajectory"):
            raise ValueError(
                'components are normalised within their groups: they go with advantage = "mean_std" and '
                f'credit = "trajectory", got {self.advantage!r} and {self.credit!r}'
            )
        if self.components and not any(self.components.values()):
            raise ValueError(f"at least one of the components needs a weight above 0, got {self.components}")
        if self.loss in ("clip", "sequence_clip") and self.clip_low >= 1:
            raise ValueError(f"clip_low must be below 1 with loss = {self.loss!r}, got {self.clip_low}")
        if self.dual_clip is not None and self.loss != "clip":
            raise ValueError(f'dual_clip goes with loss = "clip", got {self.loss!r}')
        if self.dual_clip is not None and self.dual_clip <= 1 + self.clip_high:
            raise ValueError(
                f"dual_clip must be above 1 + clip_high = {1 + self.clip_high:g}, got {self.dual_clip:g}"
            )
        if self.loss == "likelihood" and self.minibatches * self.epochs > 1:
            raise ValueError(
                'loss = "likelihood" is right for samples of the policy itself: it goes with minibatches = 1 and '
                f"epochs = 1, got {self.minibatches} and {self.epochs}"
            )
        if self.in_flight and not self.staleness:
            raise ValueError(
                "in_flight goes with staleness of at least 1: with 0 nothing is sampled while the learner trains"
            )
        uncorrected = self.loss == "likelihood" or self.old_logprobs == "learner"
        if self.staleness and uncorrected and self.importance.kind == "off":
            what = "loss" if self.loss == "likelihood" else "old_logprobs"
            raise ValueError(
                f"staleness = {self.staleness} trains on samples of older weights, and {what} = "
                f'{getattr(self, what)!r} takes them for the learner\'s own: set importance.kind = "truncate" or '
                '"mask" with old_logprobs = "learner" (decoupled PPO)'
            )
        if self.compile and self.staleness > 0:
            raise ValueError(
                f"compile does not go with episodes played while the learner trains, got staleness = {self.staleness}"
            )
        if self.importance.kind != "off" and self.old_logprobs == "sampler":
            raise ValueError(
                'importance weighs the learner against the sampler: it goes with old_logprobs = "learner"'
            )
        return self


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return `below` with what `above` says instead, section by section."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(under, Mapping)
        merged[key] = _laid_over(under, value) if both and under is not None else value
    return merged
