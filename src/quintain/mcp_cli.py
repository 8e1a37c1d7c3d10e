"""`quintain mcp serve`: the tools of an environment as an MCP server, in the world of one of its tasks."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from .envs import ToolEnv, make
from .tools.errors import UserError
from .tools.mcp_server import serve_tools
from .tools.tool import Tool
from .tools.toolkit import Toolkit


def serve(
    env_id: str, kwargs: Mapping[str, Any], task: int | None, seed: int | None, host: str, port: int | None
) -> None:
    """Serve until the client goes, or Ctrl-C.

    Args:
        env_id: A registered environment with tools.
        kwargs: Its options.
        task: Index of the task whose world the tools work in; None draws one.
        seed: Draws it.
        host: Where to listen, over HTTP.
        port: The same; None serves over stdio.

    Raises `UserError` for an unknown environment, and one without tools.
    """
    env = make(env_id, **kwargs)
    try:
        if not isinstance(env, ToolEnv) or not env.tools:
            raise UserError(f"{env_id} has no tools to serve; `quintain envs` tells which environments have")
        prompt, _ = env.reset(seed=seed, options=None if task is None else {"task": task})
        assert env.task is not None
        kits = env.toolkits
        of_kits = {tool.name for kit in kits for tool in kit.tools}
        items: list[Tool | Toolkit] = [tool for tool in env.tools if tool.name not in of_kits]
        where = "stdio" if port is None else f"http://{host}:{port}/mcp"
        print(f"{len(env.tools)} tools of {env_id}, task {env.task.id}, at {where}", file=sys.stderr)
        serve_tools(
            [*items, *kits],
            "stdio" if port is None else "http",
            host=host,
            port=port or 0,
            setup=env.setup(env.task),
            name=env_id,
            instructions=prompt,
        )
    except KeyboardInterrupt:
        pass
    finally:
        env.close()
