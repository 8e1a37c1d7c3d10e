"""What the environments share whose replies are programs: the judge, the prompt, and a tool for the public examples.

Programs run in one pool of sandboxes that all of them share. The tests of a task never enter a program's process,
and the tool knows nothing but the examples that the prompt shows too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ...sandboxes.base import Limits, SandboxError, SandboxUnavailable
from ...tools.chat import Reply
from ...tools.errors import InfrastructureError, UserError
from ...tools.tool import tool
from ...tools.toolkit import Toolkit
from ...verifiers.base import Episode, Score, Task, Verifier
from ...verifiers.code import CodeTests, TestResult, call_tests, output_tests, run_anywhere, shared_pool
from ...verifiers.code_tests import FunctionTests, OutputTests, fenced_blocks, program_in
from ...verifiers.final_answer import without_thinking
from ..tasks import TaskSet
from ..tool_use import ToolEnv
from .plain_letters import disguise

if TYPE_CHECKING:
    from ...sandboxes import Pool

TOOL_LIMITS = Limits(wall_s=5.0, memory_mb=512, output_bytes=1 << 16)
"""What one run on the public examples may use."""

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}")
_MARK = "\x1e"


def opened_pool(env: str) -> Pool:
    """Return the pool in which programs run. Raises `UserError` if this machine has no sandbox."""
    try:
        return shared_pool()
    except SandboxUnavailable as error:
        raise UserError(
            f"{env} runs the model's programs and has no sandbox to run them in: {error}"
        ) from error


@dataclass(frozen=True)
class SteadyTests(Verifier):
    """`CodeTests` for a reply that hands in one program: its last fenced block, in honest letters (`plain_letters`).

    Several programs are not tried until one passes. Nothing in a score differs between two runs: no times, no addresses
    of objects. Where every test must pass and each is a run of its own, the first goes ahead: most wrong programs fail
    it.
    """

    tests: CodeTests
    """What judges."""

    def score(self, episode: Episode) -> Score:
        """Judge the program of the reply."""
        return run_anywhere(self.ascore(episode))

    async def ascore(self, episode: Episode) -> Score:
        """Judge the program of the reply without blocking."""
        task = episode.task
        blocks = fenced_blocks(without_thinking(episode.reply))
        if not blocks:
            return Score(0.0, reason="no ```python block in the reply")
        if odd := disguise(blocks[-1]):
            return Score(0.0, reason=f"the program has {odd}")
        episode = replace(episode, reply=Reply(fenced(blocks[-1])))
        listed = task.answer.get("tests") or ()
        if not self.tests.partial and len(listed) > 1 and not task.answer.get("entry_point"):
            ahead = Task(task.id, task.prompt, {**task.answer, "tests": listed[:1]}, task.info)
            first = self._steady(await self.tests.ascore(replace(episode, task=ahead)))
            if first.value < 1:
                return replace(first, reason=f"{first.reason} (the other {len(listed) - 1} were not run)")
        return self._steady(await self.tests.ascore(episode))

    def _steady(self, score: Score) -> Score:
        parts = {name: value for name, value in score.parts.items() if name.startswith("test_")}
        return Score(score.value, parts, score.status, _ADDRESS.sub("0x...", score.reason))

    def check(self, task: Task) -> None:
        """Refuse a task whose tests cannot be read."""
        self.tests.check(task)


class PublicExamples(Toolkit):
    """The tool `run_examples(code)`: what the program does on the examples that the prompt shows.

    The setup holds `examples`, each `{"args", "expected"}`, `{"stdin", "stdout"}`, `{"call", "expected"}` (an
    expression and the text of its value) or `{"assert"}`; and, for calls, `entry_point` and perhaps `prompt`, as
    `CodeTests` takes them.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    async def open(self, setup: Mapping[str, Any]) -> None:
        """Take the examples of the task."""
        self.examples: Sequence[Mapping[str, Any]] = setup["examples"]
        self.entry_point: str | None = setup.get("entry_point")
        self.prompt: str = setup.get("prompt", "")

    @tool(timeout_s=None)  # the sandbox keeps the time
    async def run_examples(self, code: str) -> str:
        """Run a program on the examples of the task and return what came of each.

        Args:
            code: The whole program, as it would be handed in.
        """
        program = program_in(code, self.entry_point, self.prompt)
        try:
            program.encode()
        except UnicodeEncodeError:
            return "The program is no valid text."
        try:
            return await self._run(program)
        except SandboxError as error:
            raise InfrastructureError("sandbox", f"{type(error).__name__}: {error}") from error

    async def _run(self, program: str) -> str:
        if not self.examples:
            result = await self.pool.run(program, limits=TOOL_LIMITS)
            if result.ok:
                return "The program loads. The task shows no example that can be run."
            return f"The program does not load: {_last_line(result.stderr) or result.reason.value}"
        first = self.examples[0]
        if "stdin" in first:
            results = await output_tests(self.pool, program, OutputTests(tuple(self.examples)), TOOL_LIMITS)
        elif "args" in first:
            tests = FunctionTests(self.entry_point or "", tuple(self.examples))
            results = await call_tests(self.pool, program, tests, TOOL_LIMITS)
        else:
            results = await self._snippets(program)
        return "\n".join(
            f"Example {number}: {'passed' if one.passed else _ADDRESS.sub('0x...', one.why)}"
            for number, one in enumerate(results, 1)
        )

    async def _snippets(self, program: str) -> list[TestResult]:
        """Run expressions and asserts beside the program; what it says of itself is for the model alone."""
        snippets = [str(one.get("call") or one["assert"]) for one in self.examples]
        code = f"{program}\n\n{_BESIDE.format(snippets=snippets, mark=_MARK)}"
        result = await self.pool.run(code, limits=TOOL_LIMITS)
        _, found, said = result.stdout.rpartition(_MARK)
        try:
            values: Any = json.loads(said) if found else None
        except ValueError:
            values = None
        if not isinstance(values, list) or len(values) != len(snippets):
            why = _last_line(result.stderr) or result.reason.value
            return [TestResult(False, why)] * len(snippets)
        return [_compared(one, value) for one, value in zip(self.examples, values, strict=True)]


