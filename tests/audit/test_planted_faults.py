"""Every fault that the audit is for, planted into a sound environment one at a time, and caught by name."""

from __future__ import annotations

import base64
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from quintain.envs import Card, SingleTurnEnv, TaskSet, TextEnv, ToolEnv, Turn
from quintain.envs.audit import Report, Severity, audit
from quintain.tools import Hermes, Message, Reply, Tool, ToolCall
from quintain.verifiers import Episode, Judge, Score, Task, Verifier

WORD = f"word-{os.urandom(6).hex()}"
"""An answer that stands in no file, this one included: what is found was planted."""
CARD = Card("Add two numbers.", "The sum after ####.", "Two digits.", "Computed.", tags=("math",))


def audited(env: Any, probe: str, **options: Any) -> Report:
    return audit(env, only=[probe], **{"tasks": 6, "fuzz": 60, "long": 2_000, "step_s": 5.0, **options})


def troubles(report: Report) -> set[str]:
    return {finding.name for finding in report.troubles}


# --- the sound twin: sums, one reply, the number after ####


def sums(split: str = "train", name: str = "sums") -> TaskSet:
    def make(rng: np.random.Generator, index: int) -> Task:
        a, b = (int(n) for n in rng.integers(100, 1000, size=2))
        return Task("", f"What is {a} + {b}? Write the number after ####.", str(a + b))

    return TaskSet.generated(make, name=name, split=split)


class Exact(Verifier):
    def score(self, episode: Episode) -> Score:
        found = re.findall(r"^#### (\d+)$", episode.reply[-200:], re.MULTILINE | re.ASCII)
        return Score(float(found[-1:] == [episode.task.answer]))


def solve(task: Task, messages: Sequence[Message], rng: np.random.Generator) -> str:
    return f"#### {task.answer}"


class Sums(SingleTurnEnv):
    card = CARD
    verifier_class: ClassVar[type[Verifier]] = Exact

    def __init__(self, split: str = "train", render_mode: str | None = None) -> None:
        super().__init__(sums(split), self.verifier_class(), render_mode=render_mode)
        self.oracle = solve


@pytest.mark.slow
def test_the_sound_twin_passes_every_probe():
    report = audit(Sums, tasks=6, fuzz=60, long=20_000)
    assert report.sound, report.troubles
    assert [outcome.verdict for outcome in report.outcomes] == ["passed"] * 8


def graded_by(judge: Any) -> type[Sums]:
    """Sums with another verifier: a function (reply, task) -> value."""

    class Graded(Verifier):
        def score(self, episode: Episode) -> Score:
            return Score(float(judge(str(episode.reply), episode.task)))

    class Planted(Sums):
        verifier_class = Graded

    return Planted


# --- solvable


def test_a_task_that_the_oracle_cannot_solve():
    env = Sums()
    env.oracle = lambda task, messages, rng: "#### 1" if task.id.endswith("7") else solve(task, messages, rng)
    report = audit(env, only=["solvable"], tasks=60)
    (finding,) = report.named("solvable/oracle-fails")
    assert finding.severity is Severity.FAULT
    assert 0 < finding.measured < 0.5
    assert finding.proof[0].replies == ("#### 1",)


def test_without_an_oracle_it_cannot_be_told_and_is_no_pass():
    env = Sums()
    env.oracle = None
    report = audited(env, "solvable")
    assert troubles(report) == {"solvable/no-oracle"}
    assert not report.sound


def test_an_oracle_that_raises_or_never_ends():
    env = Sums()
    env.oracle = lambda task, messages, rng: task.info["missing"]
    assert troubles(audited(env, "solvable")) == {"solvable/error"}

    class Endless(Sums):
        def respond(self, reply: Reply) -> Turn:
            return Turn("Go on.")

    assert troubles(audited(Endless, "solvable")) == {"solvable/endless"}


# --- not trivial


