"""Task sets: rows of every kind, stable ids, errors that name the row, generators that do not overlap."""

from __future__ import annotations

import csv
import itertools
import json
import sys

import numpy as np
import pytest

from quintain.envs import TaskSet
from quintain.envs.tasks import item_rng
from quintain.tools import UserError
from quintain.verifiers import FinalNumber, Task

ROWS = [{"q": "1+1?", "a": "2", "level": "easy"}, {"q": "2+2?", "a": "4", "level": "hard"}]
FIELDS = {"prompt": "q", "answer": "a"}


def write(path, rows):
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_every_kind_of_file_gives_the_same_tasks(tmp_path, suffix):
    tasks = TaskSet.from_file(write(tmp_path / f"sums{suffix}", ROWS), **FIELDS)

    assert list(tasks) == [
        Task("sums-1", "1+1?", "2", {"level": "easy"}),
        Task("sums-2", "2+2?", "4", {"level": "hard"}),
    ]
    assert (len(tasks), tasks.size) == (2, 2)


def test_prompts_and_answers_may_be_made_of_the_row():
    tasks = TaskSet.from_rows(
        ROWS, prompt=lambda row: f"Q: {row['q']}", answer=lambda row: int(row["a"]), id="level"
    )
    assert tasks[1] == Task("hard", "Q: 2+2?", 4, {"q": "2+2?", "a": "4"})


def test_only_the_first_rows_are_read():
    assert TaskSet.from_rows(ROWS, limit=1, **FIELDS).size == 1


def test_tasks_may_have_no_answer():
    assert TaskSet.from_rows(ROWS, prompt="q", answer=None)[0].answer is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '{"q": "x"}\n',
            r"sums, row 1 has no field 'a' for the answer; it has: q\. Name another with answer=",
        ),
        (
            '{"q": "x", "a": "1"}\n{"Q": "y", "a": "1"}\n',
            "sums, row 2 has no field 'q' for the prompt; it has: Q, a",
        ),
        ('{"q": "x", "a": null}\n', r"sums, row 1: the field 'a' \(the answer\) is empty"),
        ('{"q": 3, "a": "1"}\n', "sums, row 1: the prompt must be text, got int"),
        ('{"q": "x", "a": "1"}\n{"q": "y", "a', r"sums.jsonl, line 2 is not JSON .* is the file complete\?"),
        ("[1, 2]\n", "sums.jsonl, line 1 must be a JSON object, got list"),
        ("\n\n", "sums.jsonl holds no rows"),
        ("", "sums.jsonl holds no rows"),
    ],
)
def test_a_bad_row_is_named(tmp_path, text, said):
    path = tmp_path / "sums.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        TaskSet.from_file(path, **FIELDS)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "rows.jsonl",
            None,
            "there is no file .*rows.jsonl'; give the path of a .jsonl, .parquet or .csv file",
        ),
        ("rows.xlsx", b"x", "rows are read from .jsonl, .parquet and .csv files, not '.xlsx'"),
        ("rows.jsonl", b"\xff\xfe", "rows.jsonl is not UTF-8 text"),
        ("rows.parquet", b"PAR1 torn", "rows.parquet is no readable Parquet file"),
        ("rows.csv", b"q,a\n1,2,3\n", "rows.csv, line 2: the row and the header differ in length"),
        ("rows.csv", b"q,a\n1\n", "rows.csv, line 2: the row and the header differ in length"),
        ("rows.csv", b"q,a\n", "rows.csv holds no rows"),
    ],
)
def test_a_bad_file_is_named(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=said):
        TaskSet.from_file(tmp_path / name, **FIELDS)


def test_a_function_of_the_row_that_fails_names_the_row():
    with pytest.raises(UserError, match="rows, row 1 has no field 'answer'; it has: q, a, level"):
        TaskSet.from_rows(ROWS, prompt="q", answer=lambda row: row["answer"])
    with pytest.raises(UserError, match="rows, row 1: the answer cannot be made: ValueError"):
        TaskSet.from_rows(ROWS, prompt="q", answer=lambda row: int("x"))


