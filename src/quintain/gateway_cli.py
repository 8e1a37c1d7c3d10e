"""`quintain gateway`: a model as a recording OpenAI-compatible endpoint on this machine."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from .rl.chat import ChatCodec
from .rl.config import EngineConfig, ModelConfig
from .rl.config_file import build
from .rl.config_types import Section
from .rl.engines import make_engine
from .rl.gateway import Gateway
from .rl.models import load_model, read_template
from .rl.trajectory import Trajectory
from .tools.errors import UserError
from .verifiers.base import Score


class Served(Section):
    """What is served: the values that can be set by options with dots."""

    model: ModelConfig = ModelConfig()
    """The model and its chat template."""
    engine: EngineConfig = EngineConfig()
    """What samples."""


def read_served(options: Sequence[str]) -> Served:
    """Read `["--model.path=smollm2", "--engine.server.start", "2"]`. Raises `UserError` for what is none."""
    return build(Served, {}, options, source="quintain gateway")


def serve(what: Served, port: int, out: Path, *, form: str = "hermes", max_tokens: int = 1024) -> None:
    """Serve until Ctrl-C; every session is a line of `out`, those that nobody finished ungraded; without any, no file.

    Raises `UserError` for a model, a format, a file or a port that cannot be had, `EngineError` for servers that cannot
    be used.
    """
    config, engine = what.model, what.engine
    if out.exists():
        raise UserError(f"{out} exists: name another file with --out, nothing is overwritten")
    loaded, tokenizer = load_model(config, seed=0, texts=())
    codec = ChatCodec(tokenizer, read_template(config))
    sampler = make_engine(engine, loaded, tokenizer, seed=0)
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("x", encoding="utf-8") as lines:

        def write(trajectory: Trajectory) -> None:
            lines.write(trajectory.to_json() + "\n")
            lines.flush()

        async def run() -> None:
            gateway = Gateway(
                sampler,
                codec,
                model=config.path,
                format=form,
                port=port,
                max_tokens=max_tokens,
                on_finish=write,
            )
            try:
                if engine.kind == "vllm-server":  # what cannot be used is told now, not to the first agent
                    await sampler.load(loaded, 0)
                async with gateway:
                    print(f"{config.path} at {gateway.url()}, a session's own: {gateway.url('NAME')}")
                    print(
                        f"end one: POST /sessions/NAME/finish with the bearer token {gateway.control_key}",
                        f"sessions go to {out}; Ctrl-C stops",
                        sep="\n",
                        flush=True,
                    )
                    await asyncio.Event().wait()
            finally:
                for name in gateway.sessions:
                    gateway.finish(
                        name, Score.ungraded("the gateway was stopped before the session was finished")
                    )
                await sampler.close()

        try:
            asyncio.run(run())
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
        finally:
            if not lines.tell():
                out.unlink()
