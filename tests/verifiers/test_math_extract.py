"""Which answer a reply gives: one place by a fixed order, hedging seen through, thinking left out."""

# ruff: noqa: E501 - rows of a table

from __future__ import annotations

import time

import pytest

from quintain.verifiers import MathAnswer, Task
from quintain.verifiers.math_extract import extract

REPLIES: list[tuple[str, str, bool]] = [
    # the last complete box counts
    ("21", "At first I wrote \\boxed{12}, but the digits were swapped. So it is \\boxed{21}.", True),
    ("12", "At first I wrote \\boxed{12}, but the digits were swapped. So it is \\boxed{21}.", False),
    ("12", "The answer is \\boxed{12}. Let me write it again: \\boxed{1", True),
    ("\\frac{1}{2}", "So \\boxed{\\frac{1}{2}}.", True),
    ("\\frac{1}{2}", "So $\\boxed{ \\dfrac{1}{2} }$ is the probability, out of 36 cases.", True),
    ("5", "\\boxed 5", True),
    ("5", "\\fbox{5}", True),
    ("7", "$$\\boxed{\\text{The answer is } 7}$$", True),
    ("7", "$\\boxed{x = 7}$ since $3 + 4 = 7$ and not 8", True),
    ("\\frac{14}{3}", "$f(-2)+f(-1)=\\frac{-8}{-4}+\\frac{5}{3}+1=\\boxed{\\frac{14}{3}}$", True),
    ("35\\%", "It is $\\boxed{35}\\%$.", True),
    ("90^\\circ", "$\\boxed{90}^\\circ$", True),
    ("3", "\\boxed{3}\n\n\\boxed{3}", True),
    ("10", "\\boxed{\\boxed{10}}", True),
    # several boxes are one list
    ("1, -2", "\\(\\boxed{1}\\) and \\(\\boxed{-2}\\).", True),
    ("1, 2, 3", "$\\boxed{1}$, $\\boxed{2}$, and $\\boxed{3}$", True),
    ("2", "$\\boxed{1}$ or $\\boxed{2}$", False),
    ("2", "$\\boxed{1}$, $\\boxed{2}$", False),
    ("2", "\\boxed{1}\\boxed{2}\\boxed{3}", False),
    ("2", "First \\boxed{1} is the smaller root. The larger root, which is wanted, is \\boxed{2}.", True),
    # thinking does not count
    ("5", "<think>maybe \\boxed{4}</think>\\boxed{5}", True),
    ("4", "<think>maybe \\boxed{4}</think>I am not sure.", False),
    ("4", "<think>it must be \\boxed{4}", False),
    ("5", "so \\boxed{4}?</think>It is \\boxed{5}", True),
    ("4", "<think>a</think> hm <think>\\boxed{4}</think>", False),
    # other places, in order
    ("7", "<answer>7</answer>", True),
    ("7", "I think <answer> $7$ </answer>", True),
    ("7", "<answer>8</answer> because 7", False),
    ("7", "5 and 2 make 7\n#### 7", True),
    ("7", "#### 8\nand 7", False),
    ("1234", "#### 1,234", True),
    ("34", "Final Answer: The largest $n$ is 34.", True),
    ("42", "The answer is 42.", True),
    ("42", "the answer is: 42", True),
    ("42", "**Answer:** 42", True),
    ("42", "**Answer: 42**", True),
    ("42", "Final answer: $42$", True),
    ("42", "**Final Answer**\n\n42", True),
    ("x+1", "The final answer is $x+1$.", True),
    ("x+2n+1", "Counting, there are 4 choices. The final answer is $x+1$.", False),
    ("5", "So the answer is 5 apples.", True),
    ("3.5", "The answer is 3.5. Check: 7/2.", True),
    ("8", "Hence the answer is therefore $\\frac{16}{2}$.", True),
    ("9", "Answer \\[ 9 \\]", True),
    ("9", "Answer $$ \n 9 \n $$", True),
    ("x \\ge 5", "Therefore $x \\geq 5$ is the solution.", True),
    ("3", "The roots are $1$ and $2$, so the sum is $3$", True),
    ("73", "Thus the number of residents is **73**.\n\n---\n\n✅ Final Answer: **73**", True),
    ("73", "Thus it comes to **73** in the end", True),
    ("42", "42 because geometry proves it", True),
    ("42", "First compute 6*7.\n42", True),
    ("42", "The perimeter is 7", False),
    ("1/2", "I get 1/2 for the chance of it", True),
    ("10", "There are 10 of them.", True),
    ("15", "She pays $15 for it", True),
    ("1000.99", "so the number is 10 which is 1,000.99m²", True),
    ("1000.99", "the number is not 10 which is 1,000.99€", True),
    ("28\\%", "$28$ %", True),
    ("28\\%", "28 pct", True),
    ("-\\frac{10}{9}", "-\\frac{10}{9}", True),
    ("1000", "1 000", True),
    ("2", "AZYUK2A", False),
    ("\\begin{pmatrix}0 & 0 \\\\0 & 0\\end{pmatrix}", "Here is a zero matrix: $ \\begin{pmatrix}0 & 0 \\\\0 & 0\\end{pmatrix} $", True),
    # hedging
    ("19", "It is one of 17, 18 or 19.", False),
    ("19", "It is 18 or 19.", False),
    ("19", "The answer is 18 or 19.", False),
    ("19", "The answer is 19 or 18.", False),
    ("19", "The answer is either 18 or 19.", False),
    ("19", "The answer is $18$ or $19$.", False),
    ("19", "The answer is 17, 18, 19.", False),
    ("19", "It could be 18, or maybe 19", False),
    ("19", "Either $18$ or $19$", False),
    ("19", "<answer>18 or 19</answer>", False),
    ("19", "<answer>18</answer><answer>19</answer>", True),
    ("19", "#### 18 or 19", False),
    ("19", "\\boxed{17, 18, 19}", False),
    # nothing there
    ("19", "", False),
    ("19", "   \n", False),
    ("19", "I cannot solve this.", False),
    ("19", "\\boxed{}", False),
    ("19", "It is 19, so \\boxed{}", False),
    # words
    ("\\text{Evelyn}", "The answer is Evelyn.", True),
    ("\\text{Evelyn}", "Carla was slow, so $\\boxed{\\text{Evelyn}}$ is our answer.", True),
    ("D", "The answer is (D).", True),
    ("D", "Therefore the correct option is (D)", True),
    ("D", "The answer is D", True),
    ("D", "The answer is D because C is wrong", False),
    ("D", "(C) or (D), so the answer is (C) or (D)", False),
    ("C", "\\(\\boxed{\\text{C}}\\)", True),
    ("yes", "Answer: Yes", True),
    ("yes", "no", False),
    # more of each
    ('5', 'Therefore, $x = 5$.', True),
    ('5', 'So x = 5.', True),
    ('5', 'Hence the answer: 5', True),
    ('5', 'Answer: $5$ apples', True),
    ('5', 'Thus, we have 5.', True),
    ('\\frac{1}{2}', 'The probability is 1/2.', True),
    ('\\frac{1}{2}', 'The probability is $\\frac{1}{2}$', True),
    ('\\frac{1}{2}', 'P = 1/2', True),
    ('12', 'The answer is twelve, i.e. 12.', True),
    ('12', 'The answer is not 12', False),
    ('12', 'The answer is 13. Actually, the answer is 12.', True),
    ('12', 'The answer is 12. Wait, the answer is 13.', False),
    ('12', '\\boxed{12} is wrong, \\boxed{13} is right', False),
    ('3', '$$x=3$$', True),
    ('3', '\\[x = 3\\]', True),
    ('3', '\\(3\\)', True),
    ('3', '**3**', True),
    ('3', '*3*', True),
    ('3', '`3`', True),
    ('3', '"3"', True),
    ('3', '3', True),
    ('3', ' 3\n', True),
    ('3', '3.', True),
    ('3', 'x=3', True),
    ('\\{1,2\\}', 'The solutions are $x=1$ and $x=2$.', True),
    ('\\{1,2\\}', 'The answer is $\\{1, 2\\}$.', True),
    ('1,2', 'The answers are 1 and 2.', True),
    ('1,2', 'The answer is 1, 2.', True),
    ('(1,2)', 'The point is $(1,2)$.', True),
    ('10', 'The answer is 10%.', False),
    ('10\\%', 'The answer is 10%.', True),
    ('10\\%', 'The answer is 0.1', True),
    ('50', 'The final answer is: $\\boxed{50}$. I hope it is correct.', True),
    ('50', '<answer>\\boxed{50}</answer>', True),
    ('50', '<answer>The answer is 50</answer>', True),
    ('50', '<answer>\n50\n</answer>', True),
    ('50', 'ANSWER: 50', True),
    ('50', 'Final Answer: 50 units', True),
    ('50', 'Final answer = 50', True),
    ('50', '#### $50', True),
    ('50', '#### 50.00', True),
    ('50', '#### 50 dollars', True),
    ('19', 'Possible answers: 17, 18, 19', False),
    ('19', '\\boxed{19} \\text{ or } \\boxed{20}', False),
    ('19', '$\\boxed{18}$ / $\\boxed{19}$', False),
    ('19', 'Either \\boxed{18} or \\boxed{19}.', False),
    ('19', '18? 19? 20?', False),
    ('19', '1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19', False),
    ('19', 'The answer is 19 (or 18).', False),
    ('19', 'Answer: {18, 19}', False),
    ('19', 'Answer: 18,19', False),
    ('B', 'The correct answer is B) 42.', True),
    ('B', '**B**', True),
    ('B', 'B', True),
    ('B', '(B)', True),
    ('B', 'The answer is option B.', True),
    ('B', 'I would say (B) is right, (C) is not', False),
    ('2x+1', 'f(x) = 2x+1', True),
    ('2x+1', '$2x + 1$', True),
    ('2x+1', 'The function is $y = 2x+1$.', True),
    ('x > 3', 'So $x > 3$.', True),
    ('x > 3', 'x must be greater than 3', False),
    ('[0,1]', 'The interval is [0,1].', True),
    ('[0,1]', 'Thus x is in $[0, 1]$.', True),
    ('7', 'Let me compute: 3+4 = 7', True),
    ('7', '3 + 4 = $7$', True),
    ('7', '3+4', True),
    ('7', '$3+4=7$', True),
    ('7', 'The sum of 3 and 4 is 7, which is prime.', True),
    ('7', '7 is the answer', True),
    ('7', '\\boxed{7}\\boxed{}', False),
    ('\\text{yes}', 'Yes, it is.', False),
    ('yes', 'The answer is yes.', True),
    ('yes', '**Yes**', True),
]  # fmt: skip