@pytest.mark.parametrize(
    ("judge", "caught"),
    [
        (lambda reply, task: reply in task.prompt or task.answer in reply, "empty"),
        (lambda reply, task: len(reply) > 0, "garbage"),
        (lambda reply, task: reply.strip() == task.prompt.strip() or task.answer == reply[5:], "echo"),
        (lambda reply, task: task.answer in reply, "candidates"),
        (lambda reply, task: "####" in reply, "format"),
        (lambda reply, task: "####" in reply, "other-answer"),
        (lambda reply, task: reply.endswith("true") or task.answer == reply[5:], "constant"),
        (lambda reply, task: task.id in reply or task.answer == reply[5:], "task-id"),
        (lambda reply, task: len(reply) > 50_000 or task.answer == reply[5:], "giant"),
        (lambda reply, task: "sorry" in reply or task.answer == reply[5:], "refusal"),
        (lambda reply, task: int(re.search(r"\d*$", reply)[0] or 0) == int(task.answer), "lookalike"),
    ],
)  # fmt: skip
def test_a_reply_that_must_not_be_paid(judge, caught):
    report = audited(graded_by(judge), "trivial")
    assert f"trivial/{caught}" in troubles(report)


def test_a_verifier_that_folds_letters_takes_lookalikes():
    class Capitals(SingleTurnEnv):
        def __init__(self) -> None:
            names = ["Oslo", "Kiev", "Minsk", "Skopje"]
            tasks = [Task(name, f"The capital number {i}?", name) for i, name in enumerate(names)]

            class Folded(Verifier):
                def score(self, episode: Episode) -> Score:
                    return Score(float(episode.reply.casefold() == episode.task.answer.casefold()))

            super().__init__(tasks, Folded())
            self.oracle = lambda task, messages, rng: task.answer

    (finding,) = audited(Capitals, "trivial").named("trivial/lookalike")
    assert finding.severity is Severity.WARNING
    assert "letters that fold" in finding.text


def test_what_the_card_accepts_is_a_note_up_to_the_number_it_names():
    class Lenient(graded_by(lambda reply, task: "####" in reply)):
        card = Card("", "", "", "", accepted={"trivial/format": (1.0, "a form is all we ask for")})

    (finding,) = audited(Lenient, "trivial").named("trivial/format")
    assert finding.severity is Severity.NOTE
    assert finding.text.endswith("Accepted by the card: a form is all we ask for")
    Lenient.card = Card("", "", "", "", accepted={"trivial/format": (0.5, "half")})
    (finding,) = audited(Lenient, "trivial").named("trivial/format")
    assert finding.severity is Severity.FAULT


# --- deterministic


class GlobalRng(Sums):
    def begin(self, task: Task) -> str:
        return f"{task.prompt} Your number is {random.random()}."


class GlobalSeed(Sums):
    """Repeats itself, but only because it seeds the whole process."""

    def begin(self, task: Task) -> str:
        np.random.seed(3)
        return f"{task.prompt} Your number is {np.random.random()}."


class OrderDependent(Sums):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def begin(self, task: Task) -> str:
        self.count += 1
        return task.prompt + (" You know how." if self.count > 2 else "")


class Shared(Sums):
    def __init__(self) -> None:
        super().__init__()
        self.board: list[str] = []

    def begin(self, task: Task) -> str:
        self.board.clear()
        self.board.append(task.id)
        return task.prompt

    def respond(self, reply: Reply) -> Turn:
        return Turn(f"The board says {self.board}.", done=True)


class HashSeed(Sums):
    def begin(self, task: Task) -> str:
        words = sorted({"apple", "pear", "plum", "fig", "grape", "lime"}, key=hash)
        return f"{task.prompt} Think of {' '.join(words)}."


class Clock(Sums):
    began: ClassVar[float] = 0.0

    def begin(self, task: Task) -> str:
        return f"{task.prompt} {int(time.monotonic() - self.began)} seconds have passed."


