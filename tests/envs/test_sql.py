"""SQL-v0: queries that are right for any rows, changes that end where they should, and no way out of the database."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from quintain.envs import make
from quintain.envs.library import database
from quintain.envs.library.database import Database, SqlError
from quintain.envs.library.sql import same_rows
from quintain.tools import UserError

TABLES = {
    "people": {
        "columns": [["id", "INTEGER PRIMARY KEY"], ["name", "TEXT"], ["age", "INTEGER"]],
        "rows": [[1, "Ada", 36], [2, "Bela", 61], [3, "Cleo", None]],
    }
}


def call(statement: str) -> str:
    arguments = {"statement": statement}
    return f"<tool_call>\n{json.dumps({'name': 'sql', 'arguments': arguments})}\n</tool_call>"


def block(query: str) -> str:
    return f"```sql\n{query}\n```"


def reward(env, task, *replies: str) -> float:
    env.reset(options={"task": task})
    for reply in replies:
        _, earned, terminated, truncated, info = env.step(reply)
    assert terminated or truncated
    assert info["score"].graded
    return earned


# --- the environment


@pytest.mark.parametrize("mode", ["read", "write"])
@pytest.mark.parametrize("difficulty", [1, 2, 3])
def test_the_gold_statements_are_right_and_cheats_are_not(mode, difficulty):
    env = make("quintain/SQL-v0", mode=mode, difficulty=difficulty)
    rng = np.random.default_rng(0)
    for index in range(25):
        task = env.tasks[index]
        env.reset(options={"task": task})
        over = False
        while not over:
            _, earned, over, _, _ = env.step(env.oracle(task, env.messages, rng))
        assert earned == 1.0
        for cheat in (
            "",
            "Done.",
            "0",
            task.prompt,
            block("SELECT 1"),
            block(""),
            block("SELECT * FROM nothing"),
        ):
            assert reward(env, task, cheat) == 0.0


def test_rows_copied_out_of_the_database_are_no_answer():
    env = make("quintain/SQL-v0")
    for index in range(20):
        task = env.tasks[index]
        rows = task.answer["rows"][0]
        values = ", ".join("(" + ", ".join(repr(value) for value in row) + ")" for row in rows)
        by_heart = f"WITH answer AS (VALUES {values}) SELECT * FROM answer"
        assert reward(env, task, block(by_heart)) == 0.0
        assert reward(env, task, str(rows)) == 0.0


def test_another_way_to_write_the_query_is_right():
    env = make("quintain/SQL-v0", difficulty=1)
    task = next(task for task in env.tasks if "(one number)" in task.prompt and "How many" in task.prompt)
    gold = task.info["statements"][0]
    other = gold.replace("SELECT COUNT(*)", "select sum(1) as n").replace(" WHERE ", "\n  where ") + ";"
    assert reward(env, task, f"I think so:\n{block('SELECT 0')}\nNo:\n{block(other)}") == 1.0
    assert reward(env, task, gold) == 0.0, "a query stands in a block"
    assert reward(env, task, f"<think>{block(gold)}</think>") == 0.0
    assert reward(env, task, f"{block(gold)}\n{block('SELECT 0')}") == 0.0
    assert reward(env, task, block(f"{gold}; {gold}")) == 0.0


def test_what_was_looked_up_does_not_count_before_it_is_handed_in():
    env = make("quintain/SQL-v0", max_turns=2)
    gold = env.tasks[0].info["statements"][0]
    assert reward(env, 0, call(gold), call(gold)) == 0.0
    assert reward(env, 0, call(gold), block(gold)) == 1.0


def test_a_database_belongs_to_its_episode_and_a_question_changes_nothing():
    env = make("quintain/SQL-v0", mode="write")
    table = next(iter(env.tasks[0].info["database"]["tables"]))
    env.reset(options={"task": 0})
    assert env.step(call(f"DELETE FROM {table}"))[0] == "Done."
    other = env.fresh()
    other.reset(options={"task": 0})
    assert other.step(call(f"SELECT COUNT(*) FROM {table}"))[0] != "COUNT(*)\n0"
    assert env.step(call(f"SELECT COUNT(*) FROM {table}"))[0] == "COUNT(*)\n0"
    env.reset(options={"task": 0})
    assert env.step(call(f"SELECT COUNT(*) FROM {table}"))[0] != "COUNT(*)\n0"

    reading = make("quintain/SQL-v0")
    reading.reset(options={"task": 0})
    table = next(iter(reading.task.info["database"]["tables"]))
    assert reading.step(call(f"DELETE FROM {table}"))[0] == "Error: not authorized: this is not allowed here"


def test_the_end_counts_whatever_the_way():
    env = make("quintain/SQL-v0", mode="write", difficulty=1)
    task = next(task for task in env.tasks if task.prompt.rpartition("\n")[2].startswith("Delete"))
    gold = task.info["statements"][0]
    table = gold.split()[2]
    select = gold.replace("DELETE FROM", "SELECT id FROM")
    env.reset(options={"task": task})
    ids = env.step(call(select))[0].split("\n")[1:]
    one_by_one = [call(f"DELETE FROM {table} WHERE id = {number}") for number in ids[:20]]
    env.max_turns = 60
    assert reward(env, task, *one_by_one, "That was all of it.") == 1.0
    assert reward(env, task, *one_by_one[:-1], "That was all of it.") == 0.0
    assert (
        reward(
            env, task, *one_by_one, call(f"DELETE FROM {table} WHERE id = (SELECT MAX(id) FROM {table})"), "."
        )
        == 0.0
    )


def test_the_prompt_shows_tables_with_two_rows_and_no_query():
    env = make("quintain/SQL-v0", difficulty=3)
    for index in range(20):
        task = env.tasks[index]
        observation, _ = env.reset(options={"task": task})
        assert observation.count("CREATE TABLE") == 2
        assert observation.count("2025-") - task.prompt.rpartition("\n")[2].count("2025-") == 2
        assert task.info["statements"][0] not in observation
        assert set(env.setup(task)) == {"tables", "write"}


def test_questions_differ_and_train_and_test_share_none():
    def asked(split: str, seed: int) -> list[str]:
        tasks = make("quintain/SQL-v0", difficulty=3, split=split, seed=seed).tasks
        return [tasks[index].prompt for index in range(80)]

    assert len(set(asked("train", 0))) >= 76
    assert not set(asked("train", 0) + asked("train", 1)) & set(asked("test", 0) + asked("test", 1))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": "both"}, "mode must be one of 'read', 'write', got 'both'"),
        ({"difficulty": True}, "difficulty must be a whole number from 1 to 3, got True"),
    ],
)
def test_wrong_options_are_named(options, said):
    with pytest.raises(UserError, match=said):
        make("quintain/SQL-v0", **options)


# --- comparing rows


def test_rows_are_a_bag_unless_ordered():
    assert same_rows([(1, "a"), (2, "b")], [[2, "b"], [1, "a"]], ordered=False)
    assert not same_rows([(1, "a"), (2, "b")], [[2, "b"], [1, "a"]], ordered=True)
    assert not same_rows([(1,), (1,)], [[1]], ordered=False)
    assert not same_rows([(1, 2)], [[1]], ordered=True)
    assert not same_rows([("1",)], [[1]], ordered=True)
    assert not same_rows([(None,)], [[0]], ordered=True)
    assert same_rows([(0.1 + 0.2,)], [[0.3]], ordered=True)


# --- the database


@pytest.mark.parametrize(
    ("statement", "rows"),
    [
        ("SELECT name FROM people WHERE age > 40", [("Bela",)]),
        ("SELECT COUNT(*), AVG(age) FROM people", [(3, 48.5)]),
        ("SELECT name FROM people WHERE name LIKE 'b%'", [("Bela",)]),
        ("SELECT name FROM people WHERE name LIKE '_l%'", [("Cleo",)]),
        ("SELECT name FROM people WHERE name LIKE '%a'", [("Ada",), ("Bela",)]),
        ("SELECT name FROM people WHERE name LIKE 'A_a'", [("Ada",)]),
        ("SELECT name FROM people WHERE name LIKE '%a_%a%'", [("Ada",)]),
        ("SELECT name FROM people WHERE name LIKE 'ad'", []),
        ("SELECT RANK() OVER (ORDER BY age DESC) FROM people WHERE age", [(1,), (2,)]),
    ],
)
def test_what_a_question_may_do(statement, rows):
    assert Database(TABLES).run(statement)[1] == rows


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM people",
        "ATTACH 'file.db' AS other",
        "PRAGMA table_info(people)",
        "SELECT * FROM pragma_database_list",
        "CREATE TABLE mine (a)",
        "CREATE TEMP TRIGGER t AFTER DELETE ON people BEGIN SELECT 1; END",
        "DROP TABLE people",
        "VACUUM INTO 'file.db'",
        "SELECT load_extension('evil')",
        "SELECT readfile('/etc/passwd')",
        "SELECT random()",
        "SELECT date('now')",
        "SELECT CURRENT_TIMESTAMP",
        "SELECT zeroblob(1000000000)",
        "SELECT printf('%.*c', 1000000000, 'x')",
        "SELECT name GLOB '*a*a*a*a*' FROM people",
        "BEGIN",
        "SELECT 1; DELETE FROM people",
        "UPDATE sqlite_master SET sql = 'x'",
        "",
    ],
)
def test_what_it_may_not(statement):
    database = Database(TABLES)
    try:
        names, rows, _ = database.run(statement)
    except SqlError:
        pass
    else:
        assert (names, rows) == ([], [])
    assert len(database.contents()["people"]) == 3


@pytest.mark.parametrize("statement", [
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT COUNT(*) FROM c",
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c ORDER BY x DESC",
    "WITH RECURSIVE c(x) AS (SELECT 'a' UNION ALL SELECT x || x FROM c) SELECT LENGTH(x) FROM c",
    "SELECT " + "(" * 3000 + "1" + ")" * 3000,
    "SELECT 1" + " UNION SELECT 1" * 300,
    "SELECT '" + "x" * 100_000 + "'",
])  # fmt: skip
def test_too_much_work_is_stopped_soon(statement):
    started = time.process_time()
    with pytest.raises(SqlError):
        Database(TABLES).run(statement)
    assert time.process_time() - started < 2.0


def test_a_pattern_costs_no_more_than_its_text_is_long():
    many = "WITH RECURSIVE c(x) AS (SELECT 'a' UNION ALL SELECT x || 'a' FROM c LIMIT 900)"
    started = time.process_time()
    rows = Database(TABLES).run(f"{many} SELECT COUNT(*) FROM c WHERE x LIKE '{'%a' * 20}%_%b'")[1]
    assert rows == [(0,)]
    assert time.process_time() - started < 2.0


def test_work_is_counted_and_not_timed(monkeypatch):
    monkeypatch.setattr(database, "STEPS", 2_000)
    with pytest.raises(SqlError, match="the statement takes too many steps; make it simpler"):
        Database(TABLES).run(
            "SELECT COUNT(*) FROM people a, people b, people c, people d, people e, people f, people g"
        )
    assert Database(TABLES).run("SELECT COUNT(*) FROM people")[1] == [(3,)]


def test_a_database_cannot_grow_without_end():
    grown = Database(TABLES, write=True)
    grow = "INSERT INTO people SELECT id + (SELECT MAX(id) FROM people), '" + "x" * 900 + "', 1 FROM people"
    with pytest.raises(SqlError, match="the database would grow too large"):
        for _ in range(30):
            grown.run(grow)
    assert len(grown.contents()["people"]) < 6_000


def test_a_statement_that_fails_changes_nothing():
    changed = Database(TABLES, write=True)
    before = changed.contents()
    with pytest.raises(SqlError, match="UNIQUE constraint failed"):
        changed.run("INSERT INTO people SELECT 4 - id, name, age FROM people UNION ALL SELECT 9, 'x', 0")
    assert changed.contents() == before
    changed.run("UPDATE people SET age = age + 1")
    assert changed.contents()["people"][0] == [1, "Ada", 37]


def test_a_long_result_is_cut():
    env = make("quintain/SQL-v0")
    env.reset(options={"task": 0})
    table = list(env.task.info["database"]["tables"])[1]
    shown = env.step(call(f"SELECT id FROM {table}"))[0]
    assert shown.count("\n") == 31
    assert shown.endswith("\n[more rows]")
    assert env.step(call(f"SELECT id FROM {table} WHERE id < 0"))[0] == "id\n[no rows]"
    assert env.step(call("SELECT NULL AS none"))[0] == "none\nNULL"
