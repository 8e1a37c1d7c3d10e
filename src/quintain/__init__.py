"""Quintain: reinforcement learning with verifiable rewards for language models that use tools."""

__version__ = "0.1.0"
