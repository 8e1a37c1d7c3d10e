"""What the viewer reads, finds, colours and compares."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from looking import indexed, lines, site_of
from made_up import Words, write_step

from quintain.rl.credit_file import read_credit
from quintain.rl.trajectory import Trajectory
from quintain.tools.errors import UserError
from quintain.viewer.compare import compare, sign_test
from quintain.viewer.filters import PAGE, Filter
from quintain.viewer.index import Index
from quintain.viewer.runs import open_runs
from quintain.viewer.talk import probability_class, signed_class, stretches
from quintain.viewer.tokens import Vocabulary, pieces_of, read_vocabulary

MakeRun = Callable[..., Path]
EVIL = "<script>console.error('broken out')</script><img src=x onerror=alert(1)>\"'&{{7*7}}"


def names(index: Index, **query: str) -> list[str]:
    return [row["name"] for row in Filter.read(query).found(index)[0]]


def count(index: Index, **query: str) -> int:
    return int(Filter.read(query).found(index)[1]["count"])


# --- The index ------------------------------------------------------------------------------------------------


def test_a_file_is_read_as_it_grows_and_its_torn_end_waits(tmp_path: Path) -> None:
    path = tmp_path / "trajectories" / "rl-000001.jsonl"
    path.parent.mkdir()
    first, second, third = lines("one", "two", "three")
    path.write_text(first + second[:100])
    index = indexed(tmp_path)
    assert names(index) == ["rl-1-0-0"]
    assert index.behind[0] == index.behind[1]  # nothing to wait for
    path.write_text(first + second + third[:-1])
    index.scan()
    assert not index.work(1.0)
    assert names(index) == ["rl-1-0-0", "rl-1-0-1", "rl-1-0-2"]  # the last one is whole, without its newline
    with path.open("a") as file:
        file.write("\n")
    index.scan()
    index.work(1.0)
    assert count(index) == 3


def test_a_file_that_was_replaced_or_removed_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "trajectories" / "rl-000001.jsonl"
    path.parent.mkdir()
    path.write_text("".join(lines("one", "two")))
    index = indexed(tmp_path)
    new = path.with_suffix(".part")
    new.write_text("".join(lines("zebra", "two", "three")))
    new.replace(path)
    index.scan()
    index.work(1.0)
    assert (count(index), count(index, q="zebra"), count(index, q="one")) == (3, 1, 0)
    path.unlink()
    index.scan()
    assert count(index) == 0


def test_lines_that_are_no_trajectories_are_counted_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "trajectories" / "rl-000001.jsonl"
    path.parent.mkdir()
    (good,) = lines("fine")
    bad = ["null\n", "[]\n", '{"id": 3}\n', "\n", "\udcff\n", '{"a":' * 5000 + "\n"]
    bad.append(good.replace('"mask":[0', '"mask":['))
    path.write_text("".join([*bad, good]), "utf-8", "surrogateescape")
    index = indexed(tmp_path)
    (file,) = index.files.values()
    assert (file.episodes, file.broken, file.lines) == (1, 6, 8)
    (row,) = index.rows("SELECT * FROM episode")
    loaded = index.load(row)
    assert row["line"] == 7 and loaded is not None and loaded.id == "rl-1-0-0"


def test_work_is_done_in_slices(make_run: MakeRun) -> None:
    index = Index(open_runs([make_run()]))
    index.scan()
    slices = 1
    while index.work(0.0005):
        slices += 1
    assert slices > 2
    assert count(index) == 6 * 24


# --- Filters --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """Two steps of six groups of four, made once."""
    folder = tmp_path_factory.mktemp("run")
    rng, words = random.Random(5), Words()
    for step in (1, 2):
        write_step(folder, step, rng, words)
    return indexed(folder)


def every(index: Index) -> list[dict[str, Any]]:
    return index.rows("SELECT * FROM episode")


def test_each_filter_keeps_what_it_says(index: Index) -> None:
    rows = every(index)

    def those(keeps: Callable[[dict[str, Any]], bool]) -> int:
        return sum(keeps(row) for row in rows)

    assert len(rows) == 48
    assert count(index, verdict="ungraded") == 2
    assert count(index, verdict="right") == those(lambda r: r["score"] == 1.0) > 0
    assert count(index, phase="eval") == 0
    assert count(index, step_min="2") == 24 == count(index, file="rl-000002")
    assert count(index, step_max="1.5") == 24
    assert count(index, reward_min="0.5") == those(lambda r: (r["reward"] or 0) > 0.5)
    assert count(index, tokens_min="100") == those(lambda r: r["tokens"] >= 100) > 0
    assert count(index, turns_min="4", turns_max="4") == those(lambda r: r["turns"] == 4) > 0
    assert count(index, trouble="unreadable") == those(lambda r: r["unreadable"] == 1) > 0
    assert count(index, trouble="none") + count(index, trouble="any") == 48
    assert count(index, errors_min="1") == 0
    assert count(index, stop="error") == 2
    assert count(index, group="3", file="rl-000001") == 4
    assert count(index, part="final_number", part_min="1") == count(index, verdict="right")
    assert count(index, part="unheard of", part_min="0") == 0
    assert count(index, task="train/rl-2-3") == 4


def test_words_find_what_was_said(index: Index) -> None:
    assert count(index, q="jar") == 0
    assert count(index, q="PENS boxes") == 48
    assert count(index, q="connection reset") == 2  # the reason of the ungraded
    assert count(index, q="too early") == count(index, trouble="unreadable")
    assert count(index, q="# Tools") == 0  # system messages are alike in all
    assert count(index, q="rl-2-3-1") == 1


HOSTILE = ['x"', "said:x", "(x", "x*", "^x", "'; DROP TABLE episode;--", "x\0", "ß" * 500, "NEAR(x)"]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_word_is_an_operator(index: Index, text: str) -> None:
    assert count(index, q=text) == 0
    assert count(index, run=text, part=text, task=text, stop=text) == 0
    assert count(index) == 48


def test_words_that_look_like_operators_are_words(index: Index) -> None:
    assert count(index, q="pens NOT boxes") == count(index, q="not") > 0
    assert count(index, q='boxes " ( * -- of') == 48  # marks alone are left out


def test_order(index: Index) -> None:
    steps = [row["step"] for row in Filter.read({}).found(index)[0]]
    assert steps == sorted(steps, reverse=True)
    tokens = [row["tokens"] for row in Filter.read({"sort": "-tokens"}).found(index)[0]]
    assert tokens == sorted(tokens, reverse=True)
    scores = [row["score"] for row in Filter.read({"sort": "score"}).found(index)[0]]
    assert scores[-2:] == [None, None] and scores[:-2] == sorted(scores[:-2])
    parts = [row["part"] for row in Filter.read({"part": "final_number", "sort": "-part"}).found(index)[0]]
    assert parts[0] == 1.0 and parts[-1] is None


def test_pages_follow_each_other(tmp_path: Path) -> None:
    path = tmp_path / "trajectories" / "rl-000001.jsonl"
    path.parent.mkdir()
    path.write_text("".join(lines(*["x"] * (PAGE + 3))))
    index = indexed(tmp_path)
    assert (len(names(index)), len(names(index, page="2")), len(names(index, page="3"))) == (PAGE, 3, 0)
    row = index.row("SELECT id FROM episode WHERE line = ?", [PAGE - 1])
    assert row is not None
    assert Filter.read({}).neighbours(index, row["id"])[:2] == (PAGE, PAGE + 3)


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"sort": "-nothing"}, "cannot sort by '-nothing'"),
        ({"sort": "e.id; DROP TABLE episode"}, "cannot sort by"),
        ({"step_min": "soon"}, "step_min must be a number, got 'soon'"),
        ({"step_min": "nan"}, "step_min must be a number"),
        ({"page": "1e99"}, "page must be a number"),
        ({"trouble": "much"}, "trouble must be one of tools, unreadable, any, none, got 'much'"),
    ],
)
def test_what_makes_no_sense_is_refused(query: dict[str, str], told: str) -> None:
    with pytest.raises(UserError, match=re.escape(told)):
        Filter.read(query)


def test_a_filter_goes_through_its_query_string() -> None:
    query = {
        "q": "a b",
        "run": "r&x",
        "step_min": "3",
        "sort": "-tokens",
        "group": "2",
        "part": "p",
        "page": "4",
    }
    text = Filter.read(query).query()
    assert text == "q=a+b&run=r%26x&part=p&group=2&step_min=3&sort=-tokens&page=4"
    assert Filter.read(query).query(page="", sort="") == "q=a+b&run=r%26x&part=p&group=2&step_min=3"


# --- Tokens ---------------------------------------------------------------------------------------------------


def test_tokens_of_byte_level_and_of_sentencepiece(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    vocab = {"Ġhi": 0, "ð": 1, "ŁĻĤ": 2, "Ċ": 3}
    added = [{"id": 4, "content": "<|end|>"}]
    path.write_text(
        json.dumps({"model": {"vocab": vocab}, "decoder": {"type": "ByteLevel"}, "added_tokens": added})
    )
    assert read_vocabulary(path).pieces([0, 1, 2, 3, 4, 99]) == [" hi", "", "🙂", "\n", "<|end|>", "⟨99⟩"]  # type: ignore[union-attr]
    pieces = [["<unk>", 0.0], ["▁hi", -1.0], ["<0xF0>", -2.0], ["<0x9F>", -2.0]]
    path.write_text(json.dumps({"model": {"vocab": pieces}, "decoder": {"type": "Sequence", "decoders": []}}))
    assert read_vocabulary(path).pieces([1, 2, 3]) == [" hi", "", "\ufffd"]  # type: ignore[union-attr]
    for text in ("nonsense", "{}", '{"model": {"vocab": {"a": []}}}', "[]"):
        path.write_text(text)
        assert read_vocabulary(path) is None
    assert pieces_of([5], None) == ["⟨5⟩"]


def test_a_run_gives_back_the_text_of_its_tokens(make_run: MakeRun) -> None:
    site = site_of(make_run())
    page = site.episode("calculator_agent-seed0-1", "rl-000001", "0", {"view": "who"})
    said = "".join(re.findall(r'<i(?: class="w")? title="[^"]*">([^<]*)</i>', page))
    assert "&lt;|im_start|&gt;user\nMia has " in said
    assert " pens are left?&lt;|im_end|&gt;" in said


def test_tokens_are_coloured_by_what_is_known() -> None:
    (line,) = lines("x")
    trajectory = Trajectory.from_json(line)
    vocabulary = Vocabulary({})
    sampled = trajectory.sampled_tokens
    given, ratios = [0.5] * sampled, [1.5] * sampled
    found = stretches(
        trajectory, vocabulary.pieces(trajectory.ids), "advantage", advantages=given, ratios=ratios
    )
    assert " ".join(part.title for part in found) == "context reply 1 context reply 2 context reply 3 context"
    assert {kind for part in found if part.sampled for kind, _, _ in part.tokens} == {"ap3"}
    assert {kind for part in found if not part.sampled for kind, _, _ in part.tokens} == {""}
    assert "advantage +0.500 · ratio 1.5000" in found[1].tokens[0][1]
    assert sum(len(part.tokens) for part in found) == len(trajectory.ids)
    page = stretches(trajectory, vocabulary.pieces(trajectory.ids), "who", first=60, last=65)
    assert sum(len(part.tokens) for part in page) == 5
    assert [probability_class(p) for p in (0.0, -0.2, -1.0, -2.0, -4.0, -9.0)] == [0, 1, 2, 3, 4, 5]
    assert [signed_class("a", v, 1.0) for v in (1.0, 0.2, 0.0, -0.5, -2.0)] == [
        "ap3",
        "ap1",
        "a0",
        "an2",
        "an3",
    ]


def test_where_no_advantage_is_stored_the_group_is_compared(make_run: MakeRun) -> None:
    folder = make_run()
    shown = site_of(folder).episode(folder.name, "rl-000001", "0", {})
    assert "<dt>advantage</dt>" in shown and "group mean" not in shown
    shutil.rmtree(folder / "credit")
    shown = site_of(folder).episode(folder.name, "rl-000001", "0", {"view": "advantage"})
    assert "reward − group mean</dt>" in shown
    assert "No advantages of this step are stored" in shown


def test_stored_credit_of_other_tokens_is_not_shown(make_run: MakeRun) -> None:
    folder = make_run()
    trajectory = Trajectory.from_json(
        (folder / "trajectories" / "rl-000001.jsonl").read_text().split("\n")[0]
    )
    assert read_credit(folder, "rl-000001", trajectory) is not None
    assert read_credit(folder, "rl-000002", trajectory) is None
    (folder / "credit" / "rl-000001.jsonl").write_text(f'{{"id":"{trajectory.id}","advantages":[[1,2]]}}\n')
    assert read_credit(folder, "rl-000001", trajectory) is None


# --- Comparing ------------------------------------------------------------------------------------------------


def test_what_changed_on_the_same_tasks(make_run: MakeRun) -> None:
    folder = make_run(evaluations={0: 0.2, 40: 0.9})
    index = indexed(folder)
    key = folder.name
    a, b = (key, "eval-before-000000"), (key, "eval-during-000040")

    def scores(place: tuple[str, str]) -> dict[str, float | None]:
        rows = index.rows("SELECT task, score FROM episode WHERE run = ? AND stem = ?", place)
        return {row["task"]: row["score"] for row in rows}

    before, after = scores(a), scores(b)
    better = {task for task in before if (after[task] or 0) > (before[task] or 0)}
    worse = {task for task in before if (after[task] or 0) < (before[task] or 0)}
    found = compare(index, a, b)
    assert {row["task"] for row in found.rows} == better | worse
    assert found.counts == {
        "all": 24,
        "better": len(better),
        "worse": len(worse),
        "same": 24 - len(better | worse),
        "ungraded": 0,
        "changed": len(better | worse),
        "only_a": 0,
        "only_b": 0,
    }
    assert found.before == pytest.approx(sum(v or 0 for v in before.values()) / 24)
    assert {row["task"] for row in compare(index, a, b, show="worse").rows} == worse
    assert compare(index, a, (key, "rl-000001")).counts["all"] == 0


def test_the_sign_test() -> None:
    assert sign_test(0, 0) is None
    assert sign_test(5, 5) == 1.0
    assert sign_test(6, 0) == 2 / 2**6
    assert sign_test(1, 7) == pytest.approx(2 * (1 + 8) / 2**8)


def test_a_folder_of_samples_is_shown_like_a_run(tmp_path: Path) -> None:
    (tmp_path / "samples.jsonl").write_text("".join(lines("one", "two")))
    index = indexed(tmp_path)
    assert names(index, phase="samples") == ["rl-1-0-0", "rl-1-0-1"]
