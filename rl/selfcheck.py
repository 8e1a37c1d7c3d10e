"""Checks of our own machinery that run in training too: nothing here judges the policy.

An engine's answer is looked at before it is used, weights are seen to arrive, and a sampler that is not the
learner's model any more stops the run instead of spoiling it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel

from .chat import ChatCodec
from .engines.base import Completion, Engine, EngineError, FinishReason, Sampling
from .forward import head_logprobs, plain
from .trajectory import Trajectory

PROBE_TOKENS = 4
"""Tokens that are sampled to see whether new weights have arrived."""
MOVED = 1e-3
"""Nats by which the learner's log-probability must have moved before an engine that stands still is to blame."""


class SelfCheckError(RuntimeError):
    """What is sampled is not what is trained: going on would spoil the run."""


def checked(completion: Completion, sampling: Sampling) -> Completion:
    """Return what an engine answered, or raise `EngineError` naming what cannot be in it."""
    ids, logprobs = completion.ids, completion.logprobs
    wrong = None
    if not ids:
        wrong = "no tokens"
    elif len(ids) != len(logprobs):
        wrong = f"{len(ids)} tokens with {len(logprobs)} log-probabilities"
    elif len(completion.versions) not in (0, len(ids)):
        wrong = f"{len(ids)} tokens with {len(completion.versions)} versions"
    elif len(ids) > sampling.max_tokens:
        wrong = f"{len(ids)} tokens where {sampling.max_tokens} were asked for"
    elif not (logprobs[0] <= TINY and sum(logprobs) > -math.inf) or max(logprobs) > TINY:
        wrong = f"log-probabilities that are none: {_odd(logprobs)}"
    elif (completion.finish is FinishReason.STOP) != (ids[-1] in sampling.stop_ids):
        wrong = f"the last token {ids[-1]} with the finish reason {completion.finish!s}"
    elif min(ids) < 0:
        wrong = f"the token id {min(ids)}"
    if wrong is not None:
        raise EngineError(f"the engine answered with {wrong}; see its log, it must not be trained on")
    return completion


TINY = 1e-4
"""Rounding may lift the log-probability of a certain token a little above zero."""


def _odd(logprobs: Sequence[float]) -> float:
    return next(p for p in logprobs if not (math.isfinite(p) and p <= TINY))


def check_recorded(trajectory: Trajectory) -> None:
    """Raise `SelfCheckError` if a finished trajectory does not say of each token who wrote it.

    The mask must mark exactly the tokens of the turns, and only these have a log-probability and a version.
    """
    mask = np.asarray(trajectory.mask, dtype=np.bool_)
    written = np.zeros(len(mask), dtype=np.bool_)
    for turn in trajectory.turns:
        written[turn.start : turn.end] = True
    given = ~mask
    wrong = None
    if not np.array_equal(mask, written):
        wrong = f"its mask marks {int(mask.sum())} tokens, its turns have {int(written.sum())}"
    elif np.any(np.asarray(trajectory.versions)[given] != -1) or np.any(
        np.asarray(trajectory.logprobs)[given] != 0
    ):
        wrong = "a token that the model did not write has a log-probability or a version"
    elif any(mask[start] for start in trajectory.samples):
        wrong = "a sample begins with a token that the model wrote"
    if wrong is not None:
        raise SelfCheckError(f"trajectory {trajectory.id} is not a record of what was sampled: {wrong}")


def check_staleness(batch: Sequence[Trajectory], version: int, limit: int) -> None:
    """Raise `SelfCheckError` if a token was sampled by weights that are newer than `version`, or older than allowed.

    `version` is how many steps the learner's weights have seen, `limit` is `rl.staleness`.
    """
    for trajectory in batch:
        sampled = [v for v, mine in zip(trajectory.versions, trajectory.mask, strict=True) if mine]
        if sampled and not version - limit <= min(sampled) <= max(sampled) <= version:
            raise SelfCheckError(
                f"trajectory {trajectory.id} was sampled by the weights of the steps {min(sampled)} to {max(sampled)}, "
                f"but the learner has those of step {version} and rl.staleness is {limit}"
            )


def retokenized(batch: Sequence[Trajectory], codec: ChatCodec, limit: int = 64) -> float:
    """Return the fraction of replies whose text is cut into other tokens than those sampled (of `limit` episodes).

    It is no fault: it says how many replies would be trained on wrongly if text were tokenised again.
    """
    replies = [list(t.ids[turn.start : turn.end]) for t in batch[:limit] for turn in t.turns]
    whole = [ids for ids in replies if ids and ids[-1] in codec.stop_ids]
    return sum(codec.encode(codec.decode_reply(ids)) != ids[:-1] for ids in whole) / max(len(whole), 1)


def raise_if_mismatched(mismatch: float, limit: float) -> None:
    """Raise `SelfCheckError` where sampler and learner differ by more than `limit` nats a token."""
    if not mismatch <= limit:
        raise SelfCheckError(
            f"sampler and learner disagree by {mismatch:.3g} nats a token (rollout.max_mismatch = {limit:g}): what was "
            "sampled is not what is trained. Use model.dtype = 'float32', look whether the engine has the weights and "
            "the temperature of the learner, or raise the limit and correct with rl.importance; with rl.staleness, "
            "which lets the learner move meanwhile, lower that or rl.lr"
        )


class DeliveryCheck:
    """Sees to it that new weights reach the engine: a probe's log-probabilities must move when the learner's do.

    Args:
        engine: what samples.
        temperature: what the rollouts divide the logits by.
    """

    def __init__(self, engine: Engine, temperature: float) -> None:
        self._engine, self._temperature = engine, temperature
        self._prompt: list[int] = []
        self._said: Completion | None = None
        self._learner: list[float] = []

    async def after_load(self, model: PreTrainedModel, batch: Sequence[Trajectory]) -> None:
        """Probe the engine, which has just taken over the weights of `model`; the first time nothing is compared.

        `batch` gives the prompt of the probe. Raises `SelfCheckError` if the engine answers to the last bit as it
        did with the weights before, though the learner has changed its mind about those very tokens.
        """
        before, earlier = self._said, self._learner
        if before is None:
            first = next((t for t in batch if t.turns), None)
            if first is None:
                return
            self._prompt = list(first.ids[: first.turns[0].start])
        sampling = Sampling(PROBE_TOKENS, stop_ids=(), temperature=self._temperature, seed=0)
        self._said = await self._engine.generate(self._prompt, sampling)
        if before is not None:
            moved = max(abs(a - b) for a, b in zip(earlier, self._own(model, before), strict=True))
            same = list(before.ids) == list(self._said.ids) and list(before.logprobs) == list(
                self._said.logprobs
            )
            if same and moved > MOVED:
                raise SelfCheckError(
                    f"the engine answers as before the update, while the learner's log-probabilities of its answer "
                    f"have moved by {moved:.3g} nats: the weights of version {self._engine.version} have not reached it"
                )
        self._learner = self._own(model, self._said)

    @torch.no_grad()
    def _own(self, model: PreTrainedModel, said: Completion) -> list[float]:
        """Return the learner's log-probabilities of what the engine said."""
        ids = torch.tensor([[*self._prompt, *said.ids]], device=model.device)
        training = model.training
        model.eval()
        states = plain(model).base_model(input_ids=ids, use_cache=False).last_hidden_state[0]
        first = len(self._prompt)
        logps, _ = head_logprobs(model, states[first - 1 : -1], ids[0, first:], self._temperature)
        model.train(training)
        return [float(p) for p in logps]