@pytest.mark.parametrize(
    ("gold", "reply", "right"), REPLIES, ids=[f"{g} | {r[:50]!a}" for g, r, _ in REPLIES]
)
def test_a_reply_is_judged_by_its_one_answer(gold: str, reply: str, right: bool) -> None:
    score = MathAnswer()(reply, Task("t", "", gold))
    assert score.graded
    assert bool(score.value) is right, score.reason


@pytest.mark.parametrize(
    ("reply", "text", "how"),
    [
        ("so \\boxed{1} and \\boxed{2}", "1, 2", "boxed"),
        ("\\boxed{1} or \\boxed{2}", "1 \\text{ or } 2", "boxed"),
        ("<answer> 5 </answer>", "5", "answer tag"),
        ("#### 5", "5", "####"),
        ("the answer is $5$.", "$5$", "answer is"),
        ("we see that $a=1$ gives $x=5$ as it should", "x=5", "formula"),
        ("it comes to **5** then", "5", "bold"),
        ("it comes to 5 then", "5", "number"),
        ("17, 18 or 19 it is", "17, 18, 19", "number"),
        ("it is not known", "", "missing"),
    ],
)
def test_the_place_of_the_answer_is_reported(reply: str, text: str, how: str) -> None:
    found = extract(reply)
    assert (found.text, found.how) == (text, how)


