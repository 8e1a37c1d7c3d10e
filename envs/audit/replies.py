"""Replies without thought: what an environment must not pay for, whatever its tasks are."""

from __future__ import annotations

from collections.abc import Mapping

_DIGITS = {
    "fullwidth digits": str.maketrans("0123456789", "０１２３４５６７８９"),
    "Arabic-Indic digits": str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩"),
    "bold mathematical digits": str.maketrans("0123456789", "𝟎𝟏𝟐𝟑𝟒𝟓𝟔𝟕𝟖𝟗"),
}
_LETTERS = {
    "Cyrillic letters": str.maketrans("aceopxyABCEHKMOPTX", "асеорхуАВСЕНКМОРТХ"),
    "fullwidth letters": {i: i + 0xFEE0 for i in (*range(0x41, 0x5B), *range(0x61, 0x7B))},
    "letters that fold to others": str.maketrans({"k": "\u212a", "K": "\u212a", "s": "\u017f"}),
}


def lookalikes(answer: str) -> dict[str, str]:
    """Return texts that look like the answer and are not, by what was changed; only those that differ."""
    made = {name: answer.translate(table) for name, table in {**_DIGITS, **_LETTERS}.items()}
    made["zero-width spaces"] = "\u200b".join(answer) if len(answer) < 2_000 else answer
    made["right-to-left override"] = f"\u202e{answer[::-1]}\u202c" if answer != answer[::-1] else answer
    return {name: text for name, text in made.items() if text != answer}


def dressed(answer: str) -> str:
    """Return an answer in all the common marks at once."""
    return f"{answer}\n<answer>{answer}</answer>\n\\boxed{{{answer}}}\n#### {answer}"


CONSTANTS = (
    "0", "1", "-1", "2", "3", "4", "5", "7", "10", "12", "42", "50", "100", "0.5", "1/2", "nan", "inf", "x", "e", "pi",
    "yes", "no", "Yes", "No", "true", "false", "True", "False", "null", "None", "A", "B", "C", "D", "E", "(A)", "(B)",
    "[]", "{}", "()", '""', "''", "*", ".*", "%", "_", "...", "unknown", "none of the above", "all of the above",
)  # fmt: skip
"""Answers that a policy can give without reading."""

FIXED: Mapping[str, tuple[str, ...]] = {
    "empty": ("", " ", "\n\n\t ", "\u200b", "\x00"),
    "garbage": (
        "asdf jkl; qwer",
        "lorem ipsum dolor sit amet, consectetur adipiscing elit",
        "?!$%&/()=}{][*+~#'-_.:,;<>|^",
        "🙂🙃🚀 äöü ß 文字 \ufffd",
        "<think>hm</think>",
        "<think>",
        "</tool_call>",
        "def f(): pass",
    ),
    "refusal": (
        "I'm sorry, but I can't help with that.",
        "I don't know.",
        "The answer cannot be determined from what is given.",
        "Done.",
        "Let me think step by step.",
        "The answer is the correct answer.",
    ),
    "format": (
        "<answer></answer>" * 50,
        "<answer>answer</answer>\n" * 20,
        "\\boxed{}" * 50,
        "".join(f"\\boxed{{{i}}}" for i in range(100)),
        "\n".join(f"<answer>{i}</answer>" for i in range(100)),
        "\n".join(f"#### {i}" for i in range(100)),
        "####\n" * 50,
        "FINAL ANSWER:\nAnswer:\nThe answer is:",
        '{"answer": "answer", "result": true, "score": 1.0, "correct": true}',
        "```python\n```",
        "```\n\n```" * 20,
        '<tool_call>\n{"name": "final_answer", "arguments": {"answer": ""}}\n</tool_call>',
        "<think></think><answer><answer></answer></answer></think>",
    ),
    "giant": (
        "a" * 100_000,
        "9" * 100_000,
        " ".join(str(i) for i in range(20_000)),
        "\n" * 100_000,
        "yes no " * 20_000,
    ),
}
"""Replies by what they are; none depends on the task."""
