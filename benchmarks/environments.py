"""What a turn of an environment costs: ours, and the same game in the libraries that others use.

    python benchmarks/environments.py                          # makes an environment of packages for each peer
    python benchmarks/environments.py --only gymnasium,ours    # some of them
    python benchmarks/environments.py --python gem=/path/bin/python   # or use one that is there

The game: find a number from 1 to 100. A scripted policy guesses wrong seven times and right the eighth, in the words
"I think it is 37."; every peer reads the guess and answers with the same function (`answer`), so what differs is what
the library does round it. Processor time is what to compare; each figure is the least of five rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import platform
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROUNDS = 5
QUESTION = "I think of a whole number from 1 to 100. Guess it."
REPLIES = [f"I think it is {n}." for n in (50, 25, 12, 18, 21, 23, 24, 22)]
SECRET = 22
_GUESS = re.compile(r"\d{1,3}")

PEERS = {
    "skyrl-gym": ["skyrl-gym==0.4.0"],
    "gem": ["gem-llm==0.1.0"],
    "verifiers-0.3.1": ["verifiers==0.3.1"],
    "verifiers-0.4.0": ["verifiers==0.4.0", "uv"],
    "openenv": ["openenv==0.10.0"],
}
HERE = ("gymnasium", "ours", "trl")  # run by the interpreter that runs this file


def answer(text: str) -> tuple[str, bool]:
    """Return what the game says to a reply, and whether it is over."""
    guess = _GUESS.search(text)
    if guess is None:
        return "Write a whole number.", False
    number = int(guess[0])
    if number == SECRET:
        return "Right.", True
    return ("Too low." if number < SECRET else "Too high."), False


def cpu_us(play: Callable[[], int], episodes: int) -> float:
    """Return microseconds of processor time a turn: `play` plays an episode and returns its turns."""
    play()
    best = float("inf")
    for _ in range(ROUNDS):
        turns = 0
        began = time.process_time()
        for _ in range(episodes):
            turns += play()
        best = min(best, (time.process_time() - began) / turns)
    return best * 1e6


def cpu_us_together(plays: dict[str, Callable[[], int]], episodes: int, rounds: int = 40) -> dict[str, float]:
    """Return the same for several games in short rounds by turns, so that all meet the same moods of the machine."""
    best = dict.fromkeys(plays, float("inf"))
    for _ in range(rounds):
        for name, play in plays.items():
            turns = 0
            began = time.process_time()
            for _ in range(episodes):
                turns += play()
            best[name] = min(best[name], (time.process_time() - began) / turns)
    return {name: value * 1e6 for name, value in best.items()}


async def cpu_us_async(play: Callable[[], Any], episodes: int) -> float:
    """Do the same for an asynchronous game."""
    await play()
    best = float("inf")
    for _ in range(ROUNDS):
        turns = 0
        began = time.process_time()
        for _ in range(episodes):
            turns += await play()
        best = min(best, (time.process_time() - began) / turns)
    return best * 1e6


# --- the same game, by library: each returns rows of (what, kind, microseconds a turn)

Rows = list[tuple[str, str, float]]


def play_gymnasium() -> Rows:
    import gymnasium
    from gymnasium import spaces

    from quintain.envs import TextEnv, Turn

    class Bare(gymnasium.Env):  # type: ignore[type-arg]
        """Nothing but the game."""

        observation_space = spaces.Text(1000)
        action_space = spaces.Text(1000)

        def reset(self, *, seed: Any = None, options: Any = None) -> Any:
            super().reset(seed=seed)
            return QUESTION, {}

        def step(self, action: str) -> Any:
            said, done = answer(action)
            return said, float(done), done, False, {}

    class Chat(Bare):
        """The game, and by hand what a conversation needs: roles, reasoning apart, a turn limit, new messages."""

        def reset(self, *, seed: Any = None, options: Any = None) -> Any:
            super().reset(seed=seed)
            self.turns = 0
            opening = {"role": "user", "content": QUESTION}
            self.messages = [opening]
            return QUESTION, {"task_id": "1", "messages": [opening]}

        def step(self, action: str) -> Any:
            if not isinstance(action, str):
                raise TypeError("an action must be text")
            reasoning, _, content = action.rpartition("</think>")
            reply = {"role": "assistant", "content": content.strip()}
            if reasoning:
                reply["reasoning_content"] = reasoning.removeprefix("<think>").strip()
            self.messages.append(reply)
            self.turns += 1
            said, done = answer(reply["content"])
            message = {"role": "user", "content": said}
            self.messages.append(message)
            info = {"task_id": "1", "messages": [message], "reply": reply}
            return said, float(done), done, self.turns >= 100 and not done, info

    class Ours(TextEnv):
        def begin(self, task: Any) -> str:
            return QUESTION

        def respond(self, reply: Any) -> Any:
            said, done = answer(reply.content)
            return Turn(said, reward=1.0, done=True) if done else said

    def steps(env: Any) -> Callable[[], int]:
        def play() -> int:  # 56 steps for one reset: it is the steps that are measured
            env.reset()
            step = env.step
            for _ in range(8):
                for reply in REPLIES[:-1]:
                    step(reply)
            return 8 * (len(REPLIES) - 1)

        return play

    gymnasium.register("bench/Bare-v0", Bare, max_episode_steps=100)
    gymnasium.register("bench/Chat-v0", Chat, max_episode_steps=100)
    figures = cpu_us_together(
        {
            "a bare Gymnasium environment: nothing but the game, no wrapper": steps(Bare()),
            "the same as `gymnasium.make` gives it": steps(gymnasium.make("bench/Bare-v0")),
            "a Gymnasium environment that keeps the conversation by hand, no wrapper": steps(Chat()),
            "the same as `gymnasium.make` gives it: order, limit and types checked": steps(
                gymnasium.make("bench/Chat-v0")
            ),
            "ours: `TextEnv.step`": steps(Ours(max_turns=100)),
        },
        200,
    )
    return [(what, "step", value) for what, value in figures.items()]


def play_ours() -> Rows:
    from quintain.envs import TextEnv, ToolEnv, Turn
    from quintain.envs.bridges.agent_loop import run_episode
    from quintain.tools import tool
    from quintain.verifiers import FinalNumber, Task

    class Guess(TextEnv):
        def begin(self, task: Any) -> str:
            return QUESTION

        def respond(self, reply: Any) -> Any:
            said, done = answer(reply.content)
            return Turn(said, reward=1.0, done=True) if done else said

    @tool
    def guess(n: int) -> str:
        """Guess the number."""
        return answer(str(n))[0]

    env = Guess(max_turns=10)
    with_tool = ToolEnv([Task("1", QUESTION, str(SECRET))], [guess], FinalNumber(), max_turns=10)
    calls = [
        f'<tool_call>\n{{"name": "guess", "arguments": {{"n": {n}}}}}\n</tool_call>' for n in (50, 25, 12, 18)
    ]

    async def tool_turns() -> int:
        own = with_tool.fresh()
        own.reset(seed=1)
        for reply in [*calls, "22"]:
            await own.astep(reply)
        return len(calls) + 1

    async def loop() -> int:
        replies = iter(REPLIES)

        async def complete(messages: Any, tools: Any) -> Any:
            return {"role": "assistant", "content": next(replies)}

        return (await run_episode(env, complete, seed=1)).turns

    async def tool_loop() -> int:
        numbers = iter((50, 25, 12, 18))

        async def complete(messages: Any, tools: Any) -> Any:
            number = next(numbers, None)
            if number is None:
                return {"role": "assistant", "content": "22"}
            function = {"name": "guess", "arguments": json.dumps({"n": number})}
            return {
                "role": "assistant",
                "tool_calls": [{"id": "1", "type": "function", "function": function}],
            }

        return (await run_episode(with_tool, complete, seed=1)).turns

    rows: Rows = [("ours: `TextEnv` in the agent loop", "rollout", asyncio.run(cpu_us_async(loop, 400)))]
    rows.append(("ours: `ToolEnv`, reply with a call in, parse, tool, messages out", "tools",
                 asyncio.run(cpu_us_async(tool_turns, 400))))  # fmt: skip
    rows.append(("ours: `ToolEnv` in the agent loop", "tools", asyncio.run(cpu_us_async(tool_loop, 400))))
    rows.append(
        (
            "64 `ToolEnv` episodes x 4 turns, a tool that sleeps 0.2 s: wall seconds",
            "wall",
            asyncio.run(sleepers()),
        )
    )
    return rows


async def sleepers() -> float:
    """Return the wall seconds of 64 episodes of four turns whose tool sleeps for 0.2 s; the median of three."""
    from quintain.envs import ToolEnv
    from quintain.tools import tool
    from quintain.verifiers import FinalNumber, Task

    @tool
    async def wait(n: int) -> int:
        """Wait for a number."""
        await asyncio.sleep(0.2)
        return n

    env = ToolEnv([Task("1", "Wait.", "7")], [wait], FinalNumber(), max_turns=8)
    call = '<tool_call>\n{"name": "wait", "arguments": {"n": 7}}\n</tool_call>'

    async def play(seed: int) -> None:
        own = env.fresh()
        own.reset(seed=seed)
        for _ in range(4):
            await own.astep(call)
        await own.astep("7")

    walls = []
    for _ in range(3):
        began = time.perf_counter()
        await asyncio.gather(*map(play, range(64)))
        walls.append(time.perf_counter() - began)
    return sorted(walls)[1]


def play_skyrl_gym() -> Rows:
    from skyrl_gym.envs.base_text_env import BaseTextEnv, BaseTextEnvStepOutput

    class Guess(BaseTextEnv):
        def __init__(self) -> None:
            super().__init__()
            self.max_turns = 10

        def step(self, action: str) -> Any:
            self.turns += 1
            said, done = answer(action)
            return BaseTextEnvStepOutput(
                observations=[{"role": "user", "content": said}],
                reward=float(done),
                done=done or self.turns >= self.max_turns,
                metadata={},
            )

    def play() -> int:
        env = Guess()
        messages, _ = env.init([{"role": "user", "content": QUESTION}])
        for reply in REPLIES:  # the generator of SkyRL keeps the conversation
            messages.append({"role": "assistant", "content": reply})
            messages.extend(env.step(reply)["observations"])
        env.close()
        return len(REPLIES)

    return [("skyrl-gym: step, and the conversation as its generator keeps it", "step", cpu_us(play, 4000))]


def play_gem() -> Rows:
    import gem
    from gem.core import Env
    from gem.wrappers.wrapper_factory import get_wrapper_fns

    class Guess(Env):
        def reset(self, seed: Any = None) -> Any:
            super().reset(seed)
            self.turns = 0
            return QUESTION, {"suffix": "Guess."}

        def step(self, action: str) -> Any:
            self.turns += 1
            said, done = answer(action)
            return said, float(done), done, self.turns >= 10, {"suffix": "Guess."}

    gem.register("bench:Guess", Guess)

    def steps(env: Any) -> Callable[[], int]:
        def play() -> int:
            env.reset()
            for reply in REPLIES:
                env.step(reply)
            return len(REPLIES)

        return play

    wrapped = gem.make("bench:Guess")
    for wrap in get_wrapper_fns("concat", tokenizer=None):
        wrapped = wrap(wrapped)
    return [
        ("GEM: step", "step", cpu_us(steps(gem.make("bench:Guess")), 4000)),
        ("GEM: step, history concatenated by its wrapper", "step", cpu_us(steps(wrapped), 2000)),
    ]


def play_verifiers() -> Rows:
    import verifiers  # noqa: TID251 - the package of that name

    if not verifiers.__version__.startswith("0.3"):
        return play_verifiers_v1()
    import verifiers.legacy as vf  # noqa: TID251 - the package of that name
    from datasets import Dataset
    from verifiers.legacy.clients import Client  # noqa: TID251
    from verifiers.legacy.types import Response, ResponseMessage  # noqa: TID251

    class Scripted(Client):  # type: ignore[type-arg]
        def __init__(self) -> None:
            super().__init__(object())
            self.turn = 0

        def setup_client(self, config: Any) -> Any:
            return None

        async def to_native_tool(self, tool: Any) -> Any:
            return tool

        async def to_native_prompt(self, messages: Any) -> Any:
            return messages, {}

        async def get_native_response(self, prompt: Any, *args: Any, **kwargs: Any) -> Any:
            self.turn += 1
            return REPLIES[(self.turn - 1) % len(REPLIES)]

        async def raise_from_native_response(self, response: Any) -> None:
            return None

        async def from_native_response(self, response: Any) -> Response:
            message = ResponseMessage(
                role="assistant", content=response, finish_reason="stop", is_truncated=False
            )
            return Response(id="1", created=1, model="m", message=message)

        async def close(self) -> None:
            return None

    class Guess(vf.MultiTurnEnv):
        async def env_response(self, messages: Any, state: Any, **kwargs: Any) -> Any:
            content = messages[-1]["content"] if isinstance(messages[-1], dict) else messages[-1].content
            said, done = answer(content)
            reply = [{"role": "user", "content": said}]
            if done:
                state["final_env_response"] = reply
            return reply

    async def right(state: Any) -> float:
        return float(state.get("final_env_response") is not None)

    rows = Dataset.from_list([{"question": QUESTION, "answer": str(SECRET)}])
    env = Guess(dataset=rows, rubric=vf.Rubric(funcs=[right]), max_turns=10)
    row = env.get_dataset()[0]

    async def play() -> int:
        state = await env.rollout(dict(row), Scripted(), "m", {})
        assert len(state["trajectory"]) == len(REPLIES), state["trajectory"]
        return len(REPLIES)

    return [("verifiers 0.3.1: `MultiTurnEnv.rollout`, a client in the process", "rollout",
             asyncio.run(cpu_us_async(play, 40)))]  # fmt: skip


def play_verifiers_v1() -> Rows:
    """An agent of 0.4.0 (its smallest harness, on this machine) with a scripted model server, all processes counted.

    Every turn is a program of its own, which `uv` has set up before; so few turns are enough.
    """
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # where `uv` is
    os.environ["SCRIPTED_KEY"] = "none"
    import threading
    from http.server import ThreadingHTTPServer

    import verifiers.v1 as vf  # noqa: TID251
    from verifiers.v1.agent import Agent  # noqa: TID251
    from verifiers.v1.clients import EvalClientConfig  # noqa: TID251
    from verifiers.v1.harnesses.null import NullHarnessConfig  # noqa: TID251
    from verifiers.v1.runtimes import SubprocessConfig  # noqa: TID251

    server = ThreadingHTTPServer(("127.0.0.1", 0), scripted_server())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = vf.AgentConfig(
        model="m",
        harness=NullHarnessConfig(id="null"),
        runtime=SubprocessConfig(),
        client=EvalClientConfig(
            base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key_var="SCRIPTED_KEY"
        ),
    )

    async def play() -> float:
        async with Agent(config) as agent:
            for _ in range(2):  # the first sets the program up
                turns = 0
                began = all_cpu_s()
                async with agent.interaction(vf.Task(vf.TaskData(idx=0, prompt=QUESTION))) as interaction:
                    segment = await interaction.turn()
                    while turns < 4:
                        assert not segment.terminated, interaction.trace.errors
                        turns += 1
                        said, done = answer(segment.last_reply)
                        if done or turns == 4:
                            break
                        segment = await interaction.turn(said)
        return (all_cpu_s() - began) / turns * 1e6

    return [
        (
            "verifiers 0.4.0: `Agent.interaction`, null harness, all its processes",
            "rollout",
            asyncio.run(play()),
        )
    ]


def all_cpu_s() -> float:
    """Return the processor seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in used)


