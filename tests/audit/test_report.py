"""The report, the command, and probes of one's own."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from importlib import metadata
from typing import Any

import numpy as np
import pytest

from quintain.cli import main
from quintain.envs import SingleTurnEnv, TextEnv, Turn, make
from quintain.envs.audit import Finding, Probe, Report, Severity, Subject, audit, built_in, weighed
from quintain.envs.audit.similar import near_pairs
from quintain.envs.audit.within import TookTooLong, within
from quintain.tools import UserError
from quintain.verifiers import Task, verifier

QUICK = ["--tasks", "2", "--fuzz", "10"]


@verifier
def contains(reply, task):
    return task.answer in reply


class Leaky(SingleTurnEnv):
    def __init__(self) -> None:
        super().__init__([Task(str(n), f"What is {n} squared?", str(n * n)) for n in range(31, 43)], contains)
        self.oracle = lambda task, messages, rng: task.answer


# --- the report


def test_the_same_seed_gives_the_same_report():
    options: dict[str, Any] = {"only": ["solvable", "trivial", "leak", "informative"], "tasks": 6}
    one, other = audit(Leaky, seed=3, **options), audit(Leaky, seed=3, **options)
    assert one == other
    assert one.findings
    assert audit(Leaky, seed=4, **options).settings != one.settings


def test_a_finding_is_named_proved_and_plain_data():
    report = audit(Leaky, only=["trivial"], tasks=4)
    (finding,) = report.named("trivial/candidates")
    assert (finding.probe, finding.code, finding.severity) == ("trivial", "candidates", Severity.FAULT)
    assert finding.measured == 1.0
    assert finding.proof[0].earned == 1.0
    assert "reward 1.0" in finding.proof[0].shown()
    data = json.loads(json.dumps(report.to_json()))
    assert data["environment"] == "Leaky"
    assert data["sound"] is False
    (found,) = [f for f in data["probes"][0]["findings"] if f["name"] == "trivial/candidates"]
    assert found["proof"][0]["steps"][0]["reward"] == 1.0


@pytest.mark.slow
def test_an_instance_travels_to_another_process():
    (outcome,) = audit(Leaky(), only=["deterministic"], tasks=2).outcomes
    assert outcome.verdict == "passed"


def test_an_instance_can_be_audited_and_stays_open():
    env = Leaky()
    observation, _ = env.reset(seed=1)
    report = audit(env, only=["solvable", "contract"], tasks=2)
    assert report.sound, report.troubles
    assert env.messages[0]["content"] == observation
    assert env.step("x")[2]


def test_notes_alone_are_sound_and_doubts_are_no_fault():
    note, doubt = (Finding("a", severity, "") for severity in (Severity.NOTE, Severity.CANNOT_TELL))
    report = Report("x", {}, ())
    assert report.sound
    outcome = dataclasses.replace(audit(Leaky, only=["solvable"], tasks=1).outcomes[0], findings=(note,))
    assert (outcome.verdict, Report("x", {}, (outcome,)).sound) == ("passed", True)
    outcome = dataclasses.replace(outcome, findings=(note, doubt))
    assert (outcome.verdict, Report("x", {}, (outcome,)).sound) == ("cannot tell", True)


@pytest.mark.parametrize(
    ("mean", "hits", "severity"),
    [
        (0.0, 0, None),
        (1.0, 1, Severity.NOTE),
        (0.05, 2, Severity.NOTE),
        (0.2, 2, Severity.WARNING),
        (0.5, 4, Severity.FAULT),
    ],
)
def test_one_hit_may_be_chance_half_of_all_is_a_fault(mean, hits, severity):
    assert weighed(mean, hits) is severity


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: audit("quintain/Countdwon-v0"), "did you mean 'quintain/Countdown-v0'"),
        (lambda: audit("quintain/Countdown-v0", kwargs={"number": 3}), "did you mean 'numbers'"),
        (lambda: audit(Leaky, only=["trivail"]), "did you mean 'trivial'"),
        (lambda: audit(Leaky, taks=3), "did you mean 'tasks'"),
        (lambda: audit(Leaky, tasks=0), "tasks must be a whole number of at least 1, got 0"),
        (lambda: audit(Leaky, step_s=0), "step_s must be a positive number of seconds, got 0"),
        (lambda: audit(Leaky, probes=[Leaky()]), "is no probe: it needs a `name`, a `promise` and `run"),
        (lambda: audit(Leaky, probes=[built_in()[0]]), "two probes are named 'contract'"),
        (lambda: audit(Leaky(), kwargs={"a": 1}), "kwargs are for an id or a maker"),
        (lambda: audit(3), "audit takes an id, a TextEnv or what makes one, got int"),
        (lambda: audit(lambda: 3), "makes a int, which is no TextEnv"),
        (lambda: audit(Leaky, only=["leak"], skip=["leak"]), "no probe is left to run"),
    ],
)
def test_a_mistake_is_told(call, said):
    with pytest.raises(UserError, match=said):
        call()


# --- probes of one's own


class Short:
    name = "short"
    promise = "prompts are short"

    def run(self, subject: Subject):
        played = subject.play((), subject.starts[0], turns=0)
        if len(played.opening) > 5:
            yield Finding("long", Severity.WARNING, "long", float(len(played.opening)), (played,))


class Endless:
    name = "endless"
    promise = "it ends"

    def run(self, subject: Subject):
        yield Finding("first", Severity.NOTE, "found before the time was up")
        while True:
            subject.play("x", subject.starts[0])


class Stuck:
    name = "stuck"
    promise = "it ends"

    def run(self, subject: Subject):
        time.sleep(60)
        yield Finding("never", Severity.NOTE, "")


class Broken:
    name = "broken"
    promise = "it works"

    def run(self, subject: Subject):
        raise KeyError("gone")


def test_a_probe_of_ones_own_runs_after_the_others():
    assert isinstance(Short(), Probe)
    report = audit(Leaky, probes=[Short()], only=["solvable", "short"], tasks=1)
    assert [outcome.probe for outcome in report.outcomes] == ["solvable", "short"]
    assert [finding.name for finding in report.troubles] == ["short/long"]


def test_a_probe_without_end_is_cut_and_keeps_what_it_found():
    began = time.monotonic()
    (outcome,) = audit(Leaky, probes=[Endless()], only=["endless"], probe_s=0.3).outcomes
    assert time.monotonic() - began < 30
    assert [finding.code for finding in outcome.findings] == ["time", "first"]
    assert outcome.verdict == "cannot tell"


@pytest.mark.slow
def test_a_probe_that_is_stuck_is_cut():
    (outcome,) = audit(Leaky, probes=[Stuck()], only=["stuck"], probe_s=0.1).outcomes
    assert outcome.findings[0].code == "time"


def test_a_broken_probe_is_told_and_the_others_run():
    report = audit(Leaky, probes=[Broken(), Short()], only=["broken", "short"])
    assert "KeyError: 'gone'" in report.named("broken/failed")[0].text
    assert report.named("short/long")


def test_probes_of_other_packages_are_found(monkeypatch):
    point = metadata.EntryPoint("short", f"{__name__}:Short", "quintain.probes")
    monkeypatch.setattr(metadata.EntryPoint, "load", lambda self: Short)
    monkeypatch.setattr(metadata, "entry_points", lambda group: [point] if group == "quintain.probes" else [])
    assert audit(Leaky, only=["short"]).named("short/long")


# --- what probes stand on


def test_a_call_is_cut_in_any_thread():
    def spin():
        while True:
            pass

    with pytest.raises(TookTooLong):
        within(0.05, spin)
    with pytest.raises(TookTooLong):
        within(0.05, time.sleep, 5)
    caught: list[BaseException] = []

    def elsewhere():
        try:
            within(0.05, spin)
        except TookTooLong as error:
            caught.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(5)
    assert len(caught) == 1


def test_the_outer_limit_holds_while_an_inner_call_runs():
    def inner():
        for _ in range(1000):
            within(5, time.sleep, 0.05)

    began = time.monotonic()
    with pytest.raises(TookTooLong):
        within(0.2, inner)
    assert time.monotonic() - began < 25  # not the fifty seconds of the whole


@pytest.mark.slow
def test_what_an_environment_does_is_in_the_episode_not_raised():
    class Rude(TextEnv):
        def begin(self, task: Task) -> str:
            return "Yes?"

        def respond(self, reply: Any) -> Turn:
            raise SystemExit(0)

    report = audit(Rude, only=["bounded"], tasks=1, fuzz=1, long=10)
    assert "SystemExit" in report.named("bounded/crash")[0].text


def test_near_copies_are_found_among_tasks_of_one_form():
    form = "Read the story and answer the question below it with one word. Story: "
    rng = np.random.default_rng(0)
    texts = [form + " ".join(f"w{n}" for n in rng.integers(1000, size=40)) for _ in range(12)]
    assert near_pairs(texts, 0.8) == []
    assert [(i, j) for i, j, _ in near_pairs([*texts, texts[2] + " today"], 0.8)] == [(2, 12)]


# --- the command


def test_a_sound_environment_exits_with_0(capsys):
    assert (
        main(
            [
                "audit",
                "quintain/Countdown-v0",
                "numbers=3",
                *QUICK,
                "--skip",
                "deterministic",
                "--skip",
                "bounded",
            ]
        )
        == 0
    )
    out = capsys.readouterr().out
    assert "passed      solvable" in out
    assert "quintain/Countdown-v0: sound" in out


@pytest.fixture
def leaky(monkeypatch):
    monkeypatch.setattr("quintain.envs.audit.run.make", lambda env_id, **kwargs: Leaky())
    return ["audit", "quintain/Countdown-v0", *QUICK, "--tasks", "4", "--probe", "trivial"]


def test_findings_exit_with_1_and_show_the_episode(leaky, capsys):
    assert main(leaky) == 1
    out = capsys.readouterr().out
    assert "fault" in out
    assert "trivial/candidates" in out
    assert "--- trivial/candidates" in out
    assert "-> reward 1.0" in out
    assert "not sound" in out


def test_json_to_standard_output_is_alone_there(leaky, capsys):
    assert main([*leaky, "--json", "-"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["sound"] is False
    assert "trivial/candidates" in captured.err


def test_json_and_transcripts_to_files(leaky, tmp_path, capsys):
    out = tmp_path / "report.json"
    folder = tmp_path / "proofs" / "here"
    assert main([*leaky, "--json", str(out), "--transcripts", str(folder), "--show", "0"]) == 1
    assert json.loads(out.read_text())["probes"][0]["probe"] == "trivial"
    proof = json.loads((folder / "trivial-candidates-1.json").read_text())
    assert proof["finding"] == "trivial/candidates"
    assert proof["steps"][0]["reward"] == 1.0
    assert "---" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["audit"], "which environment?"),
        (["audit", "quintain/Nothing-v0"], "there is no environment 'quintain/Nothing-v0'"),
        (["audit", "quintain/Countdown-v0", "three"], "expected an option of the environment"),
        (["audit", "quintain/Countdown-v0", "--probe", "leek"], "did you mean 'leak'"),
        (["audit", "quintain/Countdown-v0", "--tasks", "0"], "tasks must be a whole number"),
        (["audit", "quintain/Countdown-v0", "--json", "no/such/folder/x.json"], "there is no folder"),
        (["audit", "quintain/Countdown-v0", "--transcripts", __file__], "there is a file of that name"),
    ],
)
def test_a_mistake_in_the_command_exits_with_2(arguments, said, capsys):
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def test_ctrl_c_exits_with_130(monkeypatch, capsys):
    def interrupted(self, subject):
        raise KeyboardInterrupt

    monkeypatch.setattr("quintain.envs.audit.solvable.Solvable.run", interrupted)
    assert main(["audit", "quintain/Countdown-v0", *QUICK]) == 130


def test_the_probes_are_listed(capsys):
    assert main(["audit", "--probes"]) == 0
    out = capsys.readouterr().out
    assert all(probe.name in out for probe in built_in())


def test_the_environment_of_an_id_is_the_one_that_make_makes():
    report = audit("quintain/Countdown-v0", kwargs={"numbers": 2}, only=["solvable"], tasks=2)
    assert report.settings["kwargs"] == {"numbers": 2}
    assert make("quintain/Countdown-v0", numbers=2).oracle is not None
