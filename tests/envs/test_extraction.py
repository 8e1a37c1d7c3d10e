"""Extraction-v0: every field of the record or nothing, whatever is beside the point in the document."""

from __future__ import annotations

import json

import pytest

from quintain.envs import make
from quintain.tools import UserError

SAMPLE = 60


def reward(env, task, reply: str) -> float:
    env.reset(options={"task": task})
    return env.step(reply)[1]


def changed(record: dict, field: str, value: object) -> str:
    return json.dumps({**record, field: value})


@pytest.mark.parametrize("kind", ["invoice", "event", "parcel", "job", "minutes"])
@pytest.mark.parametrize("difficulty", [1, 2, 3])
def test_the_record_is_worth_one_in_any_honest_spelling(kind, difficulty):
    env = make("quintain/Extraction-v0", kind=kind, difficulty=difficulty)
    for index in range(10):
        record = env.tasks[index].answer
        turned = dict(reversed(record.items()))
        for reply in (
            json.dumps(record),
            json.dumps(turned, indent=2),
            f"```json\n{json.dumps(record)}\n```",
        ):
            assert reward(env, index, reply) == 1.0
        assert reward(env, index, f"<think>hm</think>{json.dumps(record)}") == 1.0


@pytest.mark.parametrize("kind", ["invoice", "event", "parcel", "job", "minutes"])
def test_every_field_counts(kind):
    env = make("quintain/Extraction-v0", kind=kind)
    record = env.tasks[0].answer
    for field in record:
        missing = {key: value for key, value in record.items() if key != field}
        assert reward(env, 0, json.dumps(missing)) == 0.0
        for wrong in ("", None if record[field] is not None else "x", 0.5, [], {}, [record[field]], "\u0410"):
            assert reward(env, 0, changed(record, field, wrong)) == 0.0


def test_cheats_score_nothing():
    env = make("quintain/Extraction-v0")
    other = env.tasks[SAMPLE].answer
    for index in range(12):
        task = env.tasks[index]
        exact = json.dumps(task.answer)
        cheats = {
            "empty": "",
            "no object": "{}",
            "null": "null",
            "the prompt": task.prompt,
            "the schema": json.dumps(task.info["schema"]),
            "another record": json.dumps(other),
            "two records": f"{exact}\n{exact}",
            "a list of records": f"[{exact}, {json.dumps(other)}]",
            "prose round it": f"Here it is: {exact}",
            "two fences": f"```json\n{exact}\n```\n```json\n{json.dumps(other)}\n```",
            "one more field": changed(task.answer, "note", "x"),
            "a field twice": exact[:-1] + ', "date": "2000-01-01", "date": "2000-01-02"}',
            "numbers as text": json.dumps({k: str(v) for k, v in task.answer.items()}),
            "only in thought": f"<think>{exact}</think>",
            "full-width": exact.translate({ord("0") + d: 0xFF10 + d for d in range(10)}),
            "giant": "[" * 100_000,
        }
        for name, cheat in cheats.items():
            assert reward(env, task, cheat) == 0.0, name


def test_true_is_not_one():
    env = make("quintain/Extraction-v0", kind="event", difficulty=1)
    record = env.tasks[0].answer
    assert (
        reward(env, 0, changed(record, "registration_required", int(record["registration_required"]))) == 0.0
    )


def test_by_option_the_share_of_right_fields_is_paid():
    env = make("quintain/Extraction-v0", kind="job", partial=True)
    record = env.tasks[0].answer
    assert reward(env, 0, changed(record, "city", "Nowhere")) == pytest.approx(1 - 1 / len(record))
    assert reward(env, 0, "{}") == 0.0


def test_the_facts_stand_in_the_document():
    env = make("quintain/Extraction-v0", difficulty=2)
    for index in range(SAMPLE):
        task = env.tasks[index]
        document = task.prompt.partition("Document:")[2]
        for field, value in task.answer.items():
            if isinstance(value, str) and not value[:2].isdigit() and field != "currency":
                assert value in document


def test_a_missing_fact_is_null():
    endless = make("quintain/Extraction-v0", difficulty=3, kind="invoice").tasks
    tasks = [endless[index] for index in range(20)]
    due = {"Payment is due" in task.prompt: task.answer["due"] for task in tasks}
    assert due[False] is None
    assert isinstance(due[True], str)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"difficulty": 4}, "difficulty must be a whole number from 1 to 3, got 4"),
        (
            {"kind": "poem"},
            "kind must be one of 'any', 'invoice', 'event', 'parcel', 'job', 'minutes', got 'poem'",
        ),
    ],
)
def test_wrong_options_are_named(options, said):
    with pytest.raises(UserError, match=said):
        make("quintain/Extraction-v0", **options)
