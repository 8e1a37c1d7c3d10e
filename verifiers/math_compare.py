"""Whether an answer is the gold answer: what kind of thing the gold is decides how the two are compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from .math_equal import STRICT, Decider, Rules, constant, same
from .math_evaluate import NoNumber, NotRational, TooLarge, Undefined, exact, sample_point
from .math_meaning import applies, divides, is_derivation, meaning, of_x, rows_of, unlabelled_point
from .math_nodes import (
    Call,
    Const,
    Group,
    Matrix,
    Modulo,
    Node,
    Num,
    Relation,
    SetOp,
    Several,
    Sym,
    Text,
    symbols,
    walk,
    works,
)
from .math_quantity import harmonised, proportional, same_units, split_units, unit_text
from .math_sets import FLIPPED, INEQUALITIES, region, same_regions
from .math_settle import assignment, bare, in_order, named, residue, settled, vector


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a comparison."""

    equal: bool
    """Whether the answer counts as right."""
    why: str
    """`equal`, or in a few words what differs."""


EQUAL = Verdict(True, "equal")
DIFFERENT = Verdict(False, "different")


def compare(gold: Node, answer: Node, rules: Rules = STRICT, decide: Decider | None = None) -> Verdict:
    """Compare two trees.

    Raises `TooLargeToCompare` where values beyond the budgets would have to be compared.
    """
    return _Comparison(rules, decide).run(settled(gold), settled(answer))


