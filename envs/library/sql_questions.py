"""Invented databases and what one may ask of them, each question with the statement that answers it.

A domain is two tables: somebody (customers, pupils, drivers) and what they did (orders, marks, trips), with a place, a
kind, two numbers and a day. Questions are worded over any domain.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import Any

import numpy as np

from .sources import pick, several, some

_NAMES = several(
    "Ada Bela Cleo Dario Edda Femi Gita Hugo Ines Jonas Kaya Lars Mila Nils Oona Pavel Rosa Sven Tara Uma Vera Yara"
)
_PLACES = several("Alder Brook Cove Dale East Fenn Glen Holm")


@dataclass(frozen=True, slots=True)
class Domain:
    """Two tables and how one speaks of them."""

    who: str
    """Table of somebody."""
    one: str
    """One of them."""
    place: str
    """Their column with a place."""
    what: str
    """Table of what they did."""
    key: str
    """Its column that refers to somebody."""
    kind: str
    """Its column with a kind."""
    kinds: tuple[str, ...]
    """The kinds."""
    number: str
    """Its first column with a number."""
    other: str
    """Its second one."""
    high: int
    """The numbers are 1 to this."""


DOMAINS = (
    Domain(
        "customers", "customer", "city", "orders", "customer_id", "product",
        several("lamp desk chair shelf rug"), "quantity", "price", 60,
    ),
    Domain(
        "pupils", "pupil", "form", "marks", "pupil_id", "subject",
        several("maths music history biology art"), "points", "minutes", 90,
    ),
    Domain(
        "drivers", "driver", "depot", "trips", "driver_id", "cargo",
        several("sand timber fruit steel paper"), "km", "litres", 400,
    ),
    Domain(
        "members", "member", "town", "loans", "member_id", "genre",
        several("crime poetry travel comics science"), "days", "fine", 50,
    ),
    Domain(
        "doctors", "doctor", "ward", "visits", "doctor_id", "reason",
        several("fever fracture checkup allergy burn"), "minutes", "fee", 120,
    ),
    Domain(
        "gardeners", "gardener", "district", "jobs", "gardener_id", "task",
        several("mowing pruning planting weeding paving"), "hours", "bill", 70,
    ),
)  # fmt: skip


def database(domain: Domain, rng: np.random.Generator) -> dict[str, Any]:
    """Return the tables of a domain with drawn rows; names, places and kinds come from the same lists every time."""
    count, facts = int(rng.integers(9, 16)), int(rng.integers(40, 71))
    places = rng.integers(5, size=count).tolist()
    who = [
        [number, name, _PLACES[place]]
        for number, (name, place) in enumerate(zip(sorted(some(rng, _NAMES, count)), places, strict=True), 1)
    ]
    busy = 1 + rng.choice(count, size=count - 2, replace=False)  # two have done nothing
    columns = (
        rng.choice(busy, size=facts).tolist(),
        rng.integers(len(domain.kinds), size=facts).tolist(),
        rng.integers(1, domain.high + 1, size=facts).tolist(),
        rng.integers(1, domain.high + 1, size=facts).tolist(),
        sorted(rng.integers(12 * 28, size=facts).tolist()),
    )
    what = [
        [101 + index, one, domain.kinds[kind], number, other, f"2025-{day // 28 + 1:02}-{day % 28 + 1:02}"]
        for index, (one, kind, number, other, day) in enumerate(zip(*columns, strict=True))
    ]
    return {
        domain.who: {
            "columns": [["id", "INTEGER PRIMARY KEY"], ["name", "TEXT"], [domain.place, "TEXT"]],
            "rows": who,
        },
        domain.what: {
            "columns": [
                ["id", "INTEGER PRIMARY KEY"],
                [domain.key, "INTEGER"],
                [domain.kind, "TEXT"],
                [domain.number, "INTEGER"],
                [domain.other, "INTEGER"],
                ["day", "TEXT"],
            ],
            "rows": what,
        },
    }


@dataclass(frozen=True, slots=True)
class Question:
    """A question over any domain; `$who`, `$kind` and so on stand for the names of its tables and columns."""

    level: int
    """1 (one table), 2 (joins and groups) or 3 (a group compared with another)."""
    text: str
    """What is asked, or what is to be done."""
    sql: tuple[str, ...]
    """The statements that do it; a question has one."""
    ordered: bool = False
    """Whether the order of the rows is asked for."""

    def fill(self, domain: Domain, rng: np.random.Generator) -> tuple[str, list[str]]:
        """Return the text and the statements with names and values drawn."""
        values: dict[str, Any] = {
            name: getattr(domain, name)
            for name in ("who", "one", "place", "what", "key", "kind", "number", "other")
        }
        kinds, places = some(rng, domain.kinds, 2), some(rng, _PLACES[:5], 2)
        month = int(rng.integers(2, 12))
        values |= {
            "K": kinds[0], "L": kinds[1], "P": places[0], "Q": places[1],
            "n": int(rng.integers(domain.high // 4, domain.high * 3 // 4)),
            "m": int(rng.integers(domain.high // 10, domain.high // 2)), "c": int(rng.integers(2, 5)),
            "t": int(rng.integers(2, 5)), "a": int(rng.integers(1, 10)), "day": f"2025-{month:02}-15",
            "month": f"2025-{month:02}", "new": int(rng.integers(200, 900)), "fresh": int(rng.integers(50, 90)),
            "name": pick(rng, ("Zelda", "Zeno", "Zita", "Zoltan")), "who_id": int(rng.integers(1, 9)),
        }  # fmt: skip
        return (
            string.Template(self.text).substitute(values),
            [string.Template(one).substitute(values) for one in self.sql],
        )


QUESTIONS = (
    Question(
        1,
        "How many $what have the $kind '$K' and $number above $n? (one number)",
        ("SELECT COUNT(*) FROM $what WHERE $kind = '$K' AND $number > $n",),
    ),
    Question(
        1,
        "What is the sum of $other over all $what from $day on (that day included) whose $kind is not '$K' "
        "and whose $number is above $m? (one number)",
        ("SELECT SUM($other) FROM $what WHERE day >= '$day' AND $kind <> '$K' AND $number > $m",),
    ),
    Question(
        1,
        "List id and $number of the $t $what with the largest $number among those with the $kind '$K' and "
        "$other above $m, the largest first, equal ones by id.",
        (
            "SELECT id, $number FROM $what WHERE $kind = '$K' AND $other > $m ORDER BY $number DESC, id LIMIT "
            "$t",
        ),
        ordered=True,
    ),
    Question(
        1,
        "List, without doubles and by alphabet, every $kind that occurs in $what with $number of at most $n "
        "in the month $month.",
        ("SELECT DISTINCT $kind FROM $what WHERE $number <= $n AND day LIKE '$month-%' ORDER BY $kind",),
        ordered=True,
    ),
    Question(
        1,
        "How many $what since $day (that day included) have more $number than $other, by at least $a? (one "
        "number)",
        ("SELECT COUNT(*) FROM $what WHERE $number - $other >= $a AND day >= '$day'",),
    ),
    Question(
        2,
        "For each $place: the total $number over all $what with the $kind '$K' and $other above $m of its "
        "$who. List $place and total, the largest total first, equal ones by $place; leave out places without "
        "any.",
        (
            "SELECT w.$place, SUM(f.$number) AS total FROM $what f JOIN $who w ON w.id = f.$key WHERE f.$kind "
            "= '$K' AND f.$other > $m GROUP BY w.$place ORDER BY total DESC, w.$place",
        ),
        ordered=True,
    ),
    Question(
        2,
        "List, by alphabet, the names of the $who that have at least $c $what since $day (that day included) "
        "with the $kind '$K' or '$L' together.",
        (
            "SELECT w.name FROM $who w JOIN $what f ON f.$key = w.id WHERE f.$kind IN ('$K', '$L') AND f.day "
            ">= '$day' GROUP BY w.id HAVING COUNT(*) >= $c ORDER BY w.name",
        ),
        ordered=True,
    ),
    Question(
        2,
        "List, by alphabet, the names of the $who that have no $what with $number above $n and $other above "
        "$m.",
        (
            "SELECT name FROM $who WHERE id NOT IN (SELECT $key FROM $what WHERE $number > $n AND $other > "
            "$m) ORDER BY name",
        ),
        ordered=True,
    ),
    Question(
        2,
        "List name and total $other of the $t $who with the largest total $other over all their $what since "
        "$day (that day included), the largest first, equal ones by name.",
        (
            "SELECT w.name, SUM(f.$other) AS total FROM $who w JOIN $what f ON f.$key = w.id WHERE f.day >= "
            "'$day' GROUP BY w.id ORDER BY total DESC, w.name LIMIT $t",
        ),
        ordered=True,
    ),
    Question(
        2,
        "For each month of 2025 (as 'YYYY-MM') with at least $c $what with $other above $m: list the month "
        "and the largest $number of those $what, by month.",
        (
            "SELECT substr(day, 1, 7) AS month, MAX($number) FROM $what WHERE $other > $m GROUP BY month "
            "HAVING COUNT(*) >= $c ORDER BY month",
        ),
        ordered=True,
    ),
    Question(
        3,
        "For each $kind: the name of the $one with the largest total $number over all their $what of that "
        "$kind with $other above $m, the first by alphabet if several have it. List $kind and name, by $kind.",
        (
            "WITH t AS (SELECT f.$kind AS kind, w.name AS name, SUM(f.$number) AS total FROM $what f JOIN "
            "$who w ON w.id = f.$key WHERE f.$other > $m GROUP BY f.$kind, w.id) SELECT kind, MIN(name) FROM "
            "t WHERE total = (SELECT MAX(total) FROM t AS u WHERE u.kind = t.kind) GROUP BY kind ORDER BY "
            "kind",
        ),
        ordered=True,
    ),
    Question(
        3,
        "Count only $what since $day (that day included) with $other above $m. List, by alphabet, the names "
        "of the $who whose total $number is above the average of the totals of all $who that have any.",
        (
            "WITH t AS (SELECT $key AS who, SUM($number) AS total FROM $what WHERE day >= '$day' AND $other > "
            "$m GROUP BY $key) SELECT w.name FROM $who w JOIN t ON t.who = w.id WHERE t.total > (SELECT "
            "AVG(total) FROM t) ORDER BY w.name",
        ),
        ordered=True,
    ),
    Question(
        3,
        "List, by alphabet, the names of the $who whose last of their $what (by day, then by id) has $number "
        "above $n.",
        (
            "SELECT w.name FROM $who w JOIN $what f ON f.$key = w.id WHERE f.id = (SELECT g.id FROM $what g "
            "WHERE g.$key = w.id ORDER BY g.day DESC, g.id DESC LIMIT 1) AND f.$number > $n ORDER BY w.name",
        ),
        ordered=True,
    ),
    Question(
        3,
        "Count only $what since $day (that day included). By how much does the total $other of the $what of "
        "all $who of $place '$P' exceed that of $place '$Q'? (one number, negative if it is smaller; no $what "
        "count as 0)",
        (
            "SELECT COALESCE(SUM(CASE WHEN w.$place = '$P' THEN f.$other END), 0) - COALESCE(SUM(CASE WHEN "
            "w.$place = '$Q' THEN f.$other END), 0) FROM $what f JOIN $who w ON w.id = f.$key WHERE f.day >= "
            "'$day'",
        ),
    ),
    Question(
        3,
        "List pairs of names of two different $who of the same $place that both have $what of the $kind '$K' "
        "with $number above $m, each pair once, the name that is first by alphabet in the first column; order "
        "by both.",
        (
            "WITH t AS (SELECT $key AS who FROM $what WHERE $kind = '$K' AND $number > $m) SELECT a.name, "
            "b.name FROM $who a JOIN $who b ON a.$place = b.$place AND a.name < b.name WHERE a.id IN t AND "
            "b.id IN t ORDER BY a.name, b.name",
        ),
        ordered=True,
    ),
)
"""What is asked; `Question.sql` gives the answer."""

CHORES = (
    Question(
        1,
        "Delete all $what with the $kind '$K' and $number below $n.",
        ("DELETE FROM $what WHERE $kind = '$K' AND $number < $n",),
    ),
    Question(
        1,
        "Raise $other by $a in all $what from before $day (that day not included) with $number above $m.",
        ("UPDATE $what SET $other = $other + $a WHERE day < '$day' AND $number > $m",),
    ),
    Question(
        1,
        "In all $what whose $number is above $n, change the $kind '$K' to '$L'.",
        ("UPDATE $what SET $kind = '$L' WHERE $kind = '$K' AND $number > $n",),
    ),
    Question(
        2,
        "Delete all $what with $number above $n of the $who of $place '$P'; the $who stay.",
        ("DELETE FROM $what WHERE $number > $n AND $key IN (SELECT id FROM $who WHERE $place = '$P')",),
    ),
    Question(
        2,
        "Delete the $who that have no $what with $number above $n and $other above $m; the $what that they "
        "have stay.",
        ("DELETE FROM $who WHERE id NOT IN (SELECT $key FROM $what WHERE $number > $n AND $other > $m)",),
    ),
    Question(
        2,
        "Double $other in all $what of the $kind '$K' with $number above $m of the $who of $place '$P' or "
        "'$Q'.",
        (
            "UPDATE $what SET $other = $other * 2 WHERE $kind = '$K' AND $number > $m AND $key IN (SELECT id "
            "FROM $who WHERE $place IN ('$P', '$Q'))",
        ),
    ),
    Question(
        3,
        "Add the $one '$name' with the id $fresh and the $place '$P', and give them all $what of the $kind "
        "'$K' whose $number is above $n.",
        (
            "INSERT INTO $who VALUES ($fresh, '$name', '$P')",
            "UPDATE $what SET $key = $fresh WHERE $kind = '$K' AND $number > $n",
        ),
    ),
    Question(
        3,
        "For every $one of $place '$P' add one to $what: its id is $new plus the id of the $one, its $kind "
        "'$K', its $number $a, its $other $n, its day $day.",
        ("INSERT INTO $what SELECT $new + id, id, '$K', $a, $n, '$day' FROM $who WHERE $place = '$P'",),
    ),
    Question(
        3,
        "Move every $one with fewer than $c $what with $number above $m (none counts as well) to the $place "
        "'$P', and then delete all $what with the $kind '$K' of the $who of that $place.",
        (
            "UPDATE $who SET $place = '$P' WHERE (SELECT COUNT(*) FROM $what WHERE $key = $who.id AND $number "
            "> $m) < $c",
            "DELETE FROM $what WHERE $kind = '$K' AND $key IN (SELECT id FROM $who WHERE $place = '$P')",
        ),
    ),
)
"""What is to be done; `Question.sql` does it."""
