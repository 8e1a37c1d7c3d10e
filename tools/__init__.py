"""Chat messages, tools the model may call, and the formats in which it calls them."""

from .calculator import calculate, calculator
from .chat import Message, Reply, ToolCall, ToolResult
from .errors import InfrastructureError, ToolError, UserError
from .final_answer import final_answer
from .formats import Hermes, ToolFormat, format_named
from .python import python_tool
from .search import Corpus, Document, Search
from .tool import Tool, tool
from .toolkit import Toolkit
from .workspace import PythonSession, Shell, Workspace

__all__ = [
    "Message",
    "Reply",
    "ToolCall",
    "ToolResult",
    "Tool",
    "tool",
    "Toolkit",
    "ToolFormat",
    "Hermes",
    "format_named",
    "final_answer",
    "calculate",
    "calculator",
    "python_tool",
    "PythonSession",
    "Shell",
    "Workspace",
    "Search",
    "Corpus",
    "Document",
    "UserError",
    "ToolError",
    "InfrastructureError",
]
