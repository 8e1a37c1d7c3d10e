"""What a piece of work is worth."""

from .base import Episode, FunctionVerifier, Score, Status, Task, Verifier, verifier

__all__ = ["Episode", "FunctionVerifier", "Score", "Status", "Task", "Verifier", "verifier"]
