"""Servers for others: `quintain gateway` and `quintain mcp`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .shared import env_options

commands = typer.Typer()
PANEL = "Serve"
"""Where `quintain --help` shows them."""

mcp = typer.Typer(
    help="Tools over the Model Context Protocol.", no_args_is_help=True, pretty_exceptions_enable=False
)


@mcp.callback()
def _mcp() -> None:
    """Tools over the Model Context Protocol."""


@mcp.command(epilog="Example:  quintain mcp serve quintain/Calculator-v0 --task 3 split=test")
def serve(
    env_id: Annotated[str, typer.Argument(help="An environment with tools; `quintain envs` lists them.")],
    options: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Options of the environment.")
    ] = None,
    task: Annotated[int | None, typer.Option(help="Index of the task that the tools work on.")] = None,
    seed: Annotated[int | None, typer.Option(help="Draws the task.")] = None,
    port: Annotated[
        int | None, typer.Option(help="Serve over HTTP at this port instead of stdio.", min=1, max=65535)
    ] = None,
    host: Annotated[str, typer.Option(help="Where to listen; whoever reaches it can call.")] = "127.0.0.1",
) -> None:
    """Serve the tools of an environment as an MCP server, in the world of one task."""
    from ..mcp_cli import serve as serve_env

    serve_env(env_id, env_options(options), task, seed, host, port)


@commands.command(
    epilog="Example:  quintain gateway --model runs/my-run/checkpoints/step-000060 --port 8000. Values of [engine] and "
    "[model] are options with dots: --engine vllm-server --engine.server.start 2, --model.dtype bfloat16."
)
def gateway(
    ctx: typer.Context,
    model: Annotated[str, typer.Option(help="A model: a folder, a Hugging Face id or `smollm2`.")],
    port: Annotated[int, typer.Option(help="Where to listen on 127.0.0.1; 0 takes a free one.")] = 0,
    out: Annotated[Path, typer.Option(help="The new file for the trajectories.")] = Path("sessions.jsonl"),
    engine: Annotated[
        str, typer.Option(help="What samples: transformers, vllm, vllm-server or openai.")
    ] = "transformers",
    tool_format: Annotated[str, typer.Option("--format", help="How the model writes tool calls.")] = "hermes",
    max_tokens: Annotated[int, typer.Option(help="Tokens of a reply without a limit of its own.")] = 1024,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    chat_template: Annotated[
        Path | None, typer.Option(help="A Jinja file instead of the model's own.")
    ] = None,
) -> None:
    """Serve a model as an OpenAI-compatible endpoint that records every session, token by token."""
    from ..gateway_cli import read_served, serve

    options = [f"--model.path={model}", f"--model.device={device}", f"--engine.kind={engine}"]
    if chat_template is not None:
        options.append(f"--model.chat_template={chat_template}")
    what = read_served([*options, *(ctx.obj or ())])
    serve(what, port, out, form=tool_format, max_tokens=max_tokens)
