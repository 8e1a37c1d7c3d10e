"""Two thousand labelled answers of every kind, in the places of a reply where answers stand.

`math_rows.txt` holds a kind in brackets and under it lines `+ gold :: answer` (right) and `- gold :: answer`
(wrong). They were written without looking at what the verifier says; those of the kind `replies` are whole
replies, in which a turned arrow is a new line.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from quintain.verifiers import MathAnswer, Task

FRAMES = [
    "Working it out, the answer is $\\boxed{%s}$.",
    "We start from the given data. After 3 rewrites everything collapses.\n\n\\[ \\boxed{%s} \\]",
    "<think>\nA first guess would be $12$. Wait.\n</think>\n\n**Final Answer**\n\n$$\\boxed{%s}$$",
    "Counting carefully, there are 4 choices at the first step. The final answer is $%s$.",
]
BOXED_ONLY = {"adv_empty", "adv_injection", "malformed_latex", "boxed_extraction"}


def kinds() -> dict[str, list[tuple[bool, str, str]]]:
    found: dict[str, list[tuple[bool, str, str]]] = {}
    for line in Path(__file__).with_name("math_rows.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            kind = found.setdefault(line.strip("[]"), [])
        else:
            gold, _, answer = line[2:].partition(" ::")
            kind.append((line[0] == "+", gold, answer.removeprefix(" ").replace("\\u200b", "\u200b")))
    return found


KINDS = kinds()


@pytest.mark.parametrize("kind", KINDS)
def test_every_labelled_answer_gets_its_label(kind: str) -> None:
    judge = MathAnswer()
    wrong = []
    for index, (right, gold, answer) in enumerate(KINDS[kind]):
        frames = FRAMES[:3] if kind in BOXED_ONLY or "$" in answer or "\\(" in answer else FRAMES
        reply = answer.replace("⏎", "\n")
        if kind != "replies":
            reply = frames[index % len(frames)].replace("%s", answer)
        score = judge(reply, Task("t", "", gold))
        if not score.graded or (score.value == 1) != right:
            wrong.append((gold, answer, score.reason))
    assert not wrong


def test_there_are_many_of_them() -> None:
    rows = [row for rows in KINDS.values() for row in rows]
    assert len(rows) > 2000
    assert len(KINDS) >= 31
    assert 0.3 < sum(right for right, _, _ in rows) / len(rows) < 0.6
