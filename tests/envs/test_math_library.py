"""The mathematics of the library: sound problems by composition, rows of competition problems, a Countdown solver."""

from __future__ import annotations

import json
import re
from fractions import Fraction

import numpy as np
import pytest

from quintain.envs import make
from quintain.envs.library.countdown import solve
from quintain.tools import UserError
from quintain.tools.calculator import evaluate

STEPS = [(1, 1, 0), (1, 3, 0), (2, 2, 2), (3, 3, 1), (4, 4, 0), (5, 5, 3)]


def problems(minimum: int, maximum: int, distractors: int, **options: object):
    options |= {"min_steps": minimum, "max_steps": maximum, "distractors": distractors}
    return make("quintain/WordProblems-v0", **options)


def answered(env, index: int, reply: str) -> float:
    env.reset(options={"task": index})
    return env.step(reply)[1]


# --- word problems


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_oracle_solves_every_problem(steps, split):
    env = problems(*steps, split=split)
    rng = np.random.default_rng(0)
    assert all(answered(env, i, env.oracle(env.tasks[i], [], rng)) == 1.0 for i in range(100))


@pytest.mark.parametrize("steps", STEPS)
def test_the_work_is_right_and_has_as_many_steps_as_asked(steps):
    env = problems(*steps)
    for index in range(200):
        task = env.tasks[index]
        assert steps[0] <= len(task.info["work"]) <= steps[1]
        for line in task.info["work"]:
            formula, _, result = line.partition(" = ")
            assert evaluate(formula) == Fraction(result) > 0
        assert task.answer == task.info["work"][-1].partition(" = ")[2]


@pytest.mark.parametrize("steps", STEPS)
def test_the_answer_is_not_in_the_text_nor_on_the_way_nor_a_usual_guess(steps):
    env = problems(*steps)
    for index in range(200):
        task = env.tasks[index]
        numbers = {Fraction(number) for number in re.findall(r"\d+(?:\.\d+)?", task.prompt)}
        earlier = {Fraction(line.partition(" = ")[2]) for line in task.info["work"][:-1]}
        answer = Fraction(task.answer)
        assert answer not in numbers | earlier
        assert answer > 10
        assert answer not in {42, 50, 100, 1000}


def test_every_number_of_the_work_is_told():
    env = problems(1, 5, 0)
    words = {"half": 2, "third": 3, "quarter": 4, "fifth": 5}
    for index in range(300):
        task = env.tasks[index]
        told = {Fraction(number) for number in re.findall(r"\d+(?:\.\d+)?", task.prompt)}
        told |= {Fraction(value) for word, value in words.items() if word in task.prompt}
        told |= {number / 100 for number in told}
        known = set(told)
        for line in task.info["work"]:
            left, _, right, _, result = line.split()
            assert {Fraction(left), Fraction(right)} <= known
            known.add(Fraction(result))


def test_texts_are_as_many_as_problems():
    env = problems(3, 3, 1)
    prompts = [env.tasks[index].prompt for index in range(1000)]
    skeletons = {re.sub(r"\d+(?:\.\d+)?", "N", prompt) for prompt in prompts}
    assert len(set(prompts)) == 1000
    assert len(skeletons) > 990


def test_distractors_are_sentences_more():
    for index in range(100):
        plain, more = (
            problems(2, 2, count).tasks[index].prompt.count(".") for count in (0, 3)
        )  # decimals have points too
        assert more > plain - 4
    assert "choir" in " ".join(problems(2, 2, 3).tasks[index].prompt for index in range(50))