def scripted_server() -> Any:
    """Return the request handler of a chat server that streams the scripted replies in turn."""
    from http.server import BaseHTTPRequestHandler

    replies = itertools.cycle(REPLIES[:4])

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            return

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            head = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
            delta = {"role": "assistant", "content": next(replies)}
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

    return Handler


def play_openenv() -> Rows:
    import threading

    import uvicorn
    from openenv.core import GenericEnvClient
    from openenv.core.env_server import Action, Environment, Observation, State, create_fastapi_app

    class Text(Action):  # type: ignore[misc]
        text: str

    class Said(Observation):  # type: ignore[misc]
        text: str

    class Guess(Environment):  # type: ignore[misc]
        SUPPORTS_CONCURRENT_SESSIONS = True

        def reset(self, seed: Any = None, episode_id: Any = None) -> Any:
            return Said(text=QUESTION)

        def step(self, action: Any, timeout_s: Any = None) -> Any:
            said, done = answer(action.text)
            return Said(text=said, reward=float(done), done=done)

        async def step_async(self, action: Any, timeout_s: Any = None) -> Any:
            return self.step(action)

        @property
        def state(self) -> Any:
            return State()

    env = Guess()

    def steps() -> int:
        env.reset()
        for reply in REPLIES:
            env.step(Text(text=reply))
        return len(REPLIES)

    rows: Rows = [("OpenEnv: `Environment.step`, no server", "step", cpu_us(steps, 1000))]
    app = create_fastapi_app(Guess, Text, Said, max_concurrent_envs=4, mode="simulation")
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]

    async def over_the_wire() -> float:
        async with GenericEnvClient(base_url=f"http://127.0.0.1:{port}") as client:

            async def play() -> int:
                await client.reset()
                for reply in REPLIES:
                    await client.step({"text": reply})
                return len(REPLIES)

            return await cpu_us_async(play, 40)

    rows.append(
        ("OpenEnv: client and server on one machine, both counted", "rollout", asyncio.run(over_the_wire()))
    )
    server.should_exit = True
    thread.join(10)
    return rows


