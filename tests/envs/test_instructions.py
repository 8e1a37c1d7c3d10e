"""Instruction environments: what is followed is paid for, and nothing that is written without reading or copied."""

from __future__ import annotations

import json

import numpy as np
import pytest

from quintain.envs import make
from quintain.envs.library.ifeval import OwnWords, is_sound
from quintain.envs.library.obedient import obedient
from quintain.tools import UserError
from quintain.verifiers import Instructions, Task
from quintain.verifiers.instructions import follows

COMMA = {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
CONSTANTS = (
    "", "I do not know.", "0", "My answer is yes.", '{"a": 1}', "* one\n* two\n* three", "<<Title>>",
    "word " * 400, "\u202e" * 50, "Ｉ ｄｏ ｎｏｔ ｋｎｏｗ", "[a] [b] [c] [d] [e]", "A. B. C. D. E. F. G. H. I. J.",
)  # fmt: skip


def ifeval(row_files, **options):
    return make("quintain/IFEval-v0", path=str(row_files["quintain/IFEval-v0"]), **options)


def reward(env, task, reply: str) -> float:
    env.reset(options={"task": task})
    return env.step(reply)[1]


# --- IFEval


def test_rows_are_read_as_published(row_files):
    env = ifeval(row_files)
    assert [task.id for task in env.tasks] == ["1", "2", "3"]
    assert env.tasks[1].answer["kwargs"] == [
        {},
        {"keyword": "umbrella", "relation": "at least", "frequency": 2},
    ]


def test_a_reply_that_follows_is_paid_and_one_that_misses_a_word_is_not(row_files):
    env = ifeval(row_files)
    good = "the rain falls and every umbrella opens. one red umbrella stays shut."
    assert reward(env, 1, good) == 1.0
    assert reward(env, 1, good.replace("umbrella stays", "parasol stays")) == 0.0
    assert reward(env, 1, good.upper()) == 0.0


def test_by_option_the_share_is_paid(row_files):
    env = ifeval(row_files, partial=True)
    assert reward(env, 1, "One red umbrella and another umbrella stay shut in the heavy rain.") == 0.5


def test_the_prompt_handed_back_earns_nothing(row_files):
    env = ifeval(row_files)
    for index in range(3):
        prompt = env.tasks[index].prompt
        for reply in (prompt, f'"{prompt}"', prompt * 3, prompt.lower(), f"Sure! {prompt}"):
            assert reward(env, index, reply) == 0.0


def test_what_must_be_repeated_is_no_copy_but_what_follows_must_be_the_writers_own(row_files):
    task = ifeval(row_files).tasks[2]
    repeated = "name three rivers in three bullet points."
    own = "\n* the Rhine in Basel\n* the Po near Turin\n* the Loire by Tours"
    assert OwnWords()(repeated + own, task).value == 1.0
    assert OwnWords()(repeated + " " + task.prompt, task).value == 0.0


@pytest.mark.parametrize(
    "odd",
    [
        "the qu\u0456ck fox",
        "\uff54he fox",
        "the \u212aey",
        "the\u200bfox",
        "\u202ethe fox\u202c",
        "in \u0662\u0660",
    ],
)
def test_letters_that_are_not_what_they_look_like_earn_nothing(odd):
    task = Task("t", "Write.", COMMA)
    assert OwnWords()(odd, task).value == 0.0


@pytest.mark.parametrize(
    "honest", ["Déjà vu – “naïve”… ½ × 3² 🙂", "Δt and μm", "Это текст", "1º é 2ª", "これは全角！", "می‌روم"]
)
def test_letters_of_other_languages_are_no_disguise(honest):
    assert OwnWords()(honest, Task("t", "Write.", COMMA)).value == 1.0


def test_a_short_answer_in_words_of_the_prompt_is_no_copy():
    task = Task("t", "Choose: My answer is yes. or: My answer is no.", COMMA)
    assert OwnWords()("My answer is no.", task).value == 1.0


@pytest.mark.parametrize(
    "kinds",
    [
        {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
        {"instruction_id_list": ["detectable_format:constrained_response"], "kwargs": [{}]},
        {"instruction_id_list": ["detectable_format:number_bullet_lists"], "kwargs": [{"num_bullets": 3}]},
        {
            "instruction_id_list": ["length_constraints:number_words"],
            "kwargs": [{"relation": "less than", "num_words": 100}],
        },
        {  # nothing limits what else is written
            "instruction_id_list": ["keywords:existence", "length_constraints:number_sentences"],
            "kwargs": [{"keywords": ["ostrich"]}, {"relation": "at least", "num_sentences": 4}],
        },
        {  # what is to be repeated holds the comma that is forbidden
            "instruction_id_list": ["combination:repeat_prompt", "punctuation:no_comma"],
            "kwargs": [{"prompt_to_repeat": "Well, tell me."}, {}],
        },
    ],
)
def test_prompts_that_anybody_or_nobody_can_satisfy_are_left_out(kinds, tmp_path):
    assert not is_sound(Task("t", "Write.", kinds))
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"key": 1, "prompt": "Write.", **kinds}))
    with pytest.raises(UserError, match="none of the 1 rows is sound; sound=False takes them as they are"):
        make("quintain/IFEval-v0", path=str(path))
    assert make("quintain/IFEval-v0", path=str(path), sound=False).tasks.size == 1


