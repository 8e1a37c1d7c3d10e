"""How long it takes to hand new weights of SmolLM2-135M to vLLM on this machine's CPU, in this process and to a server.

    python benchmarks/weight_sync.py                  # in this process, then to one server (five minutes on two cores)
    python benchmarks/weight_sync.py --sides process  # less of it

Between two syncs every weight changes. A sync is everything from the learner's tensors to an engine that samples with
them: `engine.load`, prefix cache included. Seconds of wall clock, and of CPU for all processes that take part.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import torch
from common import at_least, finish, machine, parser, ratio, spread, table, tree_cpu

from quintain.rl.config import EngineConfig, ModelConfig, ServerConfig, VllmConfig
from quintain.rl.engines import make_engine
from quintain.rl.engines.base import Sampling
from quintain.rl.models import load_model


async def measure(side: str, dtype: str, repeats: int) -> dict[str, Any]:
    """Sync so often, and return the seconds."""
    model, tokenizer = load_model(ModelConfig(path="smollm2", dtype=dtype, device="cpu"), seed=0)
    options = VllmConfig(kv_cache_gb=0.25, max_model_len=512)
    kind: Any = "vllm" if side == "process" else "vllm-server"
    config = EngineConfig(kind=kind, vllm=options, server=ServerConfig(start=1, start_s=900), max_sessions=8)
    engine = make_engine(config, model, tokenizer, seed=0)
    await engine.load(model, 0)
    probe = Sampling(4, (), temperature=1.0, seed=1)
    walls, cpus, said = [], [], []
    for version in range(1, repeats + 1):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.003)
        wall, cpu = time.monotonic(), time.process_time() + tree_cpu()
        await engine.load(model, version)
        walls.append(time.monotonic() - wall)
        cpus.append(time.process_time() + tree_cpu() - cpu)
        said.append((await engine.generate([1, 2, 3], probe)).logprobs[0])
    await engine.close()
    assert len(set(said)) == repeats, "the weights did not arrive"
    size = sum(p.nbytes for p in model.parameters()) / 2**20
    return {"side": side, "dtype": dtype, "mib": size, "wall_s": spread(walls), "cpu_s": spread(cpus)}


def show(figures: dict[str, Any]) -> None:
    """Print the table."""
    names = {"process": "in this process", "server": "one server, a file in shared memory"}
    rows = [
        (names[one["side"]], one["dtype"], f"{one['mib']:.0f}", ratio(one["cpu_s"]), ratio(one["wall_s"]))
        for one in figures["syncs"]
    ]
    table("New weights for vLLM:", ("to", "weights", "MiB", "CPU s", "wall s"), rows)


def main() -> None:
    """Measure each side and print."""
    options = parser(__doc__)
    options.add_argument("--sides", nargs="+", choices=("process", "server"), default=["process", "server"])
    options.add_argument("--dtypes", nargs="+", choices=("float32", "bfloat16"), default=["float32"])
    options.add_argument("--repeats", type=at_least(1), default=7)
    asked = options.parse_args()
    before = machine()
    found = [
        asyncio.run(measure(side, dtype, asked.repeats)) for dtype in asked.dtypes for side in asked.sides
    ]
    figures = {"syncs": found}
    show(figures)
    finish(asked, before, figures)


if __name__ == "__main__":
    main()
