"""BM25 search over documents of one's own: an inverted index in memory, deterministic, without any dependency.

The ranking is that of Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), with
k1 = 1.2 and b = 0.75, and the inverse document frequency log(1 + (N - n + 0.5) / (n + 0.5)), which is never negative.
Documents of equal score come in the order of their ids.
"""

from __future__ import annotations

import array
import heapq
import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .errors import ToolError, UserError, nearest
from .tool import Tool, tool
from .toolkit import Toolkit

K1 = 1.2
"""How soon more occurrences of a word stop mattering."""
B = 0.75
"""How much longer documents are held against themselves."""
QUERY_WORDS = 64
"""Different words of a query that are looked at."""

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a corpus."""

    id: str
    """Unique in the corpus; the model names the document by it."""
    text: str
    """What is searched, and shown."""
    title: str = ""
    """Searched as well."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One result of a search."""

    document: Document
    """What was found."""
    score: float
    """BM25, above 0; comparable within one query only."""


def words(text: str) -> list[str]:
    """Return the words of a text as they are compared: case, width and accents do not count."""
    if not text.isascii():
        spread = unicodedata.normalize("NFKD", text)
        text = "".join(character for character in spread if not unicodedata.combining(character))
    return _WORD.findall(text.casefold())


class Corpus:
    """Documents and their index. Building it reads each once; it is not changed later and may be shared.

    Raises `UserError` for no documents, and for two of one id.
    """

    def __init__(self, documents: Iterable[Document]) -> None:
        self.documents: dict[str, Document] = {}
        lengths: list[int] = []
        places: dict[str, tuple[array.array[int], array.array[int]]] = {}
        for number, document in enumerate(documents):
            if document.id in self.documents:
                raise UserError(f"two documents have the id {document.id!r}")
            self.documents[document.id] = document
            found = words(f"{document.title}\n{document.text}")
            lengths.append(len(found))
            for word, count in Counter(found).items():
                where = places.setdefault(word, (array.array("I"), array.array("I")))
                where[0].append(number)
                where[1].append(count)
        if not self.documents:
            raise UserError("a corpus needs at least one document")
        self._places = places
        self._order = list(self.documents.values())
        mean = sum(lengths) / len(lengths) or 1.0
        self._norms = [K1 * (1 - B + B * length / mean) for length in lengths]

    @classmethod
    def from_rows(
        cls,
        rows: Iterable[Mapping[str, Any]],
        *,
        id: str = "id",  # noqa: A002
        text: str = "text",
        title: str | None = None,
    ) -> Corpus:
        """Make a corpus of rows; the arguments name their fields. Raises `UserError` for a row without one."""

        def made() -> Iterator[Document]:
            for number, row in enumerate(rows, 1):
                for name in filter(None, (id, text, title)):
                    if name not in row:
                        raise UserError(
                            f"row {number} of the corpus has no field {name!r}; {nearest(name, map(str, row))}"
                        )
                if not isinstance(row[text], str):
                    raise UserError(
                        f"row {number} of the corpus: {text!r} must be a text, got {row[text]!r:.60}"
                    )
                yield Document(str(row[id]), row[text], str(row[title]) if title else "")

        return cls(made())

    @classmethod
    def from_file(cls, path: str | Path, **fields: str) -> Corpus:
        """Make a corpus of a `.jsonl` file; the arguments are those of `from_rows`."""
        file = Path(path)

        def rows() -> Iterator[Mapping[str, Any]]:
            with file.open(encoding="utf-8") as lines:
                for number, line in enumerate(lines, 1):
                    if not line.strip():
                        continue
                    try:
                        row = json.loads(line)
                    except ValueError as error:
                        raise UserError(f"{file}, line {number}: no JSON: {error}") from None
                    if not isinstance(row, dict):
                        raise UserError(f"{file}, line {number}: must be an object, got {row!r:.60}")
                    yield row

        try:
            return cls.from_rows(rows(), **fields)
        except OSError as error:
            raise UserError(f"the corpus cannot be read: {error}") from error

    @classmethod
    def from_folder(cls, path: str | Path, pattern: str = "**/*.txt") -> Corpus:
        """Make a corpus of the text files of a folder; the id is the path in the folder."""
        folder = Path(path)
        files = sorted(file for file in folder.glob(pattern) if file.is_file())
        if not files:
            raise UserError(f"the folder {folder} has no files {pattern!r}")
        return cls(
            Document(file.relative_to(folder).as_posix(), file.read_text(encoding="utf-8", errors="replace"))
            for file in files
        )

    def __len__(self) -> int:
        """Number of documents."""
        return len(self._order)

    def search(self, query: str, limit: int = 5) -> list[Hit]:
        """Return the best documents for a query, the best first; those that share no word with it are left out."""
        scores: dict[int, float] = {}
        for word in list(dict.fromkeys(words(query)))[:QUERY_WORDS]:
            numbers, counts = self._places.get(word, ((), ()))
            if not numbers:
                continue
            rare = math.log(1 + (len(self) - len(numbers) + 0.5) / (len(numbers) + 0.5))
            for number, count in zip(numbers, counts, strict=True):
                gain = rare * count * (K1 + 1) / (count + self._norms[number])
                scores[number] = scores.get(number, 0.0) + gain
        best = heapq.nsmallest(
            limit, scores.items(), key=lambda item: (-round(item[1], 9), self._order[item[0]].id)
        )
        return [Hit(self._order[number], score) for number, score in best]