def test_a_row_with_an_unknown_instruction_is_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"key": 7, "prompt": "Write.", "instruction_id_list": ["no:such"], "kwargs": [{}]}')
    with pytest.raises(UserError, match="task '7': there is no instruction 'no:such'"):
        make("quintain/IFEval-v0", path=str(path))


def test_every_sound_row_of_the_real_data_is_solved_by_the_oracle(data_dir):
    env = make("quintain/IFEval-v0", path=str(data_dir / "ifeval_a.jsonl"))
    rng = np.random.default_rng(0)
    assert env.tasks.size == 80
    for task in env.tasks:
        assert reward(env, task, env.oracle(task, [], rng)) == 1.0
        assert [reply for reply in (task.prompt, *CONSTANTS) if reward(env, task, reply)] == []


def test_good_replies_of_a_strong_model_are_not_called_copies(data_dir):
    env = make("quintain/IFEval-v0", path=str(data_dir / "ifeval_a.jsonl"), sound=False, mode="strict")
    good = [task for task in env.tasks if all(task.info["strict"])]
    assert len(good) == 212
    assert all(reward(env, task, task.info["response"]) == 1.0 for task in good)


def test_parts_of_the_rows_are_disjoint_and_together_all(data_dir):
    path = str(data_dir / "ifeval_a.jsonl")
    ids = {
        split: {task.id for task in make("quintain/IFEval-v0", path=path, split=split).tasks}
        for split in ("all", "train", "test")
    }
    assert ids["train"] | ids["test"] == ids["all"]
    assert not ids["train"] & ids["test"]
    assert 0.1 < len(ids["test"]) / len(ids["all"]) < 0.3


def test_a_limit_counts_the_rows_that_are_taken(row_files):
    assert [task.id for task in ifeval(row_files, limit=2).tasks] == ["1", "2"]
    with pytest.raises(UserError, match="IFEval: limit must be at least 1 or None, got 0"):
        ifeval(row_files, limit=0)


# --- Instructions


@pytest.mark.parametrize("count", [3, 4, 6, 8])
def test_composed_instructions_can_be_followed_and_not_by_constants(count):
    env = make("quintain/Instructions-v0", instructions=count)
    rng = np.random.default_rng(0)
    for index in range(40):
        task = env.tasks[index]
        kinds = task.answer["instruction_id_list"]
        assert len(kinds) == count
        assert reward(env, task, env.oracle(task, [], rng)) == 1.0
        keywords = " ".join(task.answer["kwargs"][kinds.index("keywords:existence")]["keywords"])
        for cheat in (*CONSTANTS, task.prompt, keywords, keywords * 20, task.prompt.split(". ")[0]):
            assert reward(env, task, cheat) == 0.0


def test_no_reply_fits_two_tasks():
    env = make("quintain/Instructions-v0", instructions=3)
    rng = np.random.default_rng(0)
    tasks = [env.tasks[index] for index in range(40)]
    replies = [env.oracle(task, [], rng) for task in tasks]
    assert [sum(Instructions()(reply, task).value for task in tasks) for reply in replies] == [1.0] * 40


def test_longer_is_not_better():
    env = make("quintain/Instructions-v0", instructions=3)
    task = next(task for task in env.tasks if "Write less than" in task.prompt)
    good = env.oracle(task, [], np.random.default_rng(0))
    more = " ".join(obedient([], np.random.default_rng(seed)) or "" for seed in range(40))
    assert reward(env, task, good) == 1.0
    assert reward(env, task, f"{good} {more}") == 0.0


@pytest.mark.parametrize(("options", "said"), [
    ({"instructions": 2}, "instructions must be a whole number from 3 to 8, got 2"),
    ({"instructions": 2.5}, "instructions must be a whole number from 3 to 8, got 2.5"),
    ({"split": "dev"}, "split must be 'train' or 'test', got 'dev'"),
])  # fmt: skip
def test_wrong_options_are_named(options, said):
    with pytest.raises(UserError, match=said):
        make("quintain/Instructions-v0", **options)


# --- the oracle's writer


def test_the_writer_knows_when_instructions_clash():
    clash = [("change_case:english_capital", {}), ("change_case:english_lowercase", {})]
    assert obedient(clash, np.random.default_rng(0), attempts=3) is None


@pytest.mark.parametrize(
    "language", ["ar", "bg", "de", "fa", "hi", "ko", "mr", "ne", "pa", "sw", "th", "ur", "vi"]
)
def test_the_writer_writes_other_languages(language):
    wanted = {"language": language}
    text = obedient([("language:response_language", wanted)], np.random.default_rng(0))
    assert text is not None
    assert follows(text, "language:response_language", wanted, "hard")
