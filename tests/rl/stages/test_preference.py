"""Preferences: what they may say, their file, pairs out of ratings, rankings and groups."""

from __future__ import annotations

import json

import pytest

from quintain.rl.stages.formats import labelled_of, read_labelled, rows_for_trl
from quintain.rl.stages.pairs import pairs_from_groups
from quintain.rl.stages.preference import (
    Preference,
    from_ranking,
    from_rating,
    read_preferences,
    settle_ties,
    write_preferences,
)
from quintain.tools.errors import UserError

ASKED = ({"role": "user", "content": "2+2?"},)
FOUR = ({"role": "assistant", "content": "4"},)
FIVE = ({"role": "assistant", "content": "5"},)
CALLED = (
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {
                "id": "c1",
                "type": "function",
                "function": {"name": "calculator", "arguments": {"expression": "2+2"}},
            }
        ],
    },
    {"role": "tool", "content": "4", "tool_call_id": "c1", "name": "calculator"},
    {"role": "assistant", "content": "It is 4."},
)
TOOLS = ({"type": "function", "function": {"name": "calculator", "parameters": {"type": "object"}}},)


def read(tmp_path, *rows, **more):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return read_preferences(path, **more)


def test_what_is_written_is_read_back(tmp_path):
    said = [
        Preference(ASKED, FOUR, FIVE, strength=7, source="person:ann", id="a/0", info={"seconds": 4}),
        Preference(ASKED, CALLED, FIVE, margin=0.5, tools=TOOLS),
        Preference(ASKED, FOUR, FIVE, strength=4),
    ]
    assert write_preferences(tmp_path / "out.jsonl", said) == 3
    found = read_preferences(tmp_path / "out.jsonl")
    assert found.kept == said and found.numbers == [1, 2, 3]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"prompt": ()}, "the prompt is empty"),
        ({"rejected": FOUR}, "identical sides"),
        ({"chosen": ()}, "chosen does not begin with the assistant's message"),
        ({"chosen": ASKED}, "chosen does not begin with the assistant's message"),
        ({"chosen": CALLED[:2]}, "chosen does not end with the assistant's message"),
        ({"rejected": ({"role": "assistant", "content": " \n"},)}, "rejected is empty"),
        ({"strength": 9}, "strength must be 4 to 8"),
        ({"strength": True}, "strength must be 4 to 8"),
        ({"margin": -0.1}, "margin must be a number of at least 0"),
        ({"margin": float("nan")}, "margin must be a number of at least 0"),
    ],
)
def test_a_preference_that_says_nothing_cannot_be_made(changed, message):
    with pytest.raises(ValueError, match=message):
        Preference(**{"prompt": ASKED, "chosen": FOUR, "rejected": FIVE, **changed})


@pytest.mark.parametrize(
    ("rating", "better", "strength", "tie"),
    [(1, FOUR, 8, False), (3, FOUR, 6, False), (4, FOUR, 5, True), (5, FIVE, 5, True), (8, FIVE, 8, False)],
)
def test_a_rating_from_1_to_8_puts_the_better_side_first(rating, better, strength, tie):
    found = from_rating(ASKED, FOUR, FIVE, rating)
    assert (found.chosen, found.strength, found.tie) == (better, strength, tie)


@pytest.mark.parametrize("rating", [0, 9, 4.5, True])
def test_a_rating_outside_of_the_scale_is_refused(rating):
    with pytest.raises(ValueError, match="a whole number from 1 to 8"):
        from_rating(ASKED, FOUR, FIVE, rating)


def test_a_ranking_of_k_gives_all_pairs_that_differ_and_their_distance():
    answers = [({"role": "assistant", "content": text},) for text in ("b", "a", "c", "a")]
    pairs = from_ranking(ASKED, answers, [2, 1, 2, 3], name="r7", source="person:bo")
    told = [(p.chosen[0]["content"], p.rejected[0]["content"], p.margin, p.tie) for p in pairs]
    assert told == [
        ("a", "b", 1, False),
        ("b", "c", 0, True),
        ("b", "a", 1, False),
        ("a", "c", 1, False),  # the two texts "a" are one answer: that pair says nothing
        ("c", "a", 1, False),
    ]
    assert {p.group for p in pairs} == {"r7"} and len({p.id for p in pairs}) == 5