def test_no_problem_of_the_test_split_has_the_numbers_of_one_of_training():
    def numbers(split: str, seed: int) -> set[tuple[str, ...]]:
        env = problems(1, 2, 0, split=split, seed=seed)
        return {tuple(sorted(re.findall(r"\d+(?:\.\d+)?", env.tasks[index].prompt))) for index in range(500)}

    # a fraction ("half") is a number that is told in words, so compare the texts that have none
    assert not {n for n in numbers("train", 0) if len(n) > 1} & {n for n in numbers("test", 1) if len(n) > 1}


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "0",
        "42",
        "100",
        "I do not know.",
        "#### ",
        "\\boxed{}",
        " ".join(map(str, range(1, 1001))),
        "１２",
        "ten",
        "9" * 9999,
    ],
)
def test_a_constant_earns_nothing(reply):
    env = problems(1, 3, 1)
    assert all(answered(env, index, reply) == 0.0 for index in range(100))


def test_echo_copying_and_stopping_early_earn_nothing():
    env = problems(2, 3, 1)
    for index in range(100):
        observation, _ = env.reset(options={"task": index})
        assert env.step(observation)[1] == 0.0
        for number in re.findall(r"\d+(?:\.\d+)?", observation):
            assert answered(env, index, number) == 0.0
        for line in env.tasks[index].info["work"][:-1]:
            assert answered(env, index, f"#### {line.partition(' = ')[2]}") == 0.0


def test_the_sloppy_demonstrator_is_right_more_often_than_not():
    env = problems(1, 3, 0)
    rng = np.random.default_rng(0)
    share = np.mean([answered(env, i, env.demonstrator(env.tasks[i], [], rng)) for i in range(500)])
    assert 0.7 < share < 0.85


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_steps": 6}, "1 <= min_steps <= max_steps <= 5, got 1 and 6"),
        ({"min_steps": 4}, "got 4 and 3"),
        ({"distractors": 4}, "distractors must be 0 to 3, got 4"),
        ({"split": "valid"}, "split must be 'train' or 'test', got 'valid'"),
    ],
)
def test_wrong_options_of_word_problems_are_named(options, said):
    with pytest.raises(UserError, match=said):
        make("quintain/WordProblems-v0", **options)


# --- Countdown


@pytest.mark.parametrize("numbers", [2, 3, 4])
def test_the_solver_finds_an_expression_without_being_told(numbers):
    env = make("quintain/Countdown-v0", numbers=numbers)
    for index in range(10):
        answer = env.tasks[index].answer
        assert answered(env, index, f"<answer>{solve(answer['numbers'], answer['target'])}</answer>") == 1.0


def test_the_solver_says_when_there_is_none():
    assert solve([2, 3], 7) is None
    assert solve([1, 1, 1], 100) is None


def test_countdown_splits_share_no_problem():
    def keys(split: str) -> set[tuple[int, ...]]:
        tasks = make("quintain/Countdown-v0", numbers=2, split=split).tasks
        return {(*sorted(a["numbers"]), a["target"]) for a in (tasks[i].answer for i in range(400))}

    assert not keys("train") & keys("test")


# --- rows of competition mathematics

ROWS = [
    {"problem": "Half of one?", "answer": "\\frac{1}{2}", "level": "Level 1", "type": "Prealgebra"},
    {
        "problem": "Solve $x^2=4$.",
        "solution": "Either $x=2$ or $x=-2$: \\boxed{2,-2}.",
        "level": 5,
        "subject": "Algebra",
    },
    {
        "problem": "What is $x$ if $x = 7$?",
        "solution": "First \\boxed{6}, no. It is $\\boxed{7}$.",
        "level": "Level 5",
        "type": "Algebra",
    },
    {"problem": "The point?", "answer": "(1, 2)", "level": "3", "subject": "Geometry"},
]


@pytest.fixture
def rows(tmp_path):
    def written(rows: list[dict[str, object]] = ROWS) -> str:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return written


def test_gold_is_the_answer_or_the_last_box_of_the_solution(rows):
    tasks = make("quintain/MathRows-v0", path=rows()).tasks
    assert [task.answer for task in tasks] == ["\\frac{1}{2}", "2,-2", "7", "(1, 2)"]


