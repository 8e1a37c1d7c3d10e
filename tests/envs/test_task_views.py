"""Sets made of sets: filter, split, shuffle, take, concat; streams; all lazy, on endless sets too."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest

from quintain.envs import SingleTurnEnv, TaskSet, TextEnv
from quintain.tools import UserError
from quintain.verifiers import FinalNumber, Task


def numbers(count: int, name: str = "n") -> TaskSet:
    return TaskSet([Task(f"{name}{i}", f"{i}", i, {"difficulty": i % 3}) for i in range(count)], name=name)


class Counted:
    """An endless set that remembers which tasks were made."""

    def __init__(self):
        self.made = []
        self.tasks = TaskSet.generated(self.make, name="count")

    def make(self, rng, index):
        self.made.append(index)
        return Task("", f"{index}", index, {"difficulty": index % 3})


def prompts(tasks: TaskSet, count: int | None = None) -> list[str]:
    return [task.prompt for task in itertools.islice(tasks, count)]


def even(task: Task) -> bool:
    return int(task.prompt) % 2 == 0


# --- each operation on a list


def test_filter_keeps_the_order():
    tasks = numbers(7).filter(even)
    assert prompts(tasks) == ["0", "2", "4", "6"]
    assert (tasks.size, len(tasks), tasks[3].prompt) == (4, 4, "6")
    with pytest.raises(IndexError, match="there is no task 4 in n, filtered: the indices are 0 to 3"):
        tasks[4]


def test_take_is_the_first_or_all():
    assert prompts(numbers(5).take(2)) == ["0", "1"]
    assert numbers(5).take(9).size == 5


def test_shuffle_follows_from_its_seed_alone():
    one, other = numbers(20).shuffle(seed=1), numbers(20).shuffle(seed=1)
    assert prompts(one) == prompts(other) != prompts(numbers(20).shuffle(seed=2))
    assert sorted(prompts(one), key=int) == prompts(numbers(20))


def test_concat_and_plus():
    tasks = numbers(2, "a") + numbers(1, "b") + numbers(2, "c")
    assert [task.id for task in tasks] == ["a0", "a1", "b0", "c0", "c1"]
    assert (tasks.size, tasks[2].id) == (5, "b0")
    assert [task.id for task in numbers(1, "a").concat(numbers(1, "b"), numbers(1, "c"))] == [
        "a0",
        "b0",
        "c0",
    ]


def test_split_is_disjoint_and_whole_and_about_as_large_as_asked():
    train, dev, test = numbers(2000).split(0.8, 0.1)
    parts = [{task.id for task in part} for part in (train, dev, test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 2000
    assert 1540 < len(parts[0]) < 1660
    assert 150 < len(parts[1]) < 250
    assert len(numbers(100).split(0.5, 0.5)) == 2
    assert len(numbers(100).split(0.1, 0.2, 0.7)) == 3


def test_where_a_task_falls_does_not_depend_on_the_others():
    few, many = numbers(100).split(0.7)[0], numbers(1000).shuffle(3).split(0.7)[0]
    assert {task.id for task in few} == {task.id for task in many} & {f"n{i}" for i in range(100)}
    assert prompts(numbers(100).split(0.5, seed=1)[0]) != prompts(numbers(100).split(0.5, seed=2)[0])


def test_a_split_by_content_keeps_equal_prompts_together():
    twins = TaskSet([Task(f"{i}", f"{i % 50}") for i in range(500)])
    train, test = twins.split(0.6, by=lambda task: task.prompt)
    assert not set(prompts(train)) & set(prompts(test))


def test_operations_compose():
    tasks = (numbers(10, "a") + numbers(10, "b")).filter(even).shuffle(4).take(6)
    assert tasks.size == 6
    assert all(even(task) for task in tasks)
    assert len({task.id for task in tasks}) == 6
    assert repr(tasks) == "TaskSet('a + b, filtered, shuffled, the first 6', size=lazy)"


def test_an_environment_takes_them():
    train, test = numbers(50).split(0.8)
    for part in (train, test):
        env = SingleTurnEnv(part, FinalNumber())
        seen = {env.reset(seed=seed)[1]["task_id"] for seed in range(200)}
        assert seen == {task.id for task in part}


# --- laziness, and sets without an end


def test_nothing_is_made_before_it_is_asked_for():
    counted = Counted()
    train, _ = counted.tasks.split(0.5)
    view = (numbers(2) + train.filter(even)).take(4)
    assert counted.made == []
    assert view.size == 4
    assert counted.made == []
    first = view[2]
    assert counted.made[-1] == int(first.prompt)
    assert max(counted.made) < 40


def test_an_endless_set_can_be_filtered_split_and_taken():
    endless = Counted().tasks
    assert prompts(endless.filter(even), 4) == ["0", "2", "4", "6"]
    assert prompts(endless.filter(even).take(3)) == ["0", "2", "4"]
    assert prompts(endless.filter(even).filter(lambda task: int(task.prompt) % 3 == 0), 3) == ["0", "6", "12"]
    train, test = endless.split(0.9)
    assert (train.size, train.span) == (None, 2**31)
    assert not set(prompts(train, 200)) & set(prompts(test, 200))
    last = numbers(2) + endless
    assert (last.size, last[2].prompt) == (None, "0")


def test_any_index_of_a_filtered_endless_set_is_found_at_once_and_is_its_own():
    counted = Counted()
    tasks = counted.tasks.filter(even)
    far = [tasks[i].prompt for i in (2**31 - 1, 2**31 - 2, 100_000, 12_345_678)]
    assert len(set(far)) == 4
    assert len(counted.made) < 20
    drawn = {tasks.draw(np.random.default_rng(seed)).prompt for seed in range(50)}
    assert len(drawn) == 50
    assert all(int(prompt) % 2 == 0 for prompt in drawn)


def test_the_same_index_gives_the_same_task_whatever_was_asked_before():
    one, other = Counted().tasks.filter(even), Counted().tasks.filter(even)
    assert (one[7], one[2], one[5]) == tuple(prompts_of(other, 7, 2, 5))


def prompts_of(tasks: TaskSet, *indices: int) -> list[Task]:
    return [tasks[i] for i in indices]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            lambda: Counted().tasks.shuffle(),
            r"count-train has no known end, it cannot be shuffled: use `take\(n\)`",
        ),
        (
            lambda: Counted().tasks.concat(numbers(1)),
            "count-train has no known end, it cannot be put before others",
        ),
        (lambda: Counted().tasks.by_difficulty(), "it cannot be sorted by difficulty"),
        (lambda: Counted().tasks.filter(lambda task: False)[0], "none of 10000 tasks in a row is accepted"),
        (
            lambda: numbers(3).filter(lambda task: False).draw(np.random.default_rng(0)),
            "filtered holds no tasks",
        ),
        (
            lambda: SingleTurnEnv(numbers(3).filter(lambda task: False), FinalNumber()),
            "filtered holds no tasks",
        ),
        (
            lambda: list(numbers(3).filter(lambda task: task.info["x"])),
            "n: the filter failed on the task 'n0': KeyError",
        ),
        (lambda: numbers(3).take(0), "n: take needs at least 1, got 0"),
        (lambda: numbers(3).split(), "shares must lie between 0 and 1"),
        (lambda: numbers(3).split(0.6, 0.6), r"sum to at most 1, got \(0.6, 0.6\)"),
        (lambda: numbers(3).split(80), r"write, for example, `train, test = tasks.split\(0.9\)`"),
    ],
)
def test_what_cannot_be_is_told(wrong, said):
    with pytest.raises(UserError, match=said):
        wrong()


# --- ids


@pytest.mark.parametrize(
    "make",
    [
        lambda: TaskSet([Task("a", "1"), Task("b", "2"), Task("a", "3")]),
        lambda: TaskSet.from_rows(
            [{"prompt": f"{i}", "answer": i, "key": "aba"[i]} for i in range(3)], id="key", name="tasks"
        ),
        lambda: list(TaskSet(iter([Task("a", "1"), Task("b", "2"), Task("a", "3")]))),
    ],
)
def test_an_id_that_comes_twice_is_refused(make):
    with pytest.raises(
        UserError, match="tasks: the tasks 0 and 2 have the same id 'a'; an id names one task"
    ):
        make()


def test_sets_with_a_common_id_are_not_put_together():
    with pytest.raises(UserError, match=r"n \+ n: the tasks 0 and 2 have the same id 'n0'"):
        numbers(2) + numbers(3)
    with pytest.raises(UserError, match="have the same id 'n0'"):
        TextEnv(tasks=numbers(2).filter(even) + numbers(3))


def test_what_is_no_task_is_refused():
    with pytest.raises(
        UserError, match=r"tasks: item 1 is no Task, got dict; write `Task\(id, prompt, answer\)`"
    ):
        TaskSet([Task("a", "1"), {"prompt": "2"}])
    with pytest.raises(UserError, match="tasks: item 2 is no Task, got str"):
        TaskSet(iter([Task("a", "1"), "2"]))[1]


# --- streams


def test_a_generator_is_read_as_far_as_it_is_asked_for():
    came = []

    def problems():
        for i in itertools.count():
            came.append(i)
            yield Task(f"{i}", f"{i}", i)

    tasks = TaskSet.from_stream(problems, window=10)
    assert (tasks.size, came) == (None, [])
    assert (tasks[3].id, tasks[1].id, len(came)) == ("3", "1", 4)
    assert {tasks.draw(np.random.default_rng(i)).id for i in range(200)} == {str(i) for i in range(10)}
    assert len(came) == 10
    assert prompts(tasks.filter(even).take(3)) == ["0", "2", "4"]
    assert TaskSet(problems())[2].id == "2"


def test_a_stream_of_rows_names_the_bad_one():
    rows = ({"q": f"{i}+1?", "a": i + 1} if i != 2 else {"q": "no answer"} for i in itertools.count())
    tasks = TaskSet.from_stream(rows, name="sums", prompt="q", answer="a")
    assert tasks[1] == Task("sums-2", "1+1?", 2)
    with pytest.raises(UserError, match="sums, row 3 has no field 'a' for the answer; it has: q"):
        tasks[2]


def test_a_stream_may_end():
    tasks = TaskSet.from_stream([Task("a", "1"), Task("b", "2")])
    assert [task.id for task in tasks] == ["a", "b"]
    assert (tasks.size, tasks.span, tasks.take(5).size) == (None, 2, 2)
    with pytest.raises(IndexError):
        tasks[2]
    with pytest.raises(UserError, match="holds no tasks"):
        TaskSet.from_stream([]).draw(np.random.default_rng(0))


def test_a_hub_data_set_can_be_streamed(monkeypatch):
    class Datasets:
        @staticmethod
        def load_dataset(*args, streaming, **kwargs):
            return ({"prompt": f"{i}", "answer": i} for i in itertools.count(1))

    monkeypatch.setitem(sys.modules, "datasets", Datasets)
    tasks = TaskSet.from_hub("org/endless", streaming=True)
    assert tasks[1] == Task("org-endless-2", "2", 2)
    assert len(list(TaskSet.from_hub("org/endless", streaming=True, limit=3))) == 3


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: TaskSet.from_stream([], window=0), "window must be at least 1"),
        (
            lambda: TaskSet.from_stream([], promt="q"),
            "unexpected keyword.*the fields are prompt, answer, id and difficulty",
        ),
    ],
)
def test_a_wrong_stream_is_told(wrong, said):
    with pytest.raises(UserError, match=said):
        wrong()


# --- difficulty


def test_rows_have_a_difficulty():
    rows = [
        {"prompt": "1+1?", "answer": 2, "level": "easy"},
        {"prompt": "9*8?", "answer": 72, "level": "hard"},
    ]
    tasks = TaskSet.from_rows(rows, difficulty="level")
    assert tasks.by_difficulty() == {"easy": [0], "hard": [1]}
    assert tasks[0].info == {"difficulty": "easy"}
    by_length = TaskSet.from_rows(rows, difficulty=lambda row: len(row["prompt"]))
    assert by_length[1].info == {"difficulty": 4, "level": "hard"}


@pytest.mark.parametrize("tasks", [numbers(30), Counted().tasks], ids=["list", "endless"])
def test_an_episode_may_ask_for_a_difficulty(tasks):
    env = TextEnv(tasks=tasks)
    for seed in range(20):
        env.reset(seed=seed, options={"difficulty": 2})
        assert env.task.info["difficulty"] == 2
        env.reset(seed=seed, options={"difficulty": [0, 1]})
        assert env.task.info["difficulty"] in (0, 1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"difficulty": 7}, "n has no task of difficulty 7; there are: 0, 1, 2"),
        ({"difficulty": "hard"}, "no task of difficulty 'hard'"),
        ({"difficulty": [1, 2, 3]}, r"a difficulty is a number, a label or \[lowest, highest\]"),
        ({"difficulty": 1, "task": 1}, "takes a task or a difficulty, got both"),
    ],
)
def test_a_difficulty_that_is_not_there_is_told(options, said):
    with pytest.raises(UserError, match=said):
        TextEnv(tasks=numbers(6)).reset(seed=1, options=options)


def test_a_set_without_difficulties_says_so():
    with pytest.raises(UserError, match=r'no task of difficulty 1; no task has `info\["difficulty"\]`'):
        TextEnv(tasks=[Task("a", "1")]).reset(options={"difficulty": 1})
