"""Rollouts, the learner, training and evaluation."""