class _Comparison:
    def __init__(self, rules: Rules, decide: Decider | None) -> None:
        self.rules = rules
        self.decide = decide

    def run(self, gold: Node, answer: Node) -> Verdict:
        if isinstance(answer, Relation) and self._tautology(answer):
            if is_derivation(gold, answer):
                return self.run(gold, settled(answer.sides[-1]))
            return Verdict(False, "a tautology says nothing")
        if gold == answer:
            return EQUAL
        if not self.rules.unfinished and (extra := Counter(works(answer)) - Counter(works(gold))):
            return Verdict(False, f"the answer leaves work undone: {', '.join(sorted(extra))}")
        if isinstance(gold, Text) or isinstance(answer, Text):
            one, other = meaning(gold), meaning(answer)
            if one is not None and other is not None:
                return self.run(one, other)
            return Verdict(False, "words against an expression")
        if isinstance(gold, Modulo) or isinstance(answer, Modulo):
            return self._modulo(gold, answer)
        if isinstance(gold, Relation) or isinstance(answer, Relation):
            return self._relations(gold, answer)
        if isinstance(gold, Several) or isinstance(answer, Several):
            return self._lists(gold, answer)
        if _is_set(gold) or _is_set(answer):
            return self._sets(gold, answer)
        if isinstance(gold, Group | Matrix) or isinstance(answer, Group | Matrix):
            return self._sequences(gold, answer)
        return self._quantities(gold, answer)

    def _same(self, gold: Node, answer: Node) -> bool:
        try:
            return same(gold, answer, self.rules, self.decide)
        except NoNumber:
            return False

    # --- relations

    def _tautology(self, relation: Relation) -> bool:
        if relation.ops != ("=",) * len(relation.ops):
            return False
        sides = relation.sides
        if all(side == sides[0] for side in sides[1:]):
            return True
        if not any(symbols(side) for side in sides) or len(sides) != 2:
            return False
        return not isinstance(sides[0], Group) and self._same(sides[0], sides[1])

    def _relations(self, gold: Node, answer: Node) -> Verdict:
        if isinstance(gold, Relation) and isinstance(answer, Relation):
            return self._both_relations(gold, answer)
        if isinstance(gold, Relation):
            if isinstance(answer, Several) and (found := self._as_regions(gold, answer)) is not None:
                return found
            named = assignment(gold, broad=True)
            if named is not None:
                return self.run(settled(named[1]), answer)
            if gold.ops == ("in",):
                return self.run(gold.sides[1], answer)
            return self._as_regions(gold, answer) or Verdict(False, "no relation where one is wanted")
        assert isinstance(answer, Relation)
        if isinstance(gold, Several) and (found := self._as_regions(gold, answer)) is not None:
            return found
        if not any(symbols(side) or applies(side) for side in answer.sides) and set(answer.ops) <= {
            "=",
            "approx",
        }:
            if "approx" in answer.ops:
                return self._approximated(gold, answer)
            verdicts = [self.run(gold, side) for side in answer.sides]
            return next((v for v in verdicts if not v.equal), EQUAL)
        named = assignment(answer)
        if named is not None:
            return self.run(gold, settled(named[1]))
        if answer.ops == ("in",):
            return self.run(gold, settled(answer.sides[1]))
        return self._as_regions(gold, answer) or Verdict(False, "a relation where none is wanted")

    def _approximated(self, gold: Node, answer: Relation) -> Verdict:
        """Judge `\\sqrt{2} \\approx 1.414`: one end is the gold, and the other is near it."""
        first, last = constant(answer.sides[0]), constant(answer.sides[-1])
        if first is None or last is None or abs(first - last) > Fraction(1, 100) * abs(first):
            return Verdict(False, "both sides of an approximation must be near each other")
        verdicts = [self.run(gold, side) for side in (answer.sides[0], answer.sides[-1])]
        return EQUAL if any(v.equal for v in verdicts) else DIFFERENT

    def _both_relations(self, gold: Relation, answer: Relation) -> Verdict:
        wanted, given = assignment(gold, broad=True), assignment(answer, broad=True)
        if wanted is not None and given is not None and given[0] == Sym("y") and of_x(wanted[0]):
            return self.run(settled(wanted[1]), settled(given[1]))  # f(x) = ... as y = ...
        if wanted is not None and given is not None and wanted[0] == given[0]:
            verdict = self.run(settled(wanted[1]), settled(given[1]))
            if verdict.equal or not symbols(wanted[1]):
                return verdict
        elif wanted is not None and not symbols(wanted[1]) and isinstance(wanted[0], Sym):
            if given is not None and _alike(wanted[0], given[0]):
                return self.run(settled(wanted[1]), settled(given[1]))
            return Verdict(False, "the equation is not solved" if given is None else "another letter")
        regions = self._as_regions(gold, answer)
        if regions is not None:
            return regions
        return self._rearranged(gold, answer)

    def _as_regions(self, gold: Node, answer: Node) -> Verdict | None:
        inequality = any(
            isinstance(n, Relation) and (set(n.ops) & (INEQUALITIES | {"in"}))
            for s in (gold, answer)
            for n in walk(s)
        )
        if not inequality:
            return None
        one, other = region(gold), region(answer)
        if one is None or other is None:
            return None
        if (
            one.name
            and other.name
            and one.name != other.name
            and symbols(gold) == symbols(answer) != {one.name}
        ):
            return None  # a < b, solved for another letter
        return EQUAL if same_regions(one, other, self.rules) else DIFFERENT

    def _rearranged(self, gold: Relation, answer: Relation) -> Verdict:
        """Compare two-sided relations up to a factor: any but zero for equations, a positive one otherwise."""
        if len(gold.ops) != len(answer.ops):
            return DIFFERENT
        if len(gold.ops) > 1:
            return self._chains(gold, answer)
        op, other = gold.ops[0], answer.ops[0]
        flips = op == FLIPPED.get(other) and op != other
        if op != other and not flips:
            return Verdict(False, f"{op} against {other}")
        if op in {"in", "notin", "to", "implies"} or any(
            isinstance(s, Group | Text) for s in gold.sides + answer.sides
        ):
            pairs = zip(gold.sides, answer.sides, strict=True)
            return next(
                (v for v in (self.run(settled(a), settled(b)) for a, b in pairs) if not v.equal), EQUAL
            )
        one = Call("add", (gold.sides[0], Call("neg", (gold.sides[1],))))
        two = Call("add", (answer.sides[0], Call("neg", (answer.sides[1],))))
        if proportional(one, two, sign=0 if op in {"=", "!=", "equiv"} else -1 if flips else 1):
            return EQUAL
        if op == "=" and (self._substituted(gold, two) or self._substituted(answer, one)):
            return EQUAL
        return DIFFERENT

    def _chains(self, gold: Relation, answer: Relation) -> Verdict:
        for sides, ops in (
            (answer.sides, answer.ops),
            (answer.sides[::-1], tuple(FLIPPED.get(op, op) for op in answer.ops[::-1])),
        ):
            if ops == gold.ops and all(self._same(a, b) for a, b in zip(gold.sides, sides, strict=True)):
                return EQUAL
        return DIFFERENT

    def _substituted(self, solved: Relation, difference: Node) -> bool:
        """Whether `y = ...` put into the other equation, which is linear in `y`, makes it hold."""
        named = assignment(solved)
        if named is None or not isinstance(named[0], Sym):
            return False
        name = named[0].name
        names = symbols(difference) | symbols(named[1])
        if name not in symbols(difference) or name in symbols(named[1]):
            return False
        slopes = set()
        for index in range(3):
            point = sample_point(names, index)
            try:
                value = exact(named[1], point)
                at = [exact(difference, {**point, name: value + step}) for step in range(3)]
            except (NotRational, Undefined, TooLarge, NoNumber):
                return False
            if at[0] or not at[1] or at[2] != 2 * at[1]:
                return False
            slopes.add(at[1])
        # A factor with letters is another curve, (y - x^2)(x - 1) = 0, unless it is a denominator: xy = 1
        return len(slopes) == 1 or divides(named[1]) or divides(difference)

    # --- several answers

    def _lists(self, gold: Node, answer: Node) -> Verdict:
        if isinstance(answer, Several) and not isinstance(gold, Several | Group | SetOp | Matrix):
            if isinstance(gold, Const) and region(gold) is not None:
                return self._as_regions(gold, answer) or DIFFERENT
            if all(self.run(gold, settled(item)).equal for item in answer.items):
                return EQUAL
            return Verdict(False, f"hedged: {len(answer.items)} answers where one is wanted")
        found = self._as_regions(gold, answer)
        if found is not None:
            return found
        if isinstance(gold, Several) and isinstance(answer, Several):
            return self._named_lists(gold, answer)
        if isinstance(gold, Several):
            if isinstance(answer, Group) and answer.left == "(" and named(gold.items) is not None:
                return self._ordered(in_order(gold.items), answer.items)
            if isinstance(answer, Group) and answer.left == "{":
                return self._unordered(gold.items, answer.items)
            if isinstance(answer, Group) and len(answer.items) != 2:
                return self._ordered(in_order(gold.items), answer.items)
            if isinstance(answer, Matrix) or not isinstance(answer, Group):
                return Verdict(False, f"one answer where {len(gold.items)} are wanted")
            return DIFFERENT
        assert isinstance(answer, Several)
        if isinstance(gold, Group) and gold.left == "{":
            return self._unordered(gold.items, bare(answer.items))
        if isinstance(gold, Group) and gold.left + gold.right in {"()", "[]"} and answer.joined != "or":
            return self._ordered(gold.items, in_order(answer.items))
        return DIFFERENT

    def _named_lists(self, gold: Several, answer: Several) -> Verdict:
        wanted, given = named(gold.items), named(answer.items)
        if wanted is not None and given is not None and set(wanted) == set(given):
            pairs = ((wanted[name], given[name]) for name in wanted)
            return next(
                (v for v in (self.run(settled(a), settled(b)) for a, b in pairs) if not v.equal), EQUAL
            )
        if any(n == Sym("dots") for item in gold.items for n in walk(item)):
            return self._ordered(gold.items, answer.items)
        if wanted is not None and given is None:
            letters = {str(name).split("_")[0] for name in wanted}
            bare = tuple(wanted.values())
            if len(letters) > 1:
                return self._ordered(bare, answer.items)
            return self._unordered(bare, answer.items)
        if wanted is None and given is not None:
            return self._unordered(gold.items, tuple(given.values()))
        if self.rules.ordered_lists:
            return self._ordered(gold.items, answer.items)
        return self._unordered(gold.items, answer.items)

    def _ordered(self, gold: Sequence[Node], answer: Sequence[Node]) -> Verdict:
        if len(gold) != len(answer):
            return Verdict(False, f"{len(answer)} entries where {len(gold)} are wanted")
        for a, b in zip(gold, answer, strict=True):
            if not self.run(settled(a), settled(b)).equal:
                return DIFFERENT
        return EQUAL

    def _unordered(self, gold: Sequence[Node], answer: Sequence[Node]) -> Verdict:
        wanted, given = self._distinct(gold), self._distinct(answer)
        if len(wanted) != len(given):
            return Verdict(False, f"{len(given)} answers where {len(wanted)} are wanted")
        if len(wanted) > 200:
            return self._ordered(wanted, given)
        for item in wanted:
            index = next((i for i, g in enumerate(given) if self.run(settled(item), settled(g)).equal), None)
            if index is None:
                return DIFFERENT
            del given[index]
        return EQUAL

    def _distinct(self, items: Sequence[Node]) -> list[Node]:
        distinct: list[Node] = []
        for item in items[:200]:
            if not any(item == other or self.run(settled(item), settled(other)).equal for other in distinct):
                distinct.append(item)
        return distinct

    # --- sets, tuples, matrices

    def _sets(self, gold: Node, answer: Node) -> Verdict:
        if isinstance(gold, Group) and isinstance(answer, Group) and gold.left == answer.left == "{":
            return self._unordered(gold.items, answer.items)
        if any(isinstance(n, Group) and n.left == "{|" and len(n.items) > 1 for n in (gold, answer)):
            if isinstance(gold, Group) and isinstance(answer, Group) and gold.left == answer.left:
                return self._ordered(gold.items, answer.items)
            return Verdict(False, "not the same kind of set")
        one, other = region(gold), region(answer)
        if one is None or other is None:
            if gold == answer:
                return EQUAL
            if isinstance(gold, Group) and gold.left == "{" and len(gold.items) == 1:
                return self.run(settled(gold.items[0]), answer)
            if isinstance(answer, Group) and answer.left == "{" and len(answer.items) == 1:
                return self.run(gold, settled(answer.items[0]))
            if isinstance(gold, SetOp) and isinstance(answer, SetOp) and gold.op == answer.op:
                left, right = self.run(gold.left, answer.left), self.run(gold.right, answer.right)
                return EQUAL if left.equal and right.equal else DIFFERENT
            return Verdict(False, "not the same kind of set")
        return EQUAL if same_regions(one, other, self.rules) else DIFFERENT

    def _sequences(self, gold: Node, answer: Node) -> Verdict:
        gold, answer = unlabelled_point(gold), unlabelled_point(answer)
        if isinstance(gold, Matrix) and isinstance(answer, Matrix):
            if [len(row) for row in gold.rows] != [len(row) for row in answer.rows]:
                return Verdict(False, "matrices of different shape")
            pairs = [
                (a, b) for r, s in zip(gold.rows, answer.rows, strict=True) for a, b in zip(r, s, strict=True)
            ]
            return self._ordered([a for a, _ in pairs], [b for _, b in pairs])
        if isinstance(gold, Group) and isinstance(answer, Group):
            if len(gold.items) == 2 and (gold.left, gold.right) != (answer.left, answer.right):
                return Verdict(False, "other ends")
            return self._ordered(gold.items, answer.items)
        for one, other in ((gold, answer), (answer, gold)):
            if isinstance(one, Matrix) and isinstance(other, Group) and (entries := vector(one)) is not None:
                return self._ordered(entries, other.items)
            if isinstance(one, Matrix) and isinstance(other, Group) and (rows := rows_of(other)) is not None:
                return self._sequences(one, Matrix(rows))
        return Verdict(False, "not the same kind of thing")

    def _modulo(self, gold: Node, answer: Node) -> Verdict:
        if isinstance(gold, Modulo) and isinstance(answer, Modulo):
            if not self._same(gold.modulus, answer.modulus):
                return Verdict(False, "another modulus")
            return self._residues(gold, answer)
        inner_gold = gold.item if isinstance(gold, Modulo) else gold
        inner_answer = answer.item if isinstance(answer, Modulo) else answer
        return self.run(residue(inner_gold), residue(inner_answer))

    def _residues(self, gold: Modulo, answer: Modulo) -> Verdict:
        one, other = residue(gold.item), residue(answer.item)
        try:
            modulus = exact(gold.modulus, {})
            difference = exact(one, {}) - exact(other, {})
        except (NotRational, Undefined, TooLarge, NoNumber):
            return self.run(one, other)
        return EQUAL if modulus and (difference / modulus).denominator == 1 else DIFFERENT

    # --- expressions with units

    def _quantities(self, gold: Node, answer: Node) -> Verdict:
        if (
            isinstance(gold, Call)
            and gold.name == "ratio"
            and isinstance(answer, Call)
            and answer.name == "ratio"
        ):
            return self._ratios(gold, answer)
        answer = harmonised(gold, answer)
        gold = harmonised(answer, gold)
        value, unit = split_units(gold)
        given, given_unit = split_units(answer)
        if unit and not given_unit and self.rules.require_units:
            return Verdict(False, "the unit is missing")
        if self.rules.units and unit and given_unit and not same_units(unit, given_unit):
            return Verdict(False, f"another unit: {unit_text(given_unit)} for {unit_text(unit)}")
        if self._same(value, given):
            return EQUAL
        if self.rules.percent_as_number and not symbols(gold) and not symbols(answer):
            hundred = Num(Fraction(100))
            if self._same(Call("mul", (value, hundred)), given) or self._same(
                Call("div", (value, hundred)), given
            ):
                return EQUAL
        return DIFFERENT

    def _ratios(self, gold: Call, answer: Call) -> Verdict:
        if len(gold.args) != len(answer.args):
            return DIFFERENT
        first, given = gold.args[0], answer.args[0]
        for a, b in zip(gold.args[1:], answer.args[1:], strict=True):
            if not self._same(Call("mul", (first, b)), Call("mul", (given, a))):
                return DIFFERENT
        zeros = (Num(Fraction(0)),)
        return DIFFERENT if any(arg in zeros for arg in (*gold.args, *answer.args)) else EQUAL


def _alike(one: Node, other: Node) -> bool:
    """Whether two names may stand for the same unknown: one is a description rather than a letter."""
    return one == other or any(not isinstance(n, Sym) or n.name.startswith("text:") for n in (one, other))


def _is_set(node: Node) -> bool:
    return (
        isinstance(node, SetOp)
        or (isinstance(node, Group) and node.left.startswith("{"))
        or (isinstance(node, Const) and node.name not in {"pi", "e", "i", "inf"})
    )
