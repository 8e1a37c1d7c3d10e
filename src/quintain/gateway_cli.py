"""`quintain gateway`: a model as a recording OpenAI-compatible endpoint on this machine."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Literal

from .rl.chat import ChatCodec
from .rl.config import EngineConfig, ModelConfig
from .rl.engines import make_engine
from .rl.gateway import Gateway
from .rl.models import load_model, read_template
from .rl.trajectory import Trajectory
from .tools.errors import UserError
from .verifiers.base import Score


def serve(
    model: str,
    port: int,
    out: Path,
    *,
    engine: Literal["transformers", "vllm"] = "transformers",
    form: str = "hermes",
    max_tokens: int = 1024,
    device: str = "auto",
    chat_template: Path | None = None,
) -> None:
    """Serve until Ctrl-C; every session is a line of `out`, those that nobody finished ungraded.

    Raises `UserError` for a model, a format, a file or a port that cannot be had.
    """
    config = ModelConfig(path=model, device=device, chat_template=chat_template)
    if out.exists():
        raise UserError(f"{out} exists: name another file with --out, nothing is overwritten")
    loaded, tokenizer = load_model(config, seed=0, texts=())
    codec = ChatCodec(tokenizer, read_template(config))
    sampler = make_engine(EngineConfig(kind=engine), loaded, tokenizer, seed=0)
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("x", encoding="utf-8") as lines:

        def write(trajectory: Trajectory) -> None:
            lines.write(trajectory.to_json() + "\n")
            lines.flush()

        async def run() -> None:
            gateway = Gateway(
                sampler, codec, model=model, format=form, port=port, max_tokens=max_tokens, on_finish=write
            )
            try:
                async with gateway:
                    print(f"{model} at {gateway.url()}, a session's own: {gateway.url('NAME')}")
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
