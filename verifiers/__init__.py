"""What a piece of work is worth."""

from .base import Episode, FunctionVerifier, Score, Status, Task, Verifier, verifier
from .code import CodeTests
from .instructions import Instructions
from .math import MathAnswer
from .mix import FirstGraded, Gate, Minimum, WeightedSum
from .numbers import FinalNumber
from .tool_calls import ToolCalls

__all__ = [
    "Episode",
    "FunctionVerifier",
    "Score",
    "Status",
    "Task",
    "Verifier",
    "verifier",
    "FirstGraded",
    "Gate",
    "Minimum",
    "WeightedSum",
    "FinalNumber",
    "MathAnswer",
    "CodeTests",
    "Instructions",
    "ToolCalls",
]