_BESIDE = """
def _quintain_examples(snippets):
    import json
    said = []
    for snippet in snippets:
        try:
            if snippet.startswith("assert "):
                exec(snippet, globals())
                said.append([True, ""])
            else:
                said.append([True, repr(eval(snippet, globals()))])
        except BaseException as error:
            said.append([False, type(error).__name__ + ": " + str(error)[:200]])
    print("{mark}" + json.dumps(said))
_quintain_examples({snippets!r})
"""


def _compared(example: Mapping[str, Any], value: Any) -> TestResult:
    ran, text = bool(value[0]), str(value[1])[:300]
    if not ran:
        return TestResult(False, f"raised {text}")
    if "assert" in example or text == example["expected"]:
        return TestResult(True)
    return TestResult(False, f"{example['call']} returned {text}, expected {example['expected']}")


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][:300] if lines else ""


def fenced(code: str, language: str = "python") -> str:
    """Return code as a Markdown block, which is how a program is handed in."""
    fence = "```"
    while fence in code:
        fence += "`"
    return f"{fence}{language}\n{code.rstrip()}\n{fence}"


class ProgramEnv(ToolEnv):
    """One task, one program: the last fenced block of the final reply is run against the tests of the task.

    Args:
        env: What error messages call the environment.
        tasks: Problems with an answer for `CodeTests`; `info["public"]` is the setup of `PublicExamples`.
        examples_tool: Whether the model may run its program on the public examples before it hands it in.
        max_turns: Replies until the episode is truncated, with the tool; without it the first is judged.
        partial: Whether the reward is the share of tests passed; else 1 for all of them and 0 otherwise.
        wall_s: Seconds for each test.
    """

    def __init__(
        self,
        env: str,
        tasks: TaskSet,
        *,
        examples_tool: bool = False,
        max_turns: int = 5,
        partial: bool = False,
        wall_s: float = 10.0,
        system_prompt: str | None = None,
        render_mode: str | None = None,
    ) -> None:
        if isinstance(wall_s, bool) or not isinstance(wall_s, int | float) or not 0 < wall_s <= 600:
            raise UserError(f"{env}: wall_s must be a number of seconds up to 600, got {wall_s!r}")
        pool = opened_pool(env)
        super().__init__(
            tasks,
            [PublicExamples(pool)] if examples_tool else [],
            SteadyTests(CodeTests(partial=partial, wall_s=wall_s, pool=pool)),
            max_turns=max_turns if examples_tool else 1,
            system_prompt=system_prompt,
            render_mode=render_mode,
        )

    def setup(self, task: Task) -> Mapping[str, Any]:
        """Return the public examples: nothing else of the task reaches the tool."""
        public: Mapping[str, Any] = task.info["public"]
        return public