def test_pairs_of_groups_put_the_better_score_first_and_count_the_rest(episode):
    found = pairs_from_groups(
        [
            *(
                episode(text, score, 0)
                for text, score in [("good", 1.0), ("bad", 0.0), ("so", 0.5), ("lost", None)]
            ),
            *(episode(text, 1.0, 1) for text in ("one", "two")),
            episode("alone", 1.0, 2),
            *(episode("same", score, 3) for score in (1.0, 0.0)),
        ],
        tokenizer="mark",
    )
    (pair,) = found.preferences
    assert (pair.chosen[0]["content"], pair.rejected[0]["content"], pair.margin) == ("good", "bad", 1.0)
    assert pair.tokens[0].ids == (1, 2, 3, *(100 + ord(c) for c in "good"), 9)
    assert pair.tokens[0].mask == (False,) * 3 + (True,) * 5
    assert (found.groups, found.ungraded, found.tied, found.identical, found.silent) == (4, 1, 1, 1, 3)


@pytest.mark.parametrize(
    ("choose", "gap", "expected"),
    [
        ("best_worst", 0.0, ["a>c"]),
        ("all", 0.0, ["a>b", "a>c", "b>c"]),
        ("best_rest", 0.0, ["a>b", "a>c"]),
        ("all", 0.6, ["a>c"]),
    ],
)
def test_which_pairs_of_a_group_is_a_choice(episode, choose, gap, expected):
    group = [episode("c", 0.0), episode("a", 1.0), episode("b", 0.5)]
    found = pairs_from_groups(group, choose=choose, gap=gap).preferences
    assert [f"{p.chosen[0]['content']}>{p.rejected[0]['content']}" for p in found] == expected


def test_groups_of_one_number_and_other_tasks_are_kept_apart(episode):
    found = pairs_from_groups([episode("a", 1.0), episode("b", 0.0, task_id="another")])
    assert found.preferences == [] and found.silent == 2


def test_the_formats_of_others_are_read(tmp_path):
    found = read(
        tmp_path,
        {"prompt": "2+2?", "chosen": "4", "rejected": "5"},
        {"chosen": [*ASKED, *FOUR], "rejected": [*ASKED, *FIVE], "score_chosen": 9},
        {"chosen": "\n\nHuman: 2+2?\n\nAssistant: 4", "rejected": "\n\nHuman: 2+2?\n\nAssistant: 5"},
        {"prompt": [*ASKED], "chosen": [*FOUR], "rejected": [*FIVE], "tools": json.dumps(list(TOOLS))},
    )
    assert [(one.prompt, one.chosen, one.rejected) for one in found.kept] == [(ASKED, FOUR, FIVE)] * 4
    assert found.kept[3].tools == TOOLS


def test_an_implicit_prompt_ends_before_the_first_reply_that_differs(tmp_path):
    more = [*FOUR, {"role": "user", "content": "Sure?"}]
    (found,) = read(
        tmp_path,
        {
            "chosen": [*ASKED, *more, {"role": "assistant", "content": "Yes."}],
            "rejected": [*ASKED, *more, {"role": "assistant", "content": "No."}],
        },
    ).kept
    assert found.prompt == (*ASKED, *more) and found.chosen[0]["content"] == "Yes."


def test_openai_messages_are_brought_into_our_shape(tmp_path):
    call = {
        "id": "c1",
        "type": "function",
        "function": {"name": "calculator", "arguments": '{"expression": "2+2"}'},
    }
    chosen = [
        {"role": "assistant", "content": None, "tool_calls": [call], "name": None},
        {"role": "tool", "content": [{"type": "text", "text": "4"}], "tool_call_id": "c1"},
        {"role": "assistant", "content": "It is 4.", "tool_calls": None},
    ]
    (found,) = read(tmp_path, {"prompt": [*ASKED], "chosen": chosen, "rejected": "5"}).kept
    assert found.chosen == CALLED


