"""What a piece of work is worth."""

from .base import Episode, FunctionVerifier, Score, Status, Task, Verifier, verifier
from .code import CodeTests
from .endpoint import Completer, Endpoint
from .instructions import Instructions
from .judge import Judge
from .math import MathAnswer
from .mix import FirstGraded, Gate, Minimum, WeightedSum
from .numbers import FinalNumber
from .registry import SpecError, from_spec, register, to_spec
from .reward_model import RewardModel
from .structure import JsonFields, JsonSchema, Tags
from .text_match import Choice, ExactMatch, FuzzyMatch, RegexMatch, WordOverlap
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
    "Choice",
    "ExactMatch",
    "FuzzyMatch",
    "RegexMatch",
    "WordOverlap",
    "JsonFields",
    "JsonSchema",
    "Tags",
    "Completer",
    "Endpoint",
    "Judge",
    "RewardModel",
    "SpecError",
    "from_spec",
    "register",
    "to_spec",
]