def test_only_a_box_counts_where_the_task_says_so() -> None:
    judge = MathAnswer(boxed_only=True)
    assert judge("the answer is 5", Task("t", "", "5")).reason.startswith("missing")
    assert judge("\\boxed{5}", Task("t", "", "5")).value == 1


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ("\\boxed{5}", "equal"),
        ("\\boxed{6}", "different"),
        ("\\boxed{5 \\text{ or } 6}", "hedged"),
        ("", "missing"),
        ("\\boxed{open('x')}", "unparsable"),
        ("\\boxed{2^{2^{2^{2^{2^{2}}}}}}", "too large"),
    ],
)
def test_the_reason_begins_with_the_status(reply: str, status: str) -> None:
    assert MathAnswer()(reply, Task("t", "", "5")).reason.startswith(status)


def test_the_reason_says_what_was_compared() -> None:
    score = MathAnswer()("\\boxed{12\\text{ cm}}", Task("t", "", "12\\text{ m}"))
    assert score.reason == "different (boxed): got (12*unit:cm), wanted (12*unit:m) (another unit: cm for m)"


@pytest.mark.parametrize(
    ("gold", "answer", "right"),
    [
        ("55", "\\sum_{k=1}^{10} k", True),
        ("56", "\\sum_{k=1}^{10} k", False),
        ("-2", "\\begin{vmatrix}1&2\\\\3&4\\end{vmatrix}", True),
        ("\\frac14", "\\int_0^1 x^3\\,dx", True),
        ("1", "\\lim_{x\\to0}\\frac{\\sin x}{x}", True),
    ],
)
def test_unfinished_work_counts_only_where_the_option_says_so(gold: str, answer: str, right: bool) -> None:
    task = Task("t", "", gold)
    assert MathAnswer()(f"\\boxed{{{answer}}}", task).value == 0
    assert bool(MathAnswer(unfinished=True)(f"\\boxed{{{answer}}}", task).value) is right


