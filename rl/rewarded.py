"""The reward of a run as its config says: another verifier in the environment's place, or a mixture with its own.

A spec may name `{"id": "environment"}` for the environment's own verifier, wherever a verifier can stand:

    [env.verifier]
    id = "gate"
    condition = { id = "environment" }
    reward = { id = "reward_model", model = "runs/rm/model" }
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..envs.base import TextEnv
from ..tools.errors import UserError
from ..verifiers.base import Verifier
from ..verifiers.registry import SpecError, from_spec

OWN = "environment"
"""The id that stands for the environment's own verifier."""


def reward_of(env: TextEnv, spec: Mapping[str, Any], where: str = "env.verifier") -> Verifier:
    """Return the verifier that `spec` describes, with the environment's own in its place.

    Raises `UserError` for a spec that describes none, an environment without a verifier of its own where the spec
    names it, and a task that the verifier cannot judge.
    """
    try:
        found = _filled(spec, env, where)
        verifier = found if isinstance(found, Verifier) else from_spec(found)
    except SpecError as error:
        raise UserError(f"{where}: {error}") from None
    if env.tasks is not None and verifier is not env.verifier:
        env.tasks.check(verifier)
    return verifier


def _filled(spec: Any, env: TextEnv, where: str) -> Any:
    if isinstance(spec, Mapping):
        if spec.get("id") == OWN:
            if set(spec) != {"id"}:
                raise UserError(f"{where}: {OWN!r} has no options, got {sorted(set(spec) - {'id'})}")
            if env.verifier is None:
                raise UserError(
                    f"{where}: {type(env).__name__} has no verifier of its own: its rewards come from playing, "
                    "and cannot be mixed or be the gold; name another verifier"
                )
            return env.verifier
        return {key: _filled(value, env, where) for key, value in spec.items()}
    return [_filled(value, env, where) for value in spec] if isinstance(spec, list) else spec


def set_step(env: TextEnv, step: int) -> None:
    """Bring the schedules in the environment's reward to an RL step; the same step always means the same weights."""
    if env.verifier is not None:
        env.verifier = env.verifier.at_step(step)