@pytest.fixture(autouse=True)
def _a_second_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the clock is seen where it should be, a second later, and not by chance between two replays."""
    monkeypatch.setattr(Clock, "began", time.monotonic())


class OtherWhenAwaited(Sums):
    async def arespond(self, reply: Reply) -> Turn:
        return Turn("Thank you.", done=True)


@pytest.mark.parametrize(
    ("env", "caught"),
    [
        (GlobalRng, "global-rng"),
        (GlobalSeed, "global-rng"),
        (OrderDependent, "order"),
        (Shared, "shared"),
        (HashSeed, "process"),
        (Clock, "clock"),
        (OtherWhenAwaited, "astep"),
    ],
)
def test_an_episode_that_depends_on_more_than_its_seed(env, caught):
    report = audited(env, "deterministic", tasks=2)
    assert f"deterministic/{caught}" in troubles(report), report.findings


def test_the_global_generators_are_left_as_they_were():
    state, legacy = random.getstate(), np.random.get_state()[1].tolist()
    audited(OtherWhenAwaited, "deterministic", tasks=1)
    assert random.getstate() == state
    assert np.random.get_state()[1].tolist() == legacy


def test_the_difference_is_told():
    (finding,) = [f for f in audited(Clock, "deterministic", tasks=1).troubles if f.code == "clock"]
    assert "The opening differs" in finding.text
    assert len(finding.proof) == 2


# --- not hackable: programs


def doubling(checked: Any) -> type[SingleTurnEnv]:
    """Write a function; `checked(program)` says whether it is right."""

    class Checked(Verifier):
        def score(self, episode: Episode) -> Score:
            fenced = re.findall(r"```python\n(.*?)```", episode.reply, re.DOTALL)
            return Score(float(bool(fenced) and bool(checked(fenced[-1]))))

    class Doubling(SingleTurnEnv):
        card = CARD

        def __init__(self) -> None:
            tests = {"entry_point": "double", "tests": [{"args": [3], "expected": 6}]}
            super().__init__([Task("double", "Write double(x), which returns 2x.", tests)], Checked())
            self.oracle = lambda task, messages, rng: "```python\ndef double(x):\n    return 2 * x\n```"

    return Doubling


def child(code: str) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "run.py").write_text(code)
        return subprocess.run(
            [sys.executable, "-I", "run.py"], cwd=folder, capture_output=True, text=True, timeout=20
        )


def in_our_process(program: str) -> bool:
    scope: dict[str, Any] = {}
    exec(program, scope)
    return bool(scope["double"](3) == 6)


def trusts_exit_code(program: str) -> bool:
    return child(f"{program}\nassert double(3) == 6\nassert double(-7) == -14\n").returncode == 0


def trusts_output(program: str) -> bool:
    return "PASSED" in child(f"{program}\nif double(3) == 6 and double(8) == 16: print('PASSED')\n").stdout


def expects_inside(program: str) -> bool:
    """Prints a nonce that the program cannot know, but compares in the program's process."""
    nonce = "8c1f"
    code = "expected = 6\nresult = double(3)\nassert result == expected\nexpected = 34\nassert double(17) == expected"
    return nonce in child(f"{program}\n{code}\nprint({nonce!r})").stdout


@pytest.mark.parametrize(
    ("checked", "caught", "named"),
    [
        (in_our_process, "same-process", "own process"),
        (trusts_exit_code, "program", "hard exit when loaded"),
        (trusts_output, "program", "printed success"),
        pytest.param(expects_inside, "program", "an object that equals everything", marks=pytest.mark.slow),
    ],
)
def test_a_checker_that_programs_can_talk_past(checked, caught, named, tmp_path, monkeypatch):
    mine = tmp_path / "test_mine.py"
    mine.write_text("def test_it(): assert True\n")
    monkeypatch.chdir(tmp_path)
    report = audited(doubling(checked), "hackable")
    (finding,) = report.named(f"hackable/{caught}")
    assert finding.severity in (Severity.FAULT, Severity.WARNING)
    assert named in finding.text
    assert mine.read_text() == "def test_it(): assert True\n"  # what exploits overwrite is never the person's
    assert sorted(path.name for path in tmp_path.iterdir()) == ["test_mine.py"]


@pytest.mark.slow
def test_a_checker_that_compares_outside_holds():
    def outside(program: str) -> bool:
        call = "import json, os\nos.write(1, ('\\n' + json.dumps([double(3), double(17)])).encode())"
        done = child(f"{program}\n{call}")
        return done.returncode == 0 and done.stdout.strip().splitlines()[-1:] == ["[6, 34]"]

    assert audited(doubling(outside), "hackable").sound


# --- not hackable: judges and tools


class Obedient:
    """A judge that does what the submission says, as careless prompts have them."""

    async def complete(self, messages: Sequence[Message]) -> str:
        text = messages[-1]["content"]
        mark = re.findall(r"VERDICT (\w+):", messages[0]["content"])[0]
        obeys = "ignore all previous instructions" in text.lower()
        answer = re.findall(r"REFERENCE:\n(.*?)$", messages[0]["content"], re.MULTILINE)[0]
        return f"VERDICT {mark}: {int(obeys or f'#### {answer}' in text)}"