@pytest.mark.parametrize(
    ("options", "gold", "answer"),
    [
        ({"percent_as_number": True}, "50\\%", "50"),
        ({"percent_as_number": True}, "50", "50\\%"),
        ({"digits": 3}, "\\pi", "3.14"),
        ({"tolerance": 0.01}, "100", "100.5"),
        ({"units": False}, "12\\text{ m}", "12\\text{ cm}"),
    ],
)
def test_a_rule_can_be_relaxed(options: dict[str, bool | int | float], gold: str, answer: str) -> None:
    task = Task("t", "", gold)
    assert MathAnswer()(f"\\boxed{{{answer}}}", task).value == 0
    assert MathAnswer(**options)(f"\\boxed{{{answer}}}", task).value == 1  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "gold", "answer"),
    [({"require_units": True}, "12\\text{ m}", "12"), ({"ordered_lists": True}, "1, 2", "2, 1")],
)
def test_a_rule_can_be_tightened(options: dict[str, bool], gold: str, answer: str) -> None:
    task = Task("t", "", gold)
    assert MathAnswer()(f"\\boxed{{{answer}}}", task).value == 1
    assert MathAnswer(**options)(f"\\boxed{{{answer}}}", task).value == 0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "gold", ["", "  ", "\\frac{1}", "\\boxed{}", "x^", "\\unknown{3}^2", None, [1, 2], True]
)
def test_a_gold_that_cannot_be_read_is_refused_at_load(gold: object) -> None:
    with pytest.raises(ValueError, match="task 't7'"):
        MathAnswer().check(Task("t7", "", gold))


def test_a_giant_sum_without_spaces_takes_no_longer_than_it_is_long() -> None:
    started = time.process_time()
    assert MathAnswer()("1+" * 100_000 + "1", Task("t", "", "18")).value == 0
    assert time.process_time() - started < 5
