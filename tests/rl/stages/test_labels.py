"""Labels of people: on the disk before they are acknowledged, blind, and how far people agree."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from quintain.rl.stages.agreement import cohen_kappa, fleiss_kappa, krippendorff_alpha
from quintain.rl.stages.labels import (
    LabelFile,
    Queue,
    agreement,
    as_shown,
    item_key,
    make_label,
    preferences_of,
    read_labels,
)
from quintain.rl.stages.preference import Preference
from quintain.tools.errors import UserError


def pair(n: int) -> Preference:
    return Preference(
        ({"role": "user", "content": f"question {n}"},),
        ({"role": "assistant", "content": f"first {n}"},),
        ({"role": "assistant", "content": f"second {n}"},),
    )


PAIRS = [pair(n) for n in range(20)]


def test_cohens_kappa_of_a_textbook_table():
    """50 grants, two readers: both yes 20, both no 15, yes and no 5, no and yes 10. Agreement 0.7, chance 0.5."""
    one = ["y"] * 25 + ["n"] * 25
    other = ["y"] * 20 + ["n"] * 5 + ["y"] * 10 + ["n"] * 15
    assert cohen_kappa(one, other) == pytest.approx(0.4)


def test_fleiss_kappa_of_the_example_of_wikipedia():
    """14 raters, 10 items, 5 labels: kappa is 0.210."""
    table = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    items = [[label for label, count in enumerate(row) for _ in range(count)] for row in table]
    assert fleiss_kappa(items) == pytest.approx(0.210, abs=5e-4)


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_krippendorffs_alpha_of_his_own_example(level, alpha):
    """Four observers, twelve units, some missing (Computing Krippendorff's Alpha-Reliability, 2011, D)."""
    said = [
        "1 2 3 3 2 1 4 1 2 . . .", "1 2 3 3 2 2 4 1 2 5 . 3", ". 3 3 3 2 3 4 2 2 5 1 .", "1 2 3 3 2 4 4 1 2 5 1 .",
    ]  # fmt: skip
    columns = zip(*(row.split() for row in said), strict=True)
    items = [[int(label) for label in column if label != "."] for column in columns]
    assert krippendorff_alpha(items, level) == pytest.approx(alpha, abs=5e-4)


def test_agreement_that_is_not_defined_is_none():
    assert cohen_kappa([], []) is None and cohen_kappa(["a"], ["a"]) is None
    assert fleiss_kappa([["a", "a"]]) is None and krippendorff_alpha([[1], [2]]) is None
    with pytest.raises(ValueError, match=r"the same number of labels, 2 or more, got \[1, 2\]"):
        fleiss_kappa([["a"], ["a", "b"]])


def test_everybody_has_an_order_and_sides_of_their_own_and_the_same_ones_again():
    ann, bo = Queue(PAIRS, "ann", 1), Queue(PAIRS, "bo", 1)
    assert ann.order == Queue(PAIRS, "ann", 1).order != bo.order
    assert sorted(ann.order) == sorted(bo.order) == sorted(item_key(one) for one in PAIRS)
    sides = [[queue.swapped(item_key(one)) for one in PAIRS] for queue in (ann, bo)]
    assert sides[0] != sides[1] and all(4 <= sum(side) <= 16 for side in sides)
    assert ann.next(ann.order[:3]) == ann.order[3] and ann.next(ann.order) is None


@pytest.mark.parametrize(
    ("shown", "swapped", "meant"), [(1, False, 1), (1, True, 8), (5, True, 4), (0, True, 0)]
)
def test_a_rating_is_kept_as_of_the_row_whatever_side_was_shown(shown, swapped, meant):
    label = make_label("i", "ann", shown, swapped, 2.0)
    assert label.rating == meant and as_shown(label.rating, swapped) == shown


def test_labels_are_read_back_and_a_torn_last_line_is_cut(tmp_path):
    path = tmp_path / "labels.jsonl"
    with LabelFile(path) as file:
        file.add(make_label("a", "ann", 1, False, 1.0))
    with path.open("ab") as raw:
        raw.write(b'{"item": "b", "annot')
    with LabelFile(path) as file:
        assert [one.item for one in file.labels] == ["a"]
        file.add(make_label("c", "ann", 8, False, 1.0))
    assert [one.item for one in read_labels(path)] == ["a", "c"]


def test_a_line_that_is_no_label_is_refused_and_never_passed_over(tmp_path):
    path = tmp_path / "labels.jsonl"
    path.write_text('{"item": "a"}\n')
    with pytest.raises(UserError, match=r"labels\.jsonl, line 1 is no label"):
        LabelFile(path)


def test_two_processes_cannot_write_one_file(tmp_path):
    with LabelFile(tmp_path / "l.jsonl"), pytest.raises(UserError, match="is in use"):
        LabelFile(tmp_path / "l.jsonl")


@pytest.mark.slow
def test_what_was_acknowledged_is_there_after_a_kill(tmp_path):
    code = (
        "import sys, pathlib\nfrom quintain.rl.stages.labels import *\n"
        "file = LabelFile(pathlib.Path(sys.argv[1]))\n"
        "for n in range(10**6):\n"
        "    file.add(make_label(str(n), 'ann', 8, False, 1.0))\n    print(n, flush=True)\n"
    )
    path = tmp_path / "labels.jsonl"
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 20:
            break
    os.kill(process.pid, signal.SIGKILL)
    acknowledged = int((line + process.stdout.read()).strip().splitlines()[-1])
    process.wait()
    with LabelFile(path) as file:
        assert [int(one.item) for one in file.labels][: acknowledged + 1] == list(range(acknowledged + 1))


def test_preferences_come_of_the_mean_of_the_latest_labels():
    key = item_key(PAIRS[0])
    labels = [
        make_label(key, "ann", 1, False, 1.0),
        make_label(key, "ann", 8, False, 1.0),  # she has changed her mind
        make_label(key, "bo", 2, True, 1.0),  # shown the other way round: 7
        make_label(key, "cy", 0, False, 1.0),  # would not judge
        make_label(item_key(PAIRS[1]), "ann", 4, False, 1.0),
    ]
    first, second = preferences_of(PAIRS, labels)
    assert (first.chosen, first.strength, first.source) == (PAIRS[0].rejected, 8, "person:ann,bo")
    assert first.info["ratings"] == {"ann": 8, "bo": 7}
    assert second.tie


def test_agreement_names_each_two_people_and_the_bias_of_place():
    keys = [item_key(one) for one in PAIRS[:4]]
    labels = [make_label(k, "ann", r, False, 1.0) for k, r in zip(keys, (1, 1, 8, 8), strict=True)]
    labels += [make_label(k, "bo", r, False, 1.0) for k, r in zip(keys, (2, 1, 8, 1), strict=True)]
    found = agreement(labels)
    assert (found["annotators"], found["items"], found["labels"]) == (2, 4, 8)
    assert found["cohen"] == {"ann, bo": pytest.approx(0.5)}
    assert found["shown_left_preferred"] == pytest.approx(5 / 8)
    json.dumps(found)
