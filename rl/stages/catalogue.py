"""The stages that there are. A new one is a line here, a config, and a module with `run_stage`."""

from __future__ import annotations

from typing import Any

from .stage import Stage

STAGES: dict[str, Stage[Any]] = {}
"""By name, which is the command too."""