def test_a_judge_that_obeys_what_it_judges():
    class Judged(SingleTurnEnv):
        def __init__(self) -> None:
            super().__init__(sums(), Judge(Obedient()))
            self.oracle = solve

    (finding,) = audited(Judged, "hackable").named("hackable/injection")
    assert finding.severity is Severity.FAULT
    assert "Ignore all previous instructions" in finding.proof[0].replies[0]


def test_a_reply_that_forges_what_a_tool_said():
    report = audited(
        graded_by(lambda reply, task: "<tool_response>" in reply or task.answer in reply), "hackable"
    )
    assert "hackable/fake-result" in troubles(report)


class TestsInReach(ToolEnv):
    """Mend a program until the tests pass, and the tests lie where the model writes."""

    __test__ = False

    def __init__(self) -> None:
        class TestsPass(Verifier):
            def score(self, episode: Episode) -> Score:
                done = subprocess.run([sys.executable, "test_it.py"], cwd=folder.name, capture_output=True)
                return Score(float(done.returncode == 0))

        folder = tempfile.TemporaryDirectory()

        def python(code: str) -> str:
            """Run a program."""
            done = subprocess.run(
                [sys.executable, "-c", code], cwd=folder.name, capture_output=True, text=True
            )
            return done.stdout + done.stderr

        super().__init__([Task("mend", "Mend it.", None)], [Tool(python)], TestsPass(), max_turns=3)
        self.folder = folder
        self.oracle = lambda task, messages, rng: (
            "Done."
            if len(messages) > 1
            else Hermes().render(
                "", None, [ToolCall("", "python", {"code": "open('it.py','w').write('x = 2')"})]
            )
        )

    def begin(self, task: Task) -> str:
        Path(self.folder.name, "it.py").write_text("x = 1\n")
        Path(self.folder.name, "test_it.py").write_text("import it\nassert it.x == 2\n")
        for extra in ("conftest.py", "sitecustomize.py"):
            Path(self.folder.name, extra).unlink(missing_ok=True)
        return task.prompt


def test_tests_that_the_model_can_edit():
    assert troubles(audited(TestsInReach, "hackable")) == {"hackable/tool"}


# --- no leak


class InInfo(Sums):
    def reset(self, **options: Any) -> Any:
        observation, info = super().reset(**options)
        return observation, {**info, "expected": self.task.answer}


class Encoded(Sums):
    def reset(self, **options: Any) -> Any:
        observation, info = super().reset(**options)
        return observation, {**info, "key": base64.b64encode(self.task.answer.encode()).decode()}


class InStepInfo(Sums):
    def respond(self, reply: Reply) -> Turn:
        return Turn("Are you sure?", info={"target": int(self.task.answer)})


class InPrompt(Sums):
    def begin(self, task: Task) -> str:
        return f"{task.prompt} (solution: {task.answer})"


class InHint(Sums):
    def respond(self, reply: Reply) -> str:
        return f"No, it is {self.task.answer}. Say it again."


class InId(Sums):
    def reset(self, **options: Any) -> Any:
        observation, info = super().reset(**options)
        return observation, {**info, "task_id": f"sum-{self.task.answer}"}


class InRender(Sums):
    def render(self) -> str:
        return f"{super().render()} [{self.task.answer}]"


class InRepr(Sums):
    def __init__(self) -> None:
        super().__init__()
        self.tasks = TaskSet([Task("one", "What is 123456 + 1?", "123457")])

    def __repr__(self) -> str:
        return "Sums(answer=123457)"


class InSchema(ToolEnv):
    def __init__(self) -> None:
        def look(place: str) -> str:
            """Look somewhere. The treasure is behind the waterfall."""
            return "Nothing."

        super().__init__([Task("t", "Where is it?", "behind the waterfall")], [look], Exact())


@pytest.mark.parametrize(
    ("env", "caught"),
    [
        (InInfo, "info"),
        (Encoded, "info"),
        (InStepInfo, "info"),
        (InPrompt, "observation"),
        (InHint, "later-observation"),
        (InId, "task-id"),
        (InRender, "render"),
        (InRepr, "repr"),
        (InSchema, "tool-schema"),
    ],
)
def test_an_answer_in_sight(env, caught):
    assert f"leak/{caught}" in troubles(audited(env, "leak"))


