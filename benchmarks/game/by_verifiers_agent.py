"""verifiers 0.4.0: `Agent.interaction`, its smallest harness on this machine, with a scripted model server.

All processes are counted. Every turn is a program of its own, which `uv` has set up before; so few turns are enough.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import resource
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # where `uv` is
os.environ["SCRIPTED_KEY"] = "none"

import verifiers.v1 as vf  # noqa: TID251
from verifiers.v1.agent import Agent  # noqa: TID251
from verifiers.v1.clients import EvalClientConfig  # noqa: TID251
from verifiers.v1.harnesses.null import NullHarnessConfig  # noqa: TID251
from verifiers.v1.runtimes import SubprocessConfig  # noqa: TID251

from . import QUESTION, REPLIES, Row, answer

TURNS = 4


def all_cpu_s() -> float:
    """Return the processor seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in used)


class Handler(BaseHTTPRequestHandler):
    """A chat server that streams the scripted replies in turn."""

    protocol_version = "HTTP/1.1"
    replies = itertools.cycle(REPLIES[:TURNS])

    def log_message(self, *args: Any) -> None:
        """Say nothing on the terminal."""
        return

    def do_POST(self) -> None:
        """Say the next reply."""
        self.rfile.read(int(self.headers["Content-Length"]))
        head = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        delta = {"role": "assistant", "content": next(self.replies)}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        parts = [
            {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
            {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
            {**head, "choices": [], "usage": usage},
        ]
        body = "".join(f"data: {json.dumps(part)}\n\n" for part in parts) + "data: [DONE]\n\n"
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())


async def turn_us() -> float:
    """Return microseconds of processor time a turn, of all processes."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = EvalClientConfig(
        base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key_var="SCRIPTED_KEY"
    )
    config = vf.AgentConfig(
        model="m", harness=NullHarnessConfig(id="null"), runtime=SubprocessConfig(), client=client
    )
    async with Agent(config) as agent:
        for _ in range(2):  # the first sets the program up
            turns = 0
            began = all_cpu_s()
            async with agent.interaction(vf.Task(vf.TaskData(idx=0, prompt=QUESTION))) as interaction:
                segment = await interaction.turn()
                while turns < TURNS:
                    assert not segment.terminated, interaction.trace.errors
                    turns += 1
                    said, done = answer(segment.last_reply)
                    if done or turns == TURNS:
                        break
                    segment = await interaction.turn(said)
    return (all_cpu_s() - began) / turns * 1e6


def play() -> list[Row]:
    """Measure a whole turn of a rollout."""
    what = "verifiers 0.4.0: `Agent.interaction`, null harness, all its processes"
    return [(what, "rollout", asyncio.run(turn_us()))]
