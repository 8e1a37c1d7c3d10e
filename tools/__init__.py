"""Chat messages, tools the model may call, and the formats in which it calls them."""

from .chat import Message, Reply, ToolCall, ToolResult

__all__ = ["Message", "Reply", "ToolCall", "ToolResult"]
