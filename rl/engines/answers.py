"""What a server says it has sampled, looked at before anybody believes it."""

from __future__ import annotations

from typing import Any

from ...tools.openai_client import EndpointError
from .base import Completion, FinishReason, Sampling


def as_completion(
    where: str, sampled: object, logprobs: object, reason: object, sampling: Sampling, version: int
) -> Completion:
    """Return the token ids and log-probabilities that the server `where` answered, as a completion of `sampling`.

    `reason` is its finish reason, `stop` or `length`. Raises `EndpointError` of the kind `garbage` for what cannot
    have been sampled so.
    """
    if not is_list(sampled, int) or not is_list(logprobs, int | float):
        raise EndpointError("garbage", f"{where} answered ids or log-probabilities of another shape")
    ids: Any = sampled
    logps: Any = logprobs
    if not ids or len(ids) != len(logps) or len(ids) > sampling.max_tokens:
        raise EndpointError(
            "garbage",
            f"{where} answered {len(ids)} ids with {len(logps)} log-probabilities for max_tokens = "
            f"{sampling.max_tokens}",
        )
    if any(not -1e9 < value <= 1e-3 for value in logps) or min(ids) < 0:
        raise EndpointError("garbage", f"{where} answered ids or log-probabilities that are none")
    stopped = ids[-1] in sampling.stop_ids
    if (
        reason not in ("stop", "length")
        or (reason == "stop") != stopped
        or any(token in sampling.stop_ids for token in ids[:-1])
    ):
        raise EndpointError(
            "garbage", f"{where} says it ended by {reason!r} with token {ids[-1]}: not as it was asked"
        )
    finish = FinishReason.STOP if stopped else FinishReason.LENGTH
    return Completion(ids, [float(value) for value in logps], finish, version)


def is_list(value: object, kind: Any) -> bool:
    """Return whether `value` is a list of `kind`; True and False are no numbers."""
    return isinstance(value, list) and all(isinstance(v, kind) and not isinstance(v, bool) for v in value)