def test_the_verifier_refuses_tasks_that_it_cannot_judge():
    tasks = TaskSet.from_rows([{"q": "x", "a": "no number"}], **FIELDS)
    with pytest.raises(UserError, match="rows: task 'rows-1': the answer must be a finite number"):
        tasks.check(FinalNumber())


def test_indices_end_where_the_set_ends():
    tasks = TaskSet.from_rows(ROWS, **FIELDS)
    for index in (2, -1):
        with pytest.raises(IndexError, match=f"there is no task {index} in rows: the indices are 0 to 1"):
            tasks[index]


# --- the hub


class Rows(list):
    def select(self, indices):
        return Rows(self[i] for i in indices)


def test_a_hub_data_set_is_rows_like_any_other(monkeypatch):
    asked = []

    class Datasets:
        @staticmethod
        def load_dataset(*args, **kwargs):
            asked.append((args, kwargs))
            return Rows(ROWS)

    monkeypatch.setitem(sys.modules, "datasets", Datasets)
    tasks = TaskSet.from_hub("org/sums", subset="main", split="test", limit=1, **FIELDS)

    assert asked == [(("org/sums", "main"), {"split": "test"})]
    assert list(tasks) == [Task("org-sums-1", "1+1?", "2", {"level": "easy"})]


def test_a_hub_data_set_that_cannot_be_loaded_is_named(monkeypatch):
    class Datasets:
        @staticmethod
        def load_dataset(*args, **kwargs):
            raise ConnectionError("offline\nlong story")

    monkeypatch.setitem(sys.modules, "datasets", Datasets)
    with pytest.raises(
        UserError, match=r"the data set 'org/sums' \(split 'train'\) cannot be loaded: offline$"
    ):
        TaskSet.from_hub("org/sums")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"needs `pip install quintain\[train\]`"):
        TaskSet.from_hub("org/sums")


# --- generators


def dice(rng: np.random.Generator, index: int) -> Task:
    return Task("", f"Task {index}", int(rng.integers(2**62)))


def test_generated_tasks_are_the_same_for_an_index_whatever_was_asked_before():
    tasks = TaskSet.generated(dice, name="dice", seed=4)
    third = tasks[3]
    assert [task.id for task in itertools.islice(tasks, 4)] == [f"dice-train-4-{i}" for i in range(4)]
    assert tasks[3] == third == TaskSet.generated(dice, name="dice", seed=4)[3]


def test_neighbouring_seeds_splits_and_indices_share_nothing():
    answers = [
        TaskSet.generated(dice, name="dice", split=split, seed=seed)[index].answer
        for split in ("train", "test")
        for seed in range(10)
        for index in range(10)
    ]
    assert len(set(answers)) == len(answers)
    assert item_rng("a", 1, 11).integers(2**62) != item_rng("a", 11, 1).integers(2**62)


def test_an_endless_set_has_no_length():
    tasks = TaskSet.generated(dice, name="dice")
    assert tasks.size is None
    assert tasks
    assert tasks[10**12].id == f"dice-train-0-{10**12}"
    with pytest.raises(TypeError, match="endless"):
        len(tasks)
    with pytest.raises(IndexError, match="the indices start at 0"):
        tasks[-1]


def test_a_generated_set_may_have_an_end():
    tasks = TaskSet.generated(dice, name="dice", size=3)
    assert len(list(tasks)) == 3
    assert {tasks.draw(np.random.default_rng(i)).id for i in range(50)} == {
        f"dice-train-0-{i}" for i in range(3)
    }


def test_drawing_is_uniform_and_from_the_given_generator():
    tasks = TaskSet.from_rows(ROWS, **FIELDS)
    rng = np.random.default_rng(0)
    share = np.mean([tasks.draw(rng).id == "rows-1" for _ in range(1000)])
    assert 0.45 < share < 0.55