BAD = [
    "{",
    [1],
    {"prompt": "2+2?", "chosen": "4"},
    {"prompt": "2+2?", "chosen": "4", "rejected": "4"},
    {"prompt": "2+2?", "chosen": "4", "rejected": "   "},
    {"chosen": "4", "rejected": "5"},
    {"chosen": [*ASKED, *FOUR], "rejected": [{"role": "user", "content": "x"}, *FIVE]},
    {"prompt": "2+2?", "chosen": "4", "rejected": "5", "strength": 2},
    {"prompt": "2+2?", "chosen": "4", "rejected": "5", "margin": "large"},
    {"prompt": [{"role": "robot", "content": ""}], "chosen": "4", "rejected": "5"},
    {"prompt": "2+2?", "chosen": "4", "rejected": "\ud800"},
]


def test_every_bad_row_is_refused_with_its_number_and_reason(tmp_path):
    with pytest.raises(UserError) as caught:
        read(tmp_path, {"prompt": "a", "chosen": "b", "rejected": "c"}, "", *BAD)
    told = str(caught.value)
    for row, reason in [
        (3, "not JSON"),
        (4, "not an object"),
        (5, "no rejected"),
        (6, "identical sides"),
        (7, "rejected is empty"),
        (8, "no prompt, and the sides are texts without turns"),
        (9, "no prompt, and the sides have no beginning in common"),
        (10, "strength below 4"),
        (11, "margin is not a number"),
        (12, "prompt holds a message with the role 'robot'"),
        (13, "rejected holds half of a surrogate pair"),
    ]:
        assert reason in told and f"(row {row})" in told
    assert "11 of 12 rows left out" in told and "on_bad = 'skip'" in told


def test_bad_rows_are_skipped_and_counted_where_that_was_asked_for(tmp_path):
    found = read(tmp_path, *BAD, {"prompt": "a", "chosen": "b", "rejected": "c"}, on_bad="skip")
    assert found.numbers == [12] and [one.row for one in found.skipped] == list(range(1, 12))


def test_a_file_that_is_not_there_or_empty_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.jsonl does not exist"):
        read_preferences(tmp_path / "none.jsonl")
    with pytest.raises(UserError, match="has no rows"):
        read(tmp_path, "")


def test_ties_need_a_rule(tmp_path):
    row = {"prompt": "2+2?", "chosen": "4", "rejected": "four"}
    rows = read(tmp_path, {**row, "strength": 8}, {**row, "strength": 5})
    with pytest.raises(UserError, match=r"1 rows are ties \(2\).* set ties = 'skip' .* or 'both'"):
        settle_ties(rows, "refuse", "rows.jsonl")
    skipped = settle_ties(rows, "skip", "rows.jsonl")
    assert skipped.numbers == [1] and skipped.counts() == {"ties": 1}
    both = settle_ties(rows, "both", "rows.jsonl")
    assert both.numbers == [1, 2, 2]
    assert both.kept[1].chosen == both.kept[2].rejected and both.kept[2].strength == 4


def test_rows_for_trl_in_every_form():
    one = Preference(ASKED, FOUR, FIVE)
    assert list(rows_for_trl([one], "explicit")) == [
        {"prompt": [*ASKED], "chosen": [*FOUR], "rejected": [*FIVE]}
    ]
    assert list(rows_for_trl([one], "implicit")) == [{"chosen": [*ASKED, *FOUR], "rejected": [*ASKED, *FIVE]}]
    assert list(rows_for_trl([one], "plain")) == [{"prompt": "2+2?", "chosen": "4", "rejected": "5"}]
    assert [row["label"] for row in rows_for_trl([one], "unpaired")] == [True, False]
    with pytest.raises(UserError, match="preference 1 has several messages"):
        list(rows_for_trl([Preference(ASKED, CALLED, FIVE)], "plain"))


def test_single_answers_with_labels_come_from_both_kinds_of_rows(tmp_path):
    path = tmp_path / "labels.jsonl"
    rows = [
        {"prompt": "2+2?", "completion": "4", "label": True},
        {"prompt": "2+2?", "chosen": "4", "rejected": "5"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = [one for row in read_labelled(path).kept for one in row]
    assert [(one.completion, one.label) for one in found] == [(FOUR, True), (FOUR, True), (FIVE, False)]
    with pytest.raises(ValueError, match="label is not true or false"):
        labelled_of({"prompt": "2+2?", "completion": "4", "label": 1})