class Search(Toolkit):
    """The tools `search(query)` and, with `read`, `read(id)` over a corpus.

    A result is the id, the title and the piece of the text where most words of the query stand together. What the model
    has read is in the evidence: `read` and `found`, ids in the order of their first showing.

    Args:
        corpus: What is searched.
        results: Documents that one search shows.
        snippet: Characters of each.
        read: "tool" offers `read`, by which the model opens a document whole; "none" does not.
        pages: Characters of a document that one `read` shows.
    """

    def __init__(
        self,
        corpus: Corpus,
        *,
        results: int = 5,
        snippet: int = 300,
        read: Literal["tool", "none"] = "tool",
        pages: int = 4_000,
    ) -> None:
        if read not in ("tool", "none"):
            raise UserError(f"Search: read must be 'tool' or 'none', got {read!r}")
        for name, value in (("results", results), ("snippet", snippet), ("pages", pages)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(f"Search: {name} must be a whole number of at least 1, got {value!r}")
        self.corpus = corpus
        self._results, self._snippet, self._pages = results, snippet, pages
        self._with_read = read == "tool"

    @property
    def tools(self) -> tuple[Tool, ...]:
        """`search`, and `read` if it is offered."""
        return super().tools if self._with_read else super().tools[:1]

    async def open(self, setup: Mapping[str, Any]) -> None:
        """Begin with nothing found; see `Toolkit.open`."""
        self._found: dict[str, None] = {}
        self._seen: dict[str, None] = {}

    async def evidence(self) -> dict[str, Any]:
        """Return the ids of the documents that were found, and read, in the order of their first showing."""
        return {"found": list(self._found), "read": list(self._seen)}

    @tool(output_chars=20_000)
    def search(self, query: str) -> str:
        """Search the documents. Returns the ids of the best ones, each with a piece of its text.

        Args:
            query: A few words. Documents that hold more of them, and rarer ones, come first.
        """
        hits = self.corpus.search(query, self._results)
        if not hits:
            return "Nothing was found; try other words."
        self._found.update(dict.fromkeys(hit.document.id for hit in hits))
        return "\n".join(_shown(hit.document, query, self._snippet) for hit in hits)

    @tool(output_chars=20_000)
    def read(self, id: str, page: int = 1) -> str:  # noqa: A002
        """Read a document.

        Args:
            id: As a search gave it.
            page: Long documents have several, counted from 1.
        """
        document = self.corpus.documents.get(id)
        if document is None:
            raise ToolError(f"there is no document {id[:80]!r}; give an id as a search showed it")
        last = max(math.ceil(len(document.text) / self._pages), 1)
        if not 1 <= page <= last:
            raise ToolError(f"the document has pages 1 to {last}")
        self._seen[id] = None
        part = document.text[(page - 1) * self._pages : page * self._pages]
        head = f"{document.title}\n" if document.title else ""
        return f"{head}{part}" + (f"\n[page {page} of {last}]" if last > 1 else "")


def _shown(document: Document, query: str, size: int) -> str:
    title = f" {document.title}:" if document.title else ""
    return f"[{document.id}]{title} {snippet(document.text, query, size)}"


def snippet(text: str, query: str, size: int) -> str:
    """Return the piece of a text, of at most `size` characters and on one line, that holds most words of the query."""
    if len(text) <= size:
        return " ".join(text.split())
    wanted = set(words(query))
    places = [
        (match.start(), word)
        for match in _WORD.finditer(text)
        if (word := next(iter(words(match[0])), "")) in wanted
    ]
    best = start = first = 0
    inside: Counter[str] = Counter()
    for place, word in places:  # a window that slides over the words of the query
        inside[word] += 1
        while place - places[first][0] > size * 3 // 4:
            inside[places[first][1]] -= 1
            inside += Counter()  # forget what has left the window
            first += 1
        if len(inside) > best:
            best, start = len(inside), max(places[first][0] - size // 8, 0)
    start = min(start, len(text) - size)
    piece = " ".join(text[start : start + size].split())
    return ("... " if start else "") + piece + (" ..." if start + size < len(text) else "")
