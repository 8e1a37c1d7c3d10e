"""The weights that are moved from step to step: of the KL divergence and of the entropy bonus."""

from __future__ import annotations

from .rl_config import EntropyConfig, KlConfig


def next_kl_coef(coef: float, found: float, config: KlConfig) -> float:
    """Return the weight of the KL divergence after a step in which it was `found`, in nats a token.

    A proportional controller in log space (Ziegler et al. 2019, arXiv 1909.08593, section 2.2). Without a target the
    weight stays.
    """
    if config.target is None:
        return coef
    error = min(max(found / config.target - 1, -0.2), 0.2)
    return coef * (1 + config.gain * error)


def next_entropy_coef(coef: float, found: float, config: EntropyConfig) -> float:
    """Return the weight of the bonus after a step in which the entropy was `found`, in nats a token.

    Adaptive entropy control (He et al. 2025, arXiv 2505.22312). Without a target the weight stays.
    """
    if config.target is None:
        return coef
    return min(max(coef + config.gain * (config.target - found), 0.0), config.max_coef)
