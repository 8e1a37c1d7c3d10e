"""Other judges of mathematics, each in a virtual environment of its own; `judges.py` calls them.

A peer is called as its own users call it. Each runs in a process that is killed and started again when one answer
takes longer than `STUCK_S`; the row then counts as failed.
"""

from __future__ import annotations

import json
import select
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import Any

STUCK_S = 20.0

_LOOP = r"""
import json, sys, time
out = sys.stdout
sys.stdout = sys.stderr
print(json.dumps("ready"), file=out, flush=True)
for line in sys.stdin:
    row = json.loads(line)
    cpu, wall = time.process_time(), time.perf_counter()
    try:
        right, failed = bool(judge(row["gold"], row["response"])), ""
    except BaseException as error:
        right, failed = False, type(error).__name__
    print(json.dumps([right, failed, time.process_time() - cpu, time.perf_counter() - wall]), file=out, flush=True)
"""

_FORMULA = r"""
def formula(gold):
    return gold if "$" in gold or "\\boxed" in gold else "$" + gold + "$"
"""


@dataclass(frozen=True, slots=True)
class Peer:
    """One way to judge an answer."""

    name: str
    """As in the table."""
    environment: str
    """The folder of its virtual environment; peers may share one."""
    packages: tuple[str, ...]
    """What is installed into it."""
    code: str
    """Defines `judge(gold, response)`."""
    shares: bool = False
    """Whether it also sees this interpreter's packages (for those that need torch, which is large)."""


PEERS = (
    Peer(
        "math-verify 0.9, limits of 5 s",
        "judge-math-verify",
        ("math-verify[antlr4_13_2]==0.9.0",),
        _FORMULA
        + r"""
from math_verify import parse, verify
def judge(gold, response):
    return verify(parse(formula(gold), parsing_timeout=5), parse(response, parsing_timeout=5), timeout_seconds=5)
""",
    ),
    Peer(
        "math-verify 0.9 from a thread",
        "judge-math-verify",
        ("math-verify[antlr4_13_2]==0.9.0",),
        _FORMULA
        + r"""
from concurrent.futures import ThreadPoolExecutor
from math_verify import parse, verify
threads = ThreadPoolExecutor(1)
def judge(gold, response):
    return threads.submit(lambda: verify(parse(formula(gold)), parse(response))).result()
""",
    ),
    Peer(
        "TRL's accuracy_reward",
        "judge-trl",
        ("math-verify[antlr4_13_2]==0.9.0",),
        _FORMULA
        + r"""
from trl.rewards import accuracy_reward
def judge(gold, response):
    return accuracy_reward([[{"role": "assistant", "content": response}]], [formula(gold)])[0]
""",
        shares=True,
    ),
    Peer(
        "MathRubric of verifiers 0.1.8",
        "judge-verifiers",
        ("verifiers==0.1.8", "math-verify[antlr4_13_2]==0.9.0"),
        r"""
from verifiers.rubrics.math_rubric import MathRubric
rubric = MathRubric()
def judge(gold, response):
    completion = [{"role": "assistant", "content": response}]
    return rubric.correct_answer_reward_func(rubric.parser, completion, gold)
""",
    ),
    Peer(
        "math scorer of inspect_ai 0.3.285",
        "judge-inspect-ai",
        ("inspect_ai==0.3.285", "latex2sympy2-extended[antlr4_13_2]==1.11.0"),
        r"""
import asyncio
from inspect_ai.model import ModelName, ModelOutput
from inspect_ai.scorer import Target
from inspect_ai.solver import TaskState
from inspect_ai.scorer import math
scorer = math()
def judge(gold, response):
    state = TaskState(model=ModelName("mockllm/model"), sample_id="1", epoch=1, input="", messages=[],
                      output=ModelOutput.from_content("mockllm/model", response))
    return asyncio.run(scorer(state, Target(gold))).value in ("C", 1, True)
""",
    ),
)


def judged(python: str, code: str, rows: list[dict[str, Any]]) -> list[tuple[bool, str, float, float]]:
    """Judge rows in the peer's interpreter, one after the other. Raises `RuntimeError` if it does not start."""
    results: list[tuple[bool, str, float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        process: subprocess.Popen[str] | None = None
        for row in rows:
            if process is None:
                process = _started(python, code, folder)
            assert process.stdin is not None
            started = time.perf_counter()
            process.stdin.write(json.dumps({"gold": row["gold"], "response": row["response"]}) + "\n")
            process.stdin.flush()
            answer = _line(process, STUCK_S)
            if answer is None:
                process.kill()
                process.wait()
                process = None
                results.append((False, "stuck", STUCK_S, time.perf_counter() - started))
            else:
                results.append(tuple(json.loads(answer)))
        if process is not None:
            process.kill()
            process.wait()
    return results


def _started(python: str, code: str, folder: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [python, "-c", code + _LOOP],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=folder,
    )
    if _line(process, 300) is None:
        process.kill()
        raise RuntimeError("the peer did not start")
    return process


def _line(process: subprocess.Popen[str], seconds: float) -> str | None:
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], seconds)[0]:
        return None
    return process.stdout.readline() or None