@pytest.mark.parametrize(
    ("index", "reply", "value"),
    [
        (0, "\\boxed{0.5}", 1.0),
        (0, "\\boxed{1/2} it is", 1.0),
        (0, "It is 0.5.", 0.0),  # not in the box
        (0, "\\boxed{0.5} or \\boxed{0.6}", 0.0),
        (0, "<think>\\boxed{0.5}</think>", 0.0),
        (0, "\\boxed{}", 0.0),
        (1, "\\boxed{-2, 2}", 1.0),
        (1, "\\boxed{2}", 0.0),
        (2, "\\boxed{7}", 1.0),
        (2, "What is $x$ if $x = 7$?", 0.0),  # an echo
        (3, "\\boxed{(1,2)}", 1.0),
        (3, "\\boxed{(2,1)}", 0.0),
        (3, "\\boxed{(1,2), (2,1), (1,1), (2,2)}", 0.0),
    ],
)
def test_the_box_is_compared_as_mathematics(rows, index, reply, value):
    assert answered(make("quintain/MathRows-v0", path=rows()), index, reply) == value


def test_an_answer_without_a_box_counts_on_request(rows):
    assert answered(make("quintain/MathRows-v0", path=rows(), boxed_only=False), 0, "It is 0.5.") == 1.0


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ({"levels": [5]}, [2, 3]),
        ({"levels": ["Level 1", 3]}, [1, 4]),
        ({"subjects": ["algebra"]}, [2, 3]),
        ({"levels": [5], "limit": 1}, [2]),
        ({"limit": 3}, [1, 2, 3]),
    ],
)
def test_rows_are_kept_by_level_and_subject(rows, options, numbers):
    tasks = make("quintain/MathRows-v0", path=rows(), **options).tasks
    assert [task.id for task in tasks] == [f"rows-{number}" for number in numbers]


def test_the_level_is_the_tag_of_the_metrics(rows):
    tasks = make("quintain/MathRows-v0", path=rows()).tasks
    assert [task.info["tag"] for task in tasks] == ["level 1", "level 5", "level 5", "level 3"]


@pytest.mark.parametrize(
    ("row", "options", "said"),
    [
        (
            {"problem": "?", "level": 1},
            {},
            "row 5: .* needs the field 'answer' or 'solution', and has: problem, level",
        ),
        ({"problem": "?", "solution": "It is 7."}, {}, "row 5: .*'solution' holds no .*boxed"),
        ({"answer": "7"}, {}, "row 5 has no field 'problem'"),
        ({"problem": "?", "answer": ""}, {}, "row 5"),
        (ROWS[0], {"levels": [4]}, "no row has the level '4'; the choices are: 1, 3, 5"),
        (ROWS[0], {"subjects": ["algebr"]}, "did you mean 'algebra'"),
        (ROWS[0], {"limit": 0}, "limit must be at least 1, got 0"),
        (ROWS[0], {"path": "nowhere.jsonl"}, "there is no file 'nowhere.jsonl'"),
    ],
)
def test_wrong_rows_and_options_are_named(rows, row, options, said):
    with pytest.raises(UserError, match=said):
        make("quintain/MathRows-v0", **{"path": rows([*ROWS, row]), **options})


def test_the_oracle_solves_every_row(rows):
    env = make("quintain/MathRows-v0", path=rows())
    rng = np.random.default_rng(0)
    assert all(answered(env, i, env.oracle(env.tasks[i], [], rng)) == 1.0 for i in range(4))


def test_every_public_gold_answer_is_accepted_in_its_own_box(data_dir, rows):
    lines = (data_dir / "math_verify_public.jsonl").read_text().splitlines()
    golds = sorted({json.loads(line)["gold"] for line in lines})
    made = [{"problem": f"Number {i}?", "answer": gold} for i, gold in enumerate(golds)]
    env = make("quintain/MathRows-v0", path=rows(made))
    rng = np.random.default_rng(0)
    wrong = [g for i, g in enumerate(golds) if answered(env, i, env.oracle(env.tasks[i], [], rng)) != 1.0]
    assert wrong == []
