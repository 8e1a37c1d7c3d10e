"""BM25 search: exact scores, a fixed order, ids that lead to documents, bounded results."""

from __future__ import annotations

import math

import pytest

from quintain.envs import ToolEnv
from quintain.tools import Corpus, Document, Hermes, Search, ToolCall, UserError
from quintain.tools.search import snippet, words
from quintain.verifiers import Score, Task, Verifier

CORPUS = Corpus(
    [
        Document("bee", "Bees make honey. A bee visits many flowers.", "Bees"),
        Document("bear", "Bears eat honey and fish."),
        Document("fish", "Fish live in water; some fish fly."),
        Document("cafe", "Le café sert du miel.", "Café"),
    ]
)


def ids(query: str, limit: int = 5) -> list[str]:
    return [hit.document.id for hit in CORPUS.search(query, limit)]


def test_the_score_is_bm25():
    (hit,) = CORPUS.search("flowers")
    lengths = [9, 5, 7, 6]  # with the titles
    norm = 1.2 * (1 - 0.75 + 0.75 * 9 / (sum(lengths) / 4))
    assert hit.score == pytest.approx(math.log(1 + (4 - 1 + 0.5) / 1.5) * 2.2 / (1 + norm))


def test_more_and_rarer_words_come_first():
    assert ids("fish") == ["fish", "bear"]
    assert ids("honey fish") == ["bear", "fish", "bee"]
    assert ids("honey", limit=1) == ["bear"]
    assert ids("nothing of this") == []
    assert ids("") == []


def test_case_width_and_accents_do_not_count():
    assert ids("CAFE") == ids("café") == ids("ｃａｆé") == ["cafe"]
    assert words("L'Été, 3 Straße") == ["l", "ete", "3", "strasse"]


def test_documents_of_equal_score_come_in_the_order_of_their_ids():
    same = Corpus([Document(name, "the same words") for name in ("c", "a", "b")])
    assert [hit.document.id for hit in same.search("words")] == ["a", "b", "c"]


def test_a_query_of_many_words_is_bounded():
    assert ids(" ".join(f"w{n}" for n in range(10_000)) + " honey") == []


def test_a_snippet_is_the_piece_with_most_words_of_the_query():
    text = "filler " * 200 + "the queen bee lays eggs " + "filler " * 200
    shown = snippet(text, "queen eggs", 80)
    assert "queen bee lays eggs" in shown
    assert shown.startswith("... ")
    assert shown.endswith(" ...")
    assert len(shown) <= 88


class ReadBear(Verifier):
    def score(self, episode):
        return Score(float(episode.evidence == {"found": ["bear", "bee"], "read": ["bear"]}))


def test_an_episode_of_searching_and_reading():
    made = ToolEnv([Task("t", "What do bears eat?", "honey")], [Search(CORPUS, results=2)], ReadBear())
    for _ in range(2):  # what one episode found is not in the next
        made.reset(seed=0)
        seen = [
            made.step(Hermes().render("", None, [ToolCall("", name, arguments)]))[0]
            for name, arguments in [
                ("search", {"query": "honey"}),
                ("read", {"id": "bear"}),
                ("read", {"id": "wolf"}),
                ("read", {"id": "bear", "page": 2}),
                ("search", {"query": "zebra"}),
            ]
        ]
        assert seen == [
            "[bear] Bears eat honey and fish.\n[bee] Bees: Bees make honey. A bee visits many flowers.",
            "Bears eat honey and fish.",
            "Error: there is no document 'wolf'; give an id as a search showed it",
            "Error: the document has pages 1 to 1",
            "Nothing was found; try other words.",
        ]
        assert made.step("Honey.")[1] == 1.0


def test_a_long_document_has_pages():
    corpus = Corpus([Document("long", "a" * 25)])
    kit = Search(corpus, pages=10).fresh()
    kit._seen = {}
    assert kit.read.function(id="long", page=3) == "aaaaa\n[page 3 of 3]"


def test_without_read_there_is_one_tool():
    assert [tool.name for tool in Search(CORPUS, read="none").tools] == ["search"]


def test_a_corpus_comes_from_rows_files_and_folders(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"id": 1, "text": "one"}\n\n{"id": 2, "text": "two"}\n')
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.txt").write_text("one")
    assert list(Corpus.from_file(tmp_path / "rows.jsonl").documents) == ["1", "2"]
    assert list(Corpus.from_folder(tmp_path).documents) == ["deep/a.txt"]
    rows = [{"key": "k", "body": "b", "head": "h"}]
    assert Corpus.from_rows(rows, id="key", text="body", title="head").documents["k"].title == "h"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Corpus([]), "a corpus needs at least one document"),
        (lambda: Corpus([Document("a", ""), Document("a", "")]), "two documents have the id 'a'"),
        (
            lambda: Corpus.from_rows([{"id": 1, "txt": ""}]),
            "row 1 of the corpus has no field 'text'; did you mean",
        ),
        (
            lambda: Corpus.from_rows([{"id": 1, "text": 3}]),
            "row 1 of the corpus: 'text' must be a text, got 3",
        ),
        (lambda: Corpus.from_file("/no/such/file"), "the corpus cannot be read"),
        (lambda: Corpus.from_folder("/no/such"), "has no files"),
        (lambda: Search(CORPUS, results=0), "results must be a whole number of at least 1, got 0"),
        (lambda: Search(CORPUS, read="all"), "read must be 'tool' or 'none', got 'all'"),
    ],
)
def test_what_makes_no_corpus_is_told(make, said):
    with pytest.raises(UserError, match=said):
        make()