def play_trl() -> Rows:
    """TRL's own tool loop, with a script where the model would sample; tokens are part of what it does."""
    import tempfile
    import warnings

    import torch
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer
    from trl.chat_template_utils import qwen3_chat_template

    from quintain.rl.config import TinyModelConfig
    from quintain.rl.tiny import build_model, build_tokenizer

    warnings.simplefilter("ignore")
    shape = TinyModelConfig(layers=1, width=32, heads=2, kv_heads=2, mlp=32, vocabulary=320, context=4096)
    tokenizer = build_tokenizer(
        [QUESTION, "I think it is 22.", '<tool_call>{"name": "guess", "arguments"'], shape
    )
    tokenizer.chat_template = qwen3_chat_template

    def guess(n: int) -> str:
        """Guess the number.

        Args:
            n: The number.
        """
        return answer(str(n))[0]

    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            output_dir=folder, per_device_train_batch_size=4, num_generations=4, max_steps=1, report_to="none",
            use_cpu=True, bf16=False, max_completion_length=3000, disable_tqdm=True,
        )  # fmt: skip
        trainer = GRPOTrainer(
            build_model(shape, tokenizer, torch.Generator().manual_seed(0)),
            reward_funcs=lambda completions, **_: [0.0] * len(completions), args=config, tools=[guess],
            train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": QUESTION}]}]),
            processing_class=tokenizer,
        )  # fmt: skip
    calls = [
        f'<tool_call>\n{{"name": "guess", "arguments": {{"n": {n}}}}}\n</tool_call><|im_end|>'
        for n in (50, 25, 12, 18)
    ]
    replies = [*calls, "22<|im_end|>"]
    encoded = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in replies]
    trainer._sync_tool_dicts = [{"guess": guess}]
    trainer._async_tool_dicts = [{}]
    asked = 0

    def generate(prompt_ids: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal asked
        asked += 1
        return [list(encoded[asked % len(encoded)]) for _ in prompt_ids], None

    trainer._generate_single_turn = generate
    from trl.chat_template_utils import parse_response

    def play() -> int:
        nonlocal asked
        asked = 0
        prompts = [[{"role": "user", "content": QUESTION}]]
        prompt_ids, images, fields = trainer._tokenize_prompts(prompts)
        first = list(encoded[0])
        completions = [[parse_response(trainer._tokenizer, first, prefix=prompt_ids[0], tools=[guess])]]
        trainer._tool_call_loop(prompts, prompt_ids, [first], completions, None, images, fields)
        return len(replies)

    return [(f"TRL {version('trl')}: its tool loop, tokens counted in", "tools", cpu_us(play, 10))]


GAMES: dict[str, Callable[[], Rows]] = {
    "gymnasium": play_gymnasium,
    "ours": play_ours,
    "trl": play_trl,
    "skyrl-gym": play_skyrl_gym,
    "gem": play_gem,
    "verifiers-0.3.1": play_verifiers,
    "verifiers-0.4.0": play_verifiers,
    "openenv": play_openenv,
}


# --- one run


def interpreter(name: str, given: dict[str, str], cache: Path) -> str:
    """Return the Python for a peer: this one, a given one, or one of an environment that is made now."""
    if name in given:
        return given[name]
    if name in HERE:
        return sys.executable
    folder = cache / name
    python = folder / "bin" / "python"
    ready = folder / ".ready"
    if not ready.exists():
        print(f"making {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True, timeout=300)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *PEERS[name]], check=True, timeout=900)
        ready.touch()
    return str(python)


def measured(name: str, given: dict[str, str], cache: Path) -> Rows:
    """Run one peer in a process of its own."""
    try:
        python = interpreter(name, given, cache)
    except (subprocess.SubprocessError, OSError) as error:
        print(f"{name}: left out, its packages cannot be installed: {error}", file=sys.stderr)
        return []
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}
    if name not in HERE:
        environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [python, __file__, "--one", name], capture_output=True, text=True, timeout=600, env=environment
    )
    if done.returncode:
        print(f"{name}: left out: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return []
    rows: Rows = [(what, kind, value) for what, kind, value in json.loads(done.stdout.splitlines()[-1])]
    return rows


KINDS = {
    "step": "A step alone: reply in, observation out",
    "rollout": "A whole turn of a rollout: messages to the policy, reply in, read, step, messages out",
    "tools": "A whole turn with a tool call",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--one", choices=GAMES, help=argparse.SUPPRESS)
    parser.add_argument("--only", default=",".join(GAMES), help="peers, with commas between")
    parser.add_argument(
        "--python", action="append", default=[], metavar="PEER=PATH", help="use this interpreter"
    )
    parser.add_argument(
        "--cache", type=Path, default=Path(".cache/benchmarks"), help="where environments are made"
    )
    chosen = parser.parse_args()
    if chosen.one:
        sys.path.pop(0)  # this folder, whose `verifiers.py` would stand in the way of the package
        with contextlib.redirect_stdout(sys.stderr):
            rows = GAMES[chosen.one]()
        print(json.dumps(rows))
        return
    given = dict(part.split("=", 1) for part in chosen.python)
    names = chosen.only.split(",")
    unknown = [name for name in [*names, *given] if name not in GAMES]
    if unknown:
        parser.error(f"there is no peer {unknown[0]!r}; the choices are: {', '.join(GAMES)}")
    rows = [row for name in names for row in measured(name, given, chosen.cache)]
    print(
        f"{platform.machine()}, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    )
    ours: dict[str, float] = {}
    for what, kind, value in rows:
        if what.startswith("ours"):
            ours.setdefault(kind, value)
    for kind, title in KINDS.items():
        print(f"\n| {title} | CPU-ms | / ours |\n| --- | --- | --- |")
        for what, own_kind, value in rows:
            if own_kind == kind:
                ratio = f"{value / ours[kind]:.2f}" if kind in ours else "–"
                name = f"**ours**{what.removeprefix('ours')}" if what.startswith("ours") else what
                print(f"| {name} | {value / 1000:.4f} | {ratio} |")
    for what, kind, value in rows:
        if kind == "wall":
            print(f"\n{what}: {value:.2f}")


if __name__ == "__main__":
    main()
