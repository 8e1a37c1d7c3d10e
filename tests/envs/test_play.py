"""`play`: a person is the policy. Each test types lines and reads the screen."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from quintain import play as play_module
from quintain.envs import ToolEnv, make
from quintain.play import play
from quintain.tools import UserError, tool
from quintain.verifiers import FinalNumber, Task


@pytest.fixture
def session(monkeypatch):
    def run(*lines: str, env_id: str = "quintain/Calculator-v0", **options):
        screen = io.StringIO()
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        score = play(env_id, options, seed=1, console=Console(file=screen, width=100))
        return score, screen.getvalue()

    return run


def problem() -> Task:
    env = make("quintain/Calculator-v0")
    env.reset(seed=1)
    assert env.task is not None
    return env.task


def test_the_problem_and_the_tools_are_shown(session):
    _, screen = session()
    assert problem().prompt[:40] in screen
    assert "/calculator EXPRESSION  Compute an arithmetic expression." in screen
    assert "expression (string)" in screen


def test_a_shorthand_is_a_tool_call_and_a_plain_line_a_reply(session):
    score, screen = session("/calculator 12*7", f"The answer is {problem().answer}.")
    assert "tool: calculator" in screen
    assert "84" in screen
    assert "Score 1" in screen
    assert score.value == 1.0


def test_a_call_may_be_written_in_full(session):
    _, screen = session('/calculator {"expression": "12*7"}', "0")
    assert "84" in screen
    _, screen = session(
        '<tool_call>{"name": "calculator", "arguments": {"expression": "12*7"}}</tool_call>', "0"
    )
    assert "84" in screen


def test_a_backslash_goes_on_in_the_next_line(session):
    score, _ = session("It is\\", f"{problem().answer}")
    assert score.value == 1.0


def test_a_wrong_answer_is_told_with_the_reason(session):
    score, screen = session("0")
    assert score.value == 0.0
    assert f"different: got 0, wanted {problem().answer}" in screen


def test_the_turn_limit_is_told(session):
    score, screen = session(*["/calculator 1+1"] * 5)
    assert "turn 5 of 5>" in screen
    assert "The turns are used up." in screen
    assert score.value == 0.0


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("/abacus 1", "There is no /abacus. You can type a reply, or /calculator, /task, /help, /quit."),
        ("/calculator", '/calculator needs expression: /calculator {"expression": "..."}'),
        ("/calculator {1", "That is not JSON"),
        ("/help", "Type your reply and press Enter."),
    ],
)
def test_what_is_no_reply_is_told_and_costs_no_turn(session, typed, said):
    _, screen = session(typed)
    assert said in screen
    assert "turn 2" not in screen


@pytest.mark.parametrize("lines", [[], ["/quit"], ["/calculator 1+1"]])
def test_leaving_gives_no_score(session, lines):
    score, screen = session(*lines)
    assert score is None
    assert "You left before the end" in screen


def test_ctrl_c_leaves_cleanly(monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    screen = io.StringIO()
    console = Console(file=screen, width=100)
    monkeypatch.setattr(console, "input", interrupt)
    assert play("quintain/GuessNumber-v0", console=console) is None
    assert "You left before the end" in screen.getvalue()


def test_a_number_argument_is_passed_as_a_number(session, monkeypatch):
    @tool
    def double(x: int) -> int:
        """Return twice x."""
        return 2 * x

    made = ToolEnv([Task("a", "Double [21]!", "42")], [double], FinalNumber())
    monkeypatch.setattr(play_module, "make", lambda env_id: made)
    _, screen = session("/double 21", "42")
    assert "Double [21]!" in screen
    assert "42" in screen


def test_an_unknown_environment_is_the_users_mistake(session):
    with pytest.raises(UserError, match="did you mean 'quintain/Calculator-v0'"):
        session(env_id="quintain/Calculater-v0")


def test_every_environment_can_be_played_to_its_end(env_case, monkeypatch):
    env_id, options = env_case
    screen = io.StringIO()
    monkeypatch.setattr("sys.stdin", io.StringIO("I do not know.\n" * 300))
    score = play(env_id, options, seed=1, console=Console(file=screen, width=100))
    assert score is not None
    assert "Score 0" in screen.getvalue()