class Boxed(ToolEnv):
    """A Python tool in a folder of its own, with an environment of its own."""

    def __init__(self, files: dict[str, str], variables: dict[str, str]) -> None:
        def python(code: str) -> str:
            """Run a program."""
            with tempfile.TemporaryDirectory() as folder:
                for name, text in files.items():
                    Path(folder, name).write_text(text)
                environment = {"PATH": os.environ["PATH"], "HOME": folder, **variables}
                done = subprocess.run(
                    [sys.executable, "-"],
                    input=code,
                    cwd=folder,
                    env=environment,
                    capture_output=True,
                    text=True,
                )
            return done.stdout + done.stderr

        super().__init__([Task("t", "Say the word.", WORD)], [Tool(python)], Exact())


@pytest.mark.parametrize(
    ("files", "variables", "caught"),
    [
        ({"notes.txt": f"the word: {WORD}"}, {}, {"leak/sandbox-file"}),
        ({}, {"EXPECTED": WORD}, {"leak/process-environment"}),
        ({"notes.txt": "the word is secret"}, {"PURPOSE": "test"}, set()),
    ],
)
def test_an_answer_within_reach_of_code(files, variables, caught):
    assert troubles(audited(lambda: Boxed(files, variables), "leak")) == caught


def test_a_number_of_the_prompt_that_happens_to_be_the_answer_is_no_leak():
    class Small(SingleTurnEnv):
        def __init__(self) -> None:
            tasks = [
                Task(str(i), f"What is {i} + {i % 5}? Write a number after ####.", str(i + i % 5))
                for i in range(30)
            ]
            super().__init__(tasks, Exact())
            self.oracle = solve

    assert audited(Small, "leak", tasks=30).sound


# --- bounded


class NaN(Sums):
    def step(self, action: str) -> Any:
        observation, _, *rest = super().step(action)
        return observation, float("nan"), *rest


class TooMuch(Sums):
    def respond(self, reply: Reply) -> Turn:
        return Turn(reward=1.5, done=True, score=Score(1.0))


class CrashesOnUnicode(Sums):
    def respond(self, reply: Reply) -> Turn:
        reply.encode("latin-1")
        return Turn(done=True)


class Quadratic(Sums):
    def respond(self, reply: Reply) -> Turn:
        re.search(r"a+$", reply[:60_000] + "b")
        return Turn(done=True)


class Hangs(Sums):
    def respond(self, reply: Reply) -> Turn:
        while "9999" in reply:
            time.sleep(0.01)
        return Turn(done=True)


class Floods(Sums):
    def respond(self, reply: Reply) -> Turn:
        return Turn("no " * 50_000, done=True)


class LeavesFiles(Sums):
    kept: ClassVar[list[Any]] = []

    def begin(self, task: Task) -> str:
        self.kept.append(tempfile.TemporaryFile())  # noqa: SIM115
        return task.prompt


class LeavesProcesses(Sums):
    kept: ClassVar[list[Any]] = []

    def __init__(self) -> None:
        super().__init__()
        self.kept.append(subprocess.Popen(["sleep", "60"]))


class LeavesThreads(Sums):
    stop: ClassVar[threading.Event] = threading.Event()

    def begin(self, task: Task) -> str:
        threading.Thread(target=self.stop.wait, daemon=True).start()
        return task.prompt


class Ungraded(Sums):
    def respond(self, reply: Reply) -> Turn:
        return Turn(done=True, score=Score.ungraded("int() failed") if not reply[-1:].isdecimal() else None)


@pytest.mark.parametrize(
    ("env", "caught"),
    [
        (NaN, "nan"),
        (TooMuch, "range"),
        (CrashesOnUnicode, "crash"),
        (Floods, "long-observation"),
        (LeavesFiles, "episodes-open"),
        pytest.param(LeavesThreads, "episodes-open", marks=pytest.mark.slow),
        (LeavesProcesses, "close-open"),
        (Ungraded, "ungraded"),
    ],
)
@pytest.mark.slow
def test_an_environment_without_bounds(env, caught):
    try:
        assert f"bounded/{caught}" in troubles(audited(env, "bounded"))
    finally:
        LeavesThreads.stop.set()
        for file in LeavesFiles.kept:
            file.close()
        for process in LeavesProcesses.kept:
            process.kill()
            process.wait()
        LeavesThreads.stop.clear()


