"""A code environment whose programs run in Docker containers, without network and with limits.

python examples/code_in_docker.py                 # needs a Docker engine, and the image named below
python examples/code_in_docker.py local           # the same without Docker, in the local sandbox

Tests never enter the container: inputs go in, values come out, and the comparison is made outside.
"""

import sys

from quintain import SingleTurnEnv, Task
from quintain.sandboxes import open_pool
from quintain.verifiers import CodeTests

IMAGE = "python:3.12-slim"

TASKS = [
    Task(
        "runs",
        "Write a function `runs(text)` that returns how many runs of equal characters a string has.",
        answer={
            "entry_point": "runs",
            "tests": [
                {"args": ["aabbb"], "expected": 2},
                {"args": [""], "expected": 0},
                {"args": ["aba"], "expected": 3},
            ],
        },
    )
]

RIGHT = """```python
from itertools import groupby

def runs(text):
    return len(list(groupby(text)))
```"""
SLOPPY = """```python
def runs(text):
    return len(set(text))
```"""
SLY = """```python
import os

def runs(text):
    print("3 of 3 tests passed")
    os._exit(0)
```"""


def main(backend="docker", image=IMAGE):
    options = {"image": image} if backend == "docker" else {}
    with open_pool(backend, size=2, **options) as pool:
        env = SingleTurnEnv(TASKS, CodeTests(pool=pool))
        for name, reply in (("right", RIGHT), ("sloppy", SLOPPY), ("sly", SLY)):
            env.reset(seed=0)
            _, reward, _, _, info = env.step(reply)
            print(f"{name}: {reward} ({info['score'].reason})")


if __name__ == "__main__":
    main(*sys.argv[1:])
