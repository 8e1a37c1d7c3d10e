"""Evaluation: suites of environments, played by several models, with intervals and paired comparisons."""

from .run import evaluate_suite
from .statistics import (
    best_at_k,
    bootstrap,
    majority_at_k,
    mcnemar,
    paired_difference,
    pass_hat_k,
)
from .suite import EvalEnv, EvalModel, Suite, load_suite

__all__ = [
    "Suite",
    "EvalModel",
    "EvalEnv",
    "load_suite",
    "evaluate_suite",
    "pass_hat_k",
    "best_at_k",
    "majority_at_k",
    "bootstrap",
    "paired_difference",
    "mcnemar",
]