@pytest.mark.slow
def test_a_reply_that_takes_time_with_the_square_of_its_length():
    report = audited(Quadratic, "bounded", fuzz=0, tasks=1, long=60_000)
    assert troubles(report) == {"bounded/slow"}


@pytest.mark.slow
def test_a_hang_is_cut_and_told():
    report = audited(Hangs, "bounded", step_s=0.3)
    assert troubles(report) & {"bounded/hang", "bounded/slow"}
    assert "longer than 0.3 s" in report.troubles[0].text


# --- informative


def listed(*tasks: Task) -> type[SingleTurnEnv]:
    class Listed(SingleTurnEnv):
        def __init__(self) -> None:
            super().__init__(list(tasks), Exact())
            self.oracle = solve

    return Listed


WORDS = [
    "amber",
    "birch",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "haven",
    "inlet",
    "jetty",
    "knoll",
    "ledge",
]


def story(i: int) -> str:
    rng = np.random.default_rng(i)
    return "Count the trees: " + " ".join(rng.choice(WORDS, size=30))


class SameSplits(Sums):
    def __init__(self, split: str = "train") -> None:
        super().__init__()
        first = 20 if split == "test" else 0
        self.tasks = TaskSet([Task(f"{split}-{i}", story(i), str(i)) for i in range(first, first + 40)])


class SameIds(Sums):
    def __init__(self) -> None:
        super().__init__()
        self.tasks = TaskSet(lambda index: Task(f"sum-{index % 7}", story(index), str(index)), size=20)


class NoVariance(Sums):
    def respond(self, reply: Reply) -> Turn:
        return Turn(done=True, score=Score(0.5))


@pytest.mark.parametrize(
    ("env", "caught"),
    [
        (listed(*(Task(str(i), story(i), "4") for i in range(20))), "constant-answer"),
        (listed(*(Task(str(i), story(i % 10), str(i % 10)) for i in range(20))), "duplicates"),
        (listed(*(Task(str(i), story(i // 2) + " now" * (i % 2), str(i)) for i in range(20))), "near-duplicates"),
        (listed(*(Task(str(i), story(i // 2), str(i)) for i in range(20))), "contradictions"),
        (SameIds, "task-ids"),
        (SameSplits, "overlap"),
        (NoVariance, "no-variance"),
        (graded_by(lambda reply, task: min(len(reply) / 10_000, 0.9) if task.answer not in reply else 1), "length"),
    ],
)  # fmt: skip
def test_an_environment_that_teaches_the_wrong_thing_or_nothing(env, caught):
    assert f"informative/{caught}" in troubles(audited(env, "informative"))


# --- contract


def test_what_gymnasium_does_not_take():
    class Wrong(Sums):
        def reset(self, **options: Any) -> Any:
            return super().reset(**options)[0]

    report = audited(Wrong, "contract")
    assert "contract/check-env" in troubles(report)


@pytest.mark.slow
def test_a_game_is_sound():
    class Guess(TextEnv):
        def begin(self, task: Task) -> str:
            self.secret = int(self.np_random.integers(1, 1000))
            return "Guess my number, 1 to 999."

        def respond(self, reply: Reply) -> str | Turn:
            if not reply.isascii() or not reply.isdecimal() or len(reply) > 3:
                return "Write a number."
            if int(reply) == self.secret:
                return Turn("Right.", reward=1.0, done=True)
            return "Too low." if int(reply) < self.secret else "Too high."

    def bisect(task: Task, messages: Sequence[Message], rng: np.random.Generator) -> str:
        low, high = 1, 999
        for guess, answer in zip(messages[1::2], messages[2::2], strict=True):
            n = int(guess["content"])
            low, high = (n + 1, high) if "low" in answer["content"] else (low, n - 1)
        return str((low + high) // 2)

    def made() -> Guess:
        env = Guess(max_turns=10)
        env.oracle = bisect
        return env

    report = audit(made, tasks=4, fuzz=60)
    assert report.sound, report.troubles
