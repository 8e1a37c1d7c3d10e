"""Checks of our own machinery that run in training too: nothing here judges the policy.

An engine's answer is looked at before it is used, weights are seen to arrive, and a sampler that is not the
learner's model any more stops the run instead of spoiling it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .engines.base import Completion, EngineError, FinishReason, Sampling


def checked(completion: Completion, sampling: Sampling) -> Completion:
    """Return what an engine answered, or raise `EngineError` naming what cannot be in it."""
    ids, logprobs = completion.ids, completion.logprobs
    wrong = None
    if not ids:
        wrong = "no tokens"
    elif len(ids) != len(logprobs):
        wrong = f"{len(ids)} tokens with {len(logprobs)} log-probabilities"
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
