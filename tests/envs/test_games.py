"""The games of the library: their rules by positions made by hand, what a reply may be, and who wins what."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest

from quintain.envs import Policy, TextEnv, make
from quintain.envs.library import hanoi, mastermind, sokoban_levels, tic_tac_toe, wordle
from quintain.envs.library.items import in_split, shuffled
from quintain.envs.library.moves import only_move
from quintain.envs.library.words import WORDS
from quintain.tools import Hermes, UserError
from quintain.verifiers import Task

LEVELS = [
    ("quintain/GuessNumber-v0", {}),
    ("quintain/GuessNumber-v0", {"high": 1000, "max_turns": 10}),
    ("quintain/Wordle-v0", {}),
    ("quintain/Wordle-v0", {"hard": True, "max_turns": 4}),
    ("quintain/Mastermind-v0", {}),
    ("quintain/Mastermind-v0", {"pegs": 2, "colours": 4, "max_turns": 4}),
    ("quintain/Mastermind-v0", {"pegs": 6, "colours": 10}),
    ("quintain/Mastermind-v0", {"repeats": False}),
    ("quintain/Hanoi-v0", {"discs": 2}),
    ("quintain/Hanoi-v0", {}),
    ("quintain/Hanoi-v0", {"discs": 6, "bonus": 1.0}),
    ("quintain/Sokoban-v0", {}),
    ("quintain/Sokoban-v0", {"difficulty": "medium"}),
    ("quintain/Sokoban-v0", {"difficulty": "hard", "moves_per_reply": 5}),
    ("quintain/TicTacToe-v0", {}),
    ("quintain/TicTacToe-v0", {"mistakes": 0.5}),
    ("quintain/TicTacToe-v0", {"mistakes": 1.0, "wins": True, "opening": 2}),
]
IDS = [f"{env_id[9:-3]}-{'-'.join(map(str, options.values()))}" for env_id, options in LEVELS]
GAMES = sorted({env_id for env_id, _ in LEVELS})


def play(env: TextEnv, policy: Policy, index: int, seed: int = 0) -> float:
    env.reset(options={"task": index})
    rng = np.random.default_rng([seed, index])
    total = 0.0
    for _ in range(500):
        _, reward, terminated, truncated, _ = env.step(policy(env.task, env.messages, rng))
        total += reward
        if terminated or truncated:
            return total
    raise AssertionError("the episode does not end")


def says(env: TextEnv, *replies: str) -> str:
    """Return the observation after the last of the replies."""
    observation = ""
    for reply in replies:
        observation = env.step(reply)[0]
    return observation


# --- all of them


@pytest.mark.parametrize(("env_id", "options"), LEVELS, ids=IDS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_oracle_wins_at_every_difficulty(env_id, options, split):
    env = make(env_id, split=split, **options)
    assert all(play(env, env.oracle, index) == 1.0 for index in range(min(env.tasks.size or 10, 20)))


@pytest.mark.parametrize(("env_id", "options"), LEVELS, ids=IDS)
def test_train_and_test_have_no_task_in_common_whatever_the_seed(env_id, options):
    def items(split: str, seed: int) -> set[str]:
        tasks = make(env_id, split=split, seed=seed, **options).tasks
        return {repr((t.prompt, t.answer)) for t in (tasks[i] for i in range(min(tasks.size or 8, 60)))}

    assert not items("train", 0) & items("test", 0)
    assert not items("train", 1) & items("test", 2)


@pytest.mark.parametrize(("env_id", "options"), LEVELS, ids=IDS)
def test_no_task_comes_twice(env_id, options):
    tasks = make(env_id, **options).tasks
    seen = [repr((t.prompt, t.answer)) for t in (tasks[i] for i in range(min(tasks.size or 20, 100)))]
    assert len(set(seen)) == len(seen)


CONSTANT = [
    "", "0", "5", "up", "down", "left", "right", "A to B", "A to C", "B to C", "C to A", "B to A", "C to B", "AABB",
    "CRANE", "1 2 3 4 5 6 7 8 9", "up down left right", "ｕｐ", "９", "А to C", "You won.", "Solved.", "x" * 100_000,
    "\n".join(map(str, range(1, 10))), "\n".join(f"{a} to {b}" for a in "ABC" for b in "ABC" if a != b),
    "\n".join(f"<answer>{move}</answer>" for move in ("up", "down", "left", "right")), "\n".join(WORDS),
]  # fmt: skip


@pytest.mark.parametrize("env_id", ["quintain/Hanoi-v0", "quintain/Sokoban-v0", "quintain/TicTacToe-v0"])
@pytest.mark.parametrize("reply", CONSTANT, ids=lambda reply: ascii(reply[:20]))
def test_a_constant_reply_never_wins(env_id, reply):
    env = make(env_id)
    assert all(play(env, lambda *_: reply, index) == 0.0 for index in range(30))


@pytest.mark.parametrize("env_id", GAMES)
def test_the_prompt_echoed_is_no_move(env_id):
    env = make(env_id)
    for index in range(8):
        prompt, _ = env.reset(options={"task": index})
        for _ in range(3):
            answer = env.step(prompt)
            assert answer[1:3] == (0.0, False)


def test_tasks_are_the_same_in_another_process():
    code = (
        "from quintain.envs import make\n"
        f"for env_id in {GAMES!r}:\n"
        "    tasks = make(env_id).tasks\n"
        "    print([(t.id, t.prompt, t.answer) for t in (tasks[i] for i in range(5))])"
    )
    here = ""
    for env_id in GAMES:
        tasks = make(env_id).tasks
        here += f"{[(t.id, t.prompt, t.answer) for t in (tasks[i] for i in range(5))]}\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == here


@pytest.mark.parametrize(
    ("env_id", "options", "said"),
    [
        ("quintain/GuessNumber-v0", {"high": 1}, "high must be 2 to 999999, got 1"),
        ("quintain/Wordle-v0", {"split": "dev"}, "split must be 'train' or 'test', got 'dev'"),
        ("quintain/Mastermind-v0", {"pegs": 9}, "pegs must be 2 to 6 and colours 4 to 10, got 9 and 6"),
        (
            "quintain/Mastermind-v0",
            {"pegs": 6, "colours": 4, "repeats": False},
            "6 pegs of 4 colours must repeat",
        ),
        ("quintain/Hanoi-v0", {"discs": 9}, "discs must be 2 to 8, got 9"),
        ("quintain/Hanoi-v0", {"discs": 4, "max_turns": 9}, "4 discs can need 15 moves, got max_turns=9"),
        ("quintain/Hanoi-v0", {"bonus": 2}, "bonus must be 0 to 1, got 2"),
        ("quintain/Sokoban-v0", {"difficulty": "evil"}, "one of 'easy', 'medium', 'hard', got 'evil'"),
        ("quintain/Sokoban-v0", {"moves_per_reply": 0}, "moves_per_reply must be 1 to 40, got 0"),
        ("quintain/TicTacToe-v0", {"opening": 1}, "opening must be 2 to 4, got 1"),
        ("quintain/TicTacToe-v0", {"mistakes": -1}, "mistakes must be 0 to 1, got -1"),
    ],
)
def test_wrong_options_are_named(env_id, options, said):
    with pytest.raises(UserError, match=re.escape(said)):
        make(env_id, **options)


# --- items and moves


@pytest.mark.parametrize("count", [2, 3, 5, 17, 256, 1000])
def test_a_shuffle_is_a_permutation(count):
    order = [shuffled(index, count, "key") for index in range(count)]
    assert sorted(order) == list(range(count))
    assert count < 17 or order != [shuffled(index, count, "other") for index in range(count)]


def test_an_item_is_in_one_split_and_a_fifth_is_held_out():
    assert all(in_split("train", "x", i) != in_split("test", "x", i) for i in range(2000))
    assert 0.18 < np.mean([in_split("test", "x", i) for i in range(2000)]) < 0.22


@pytest.mark.parametrize(
    ("reply", "move"),
    [
        ("crane", "crane"),
        ("  **CRANE**. ", "CRANE"),
        ("My guess: crane", "crane"),
        ("I think of slate first, but no.\nGuess is crane", "crane"),
        ("<answer> crane </answer> it is", "crane"),
        ("Not slate.\n<answer>crane</answer>\nslate", "crane"),
        ("<think>\nslate\n</think>\ncrane", "crane"),
        ("crane\n\n", "crane"),
        ("crane\ncrane", "crane"),
        ("crane\nslate", None),
        ("<answer>crane</answer><answer>slate</answer>", None),
        ("crane slate", None),
        ("crane, slate", None),
        ("I say crane", None),
        ("cranes", None),
        ("crаne", None),  # a Cyrillic letter
        ("ｃｒａｎｅ", None),
        ("<think>crane", None),
        ("", None),
        ("\n \n", None),
        ("crane\n" + "word " * 100_000, None),
    ],
)
def test_a_reply_has_one_move_or_none(reply, move):
    found = only_move(Hermes().parse(reply), re.compile("[A-Za-z]{5}"))
    assert (found and found[0]) == move


# --- Wordle


@pytest.mark.parametrize(
    ("word", "guess", "marks"),
    [
        ("crane", "crane", "GGGGG"),
        ("crane", "moldy", "XXXXX"),
        ("crane", "nacre", "YYYYG"),
        ("abbey", "babes", "YYGGX"),
        ("abbey", "kebab", "XYGYY"),
        ("crane", "eerie", "XXYXG"),  # the e in place takes the only one
        ("those", "geese", "XXXGG"),
        ("eager", "eerie", "GYYXX"),
        ("speed", "erase", "YXXYY"),
        ("robot", "motto", "XGYXY"),
    ],
)
def test_repeated_letters_are_marked_as_often_as_the_word_has_them(word, guess, marks):
    assert wordle.mark(word, guess) == marks


def test_wordle_is_played_in_marks():
    env = make("quintain/Wordle-v0")
    env.reset(options={"task": Task("t", "Go.", "crane")})
    assert says(env, "NACRE") == "NACRE: YYYYG"
    assert says(env, "no idea").startswith("Guess one word of five letters, A to Z.")
    assert env.step("crane")[:3] == ("CRANE: GGGGG", 1.0, True)


def test_a_hard_guess_must_agree_with_the_marks():
    env = make("quintain/Wordle-v0", hard=True)
    env.reset(options={"task": Task("t", "Go.", "crane")})
    assert says(env, "trade", "slate").startswith("SLATE does not agree with the marks of TRADE.")
    assert env.step("crane")[1] == 1.0


def test_the_words_are_words():
    assert len(WORDS) > 800
    assert all(re.fullmatch("[a-z]{5}", word) for word in WORDS)


def test_a_fair_player_finds_most_words():
    env = make("quintain/Wordle-v0")
    assert np.mean([play(env, env.demonstrator, index) for index in range(60)]) > 0.85


# --- Mastermind


@pytest.mark.parametrize(
    ("code", "guess", "counts"),
    [
        ("ABCD", "ABCD", (4, 0)),
        ("ABCD", "DCBA", (0, 4)),
        ("ABCD", "EEFF", (0, 0)),
        ("AABB", "ABAB", (2, 2)),
        ("AABC", "ADAA", (1, 1)),
        ("ABBB", "BAAA", (0, 2)),
        ("AAAA", "AABB", (2, 0)),
    ],
)
def test_black_and_white_pegs(code, guess, counts):
    assert mastermind.compare(code, guess) == counts


def test_mastermind_is_played_in_counts():
    env = make("quintain/Mastermind-v0")
    env.reset(options={"task": Task("t", "Go.", "ABCD")})
    assert says(env, "aacb") == "AACB: 2 black, 1 white."
    assert says(env, "ABCG").startswith("Guess one code of 4 letters, each one of A, B, C, D, E, F.")
    assert env.step("ABCD")[:3] == ("ABCD: 4 black, 0 white.", 1.0, True)


def test_codes_without_repeats_have_none_and_all_come():
    env, other = (make("quintain/Mastermind-v0", repeats=False, split=split) for split in ("train", "test"))
    codes = {task.answer for tasks in (env.tasks, other.tasks) for task in tasks}
    assert len(codes) == 6 * 5 * 4 * 3
    assert all(len(set(code)) == 4 for code in codes)


def test_a_fair_player_breaks_every_code_in_ten():
    env = make("quintain/Mastermind-v0")
    assert all(play(env, env.demonstrator, index) == 1.0 for index in range(30))


# --- Hanoi


def hanoi_env(pegs: str, goal: str = "C", **options: object) -> TextEnv:
    env = make("quintain/Hanoi-v0", **options)
    env.reset(options={"task": Task("t", "Go.", {"pegs": pegs, "goal": goal})})
    return env


def test_discs_are_drawn_from_the_bottom_up():
    assert hanoi.drawn("ABA") == "A: 3 1\nB: 2\nC: -"


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("A to C", "A: 3\nB: 2\nC: 1"),
        ("a>c", "A: 3\nB: 2\nC: 1"),
        ("A to B", "A: 3\nB: 2 1\nC: -"),
        ("B to A", "Disc 2 may not lie on disc 1, which is smaller."),
        ("C to A", "There is no disc on C."),
        ("A to A", "Take from one peg and put on another."),
        ("A to D", "Reply with one move"),
        ("A to B, B to C", "Reply with one move"),
    ],
)
def test_hanoi_moves(reply, said):
    assert says(hanoi_env("ABA"), reply).startswith(said)


def test_a_full_tower_needs_two_to_the_discs_less_one():
    assert [hanoi.fewest("A" * discs, "C") for discs in range(1, 9)] == [2**n - 1 for n in range(1, 9)]
    assert hanoi.fewest("CCC", "C") == 0
    assert hanoi.fewest("CAC", "C") == 3
    assert hanoi.fewest("BAC", "C") == 2


def test_the_fewest_moves_are_those_of_a_search():
    for index in range(20):
        answer = make("quintain/Hanoi-v0", discs=4).tasks[index].answer
        seen, edge, moves = {answer["pegs"]}, {answer["pegs"]}, 0
        while answer["goal"] * 4 not in seen:
            edge = {
                pegs[: pegs.index(a)] + b + pegs[pegs.index(a) + 1 :]
                for pegs in edge
                for a in set(pegs)
                for b in "ABC"
                if hanoi._refusal(pegs, a, b) is None
            } - seen
            seen |= edge
            moves += 1
        assert hanoi.fewest(answer["pegs"], answer["goal"]) == moves >= 8


@pytest.mark.parametrize(
    ("replies", "bonus", "value"),
    [
        (["A to C"], 0.5, 1.0),
        (["A to B", "B to C"], 0.0, 1.0),
        (["A to B", "B to C"], 0.5, 0.5),
        (["nothing", "A to C"], 0.5, 0.5),
        (["A to B", "B to C"], 1.0, 0.0),
    ],
)
def test_the_bonus_is_for_the_fewest_replies(replies, bonus, value):
    env = hanoi_env("ACC", bonus=bonus)
    assert [env.step(reply)[1] for reply in replies][-1] == value


# --- Sokoban

ROOM = """\
######
#@-$.#
#----#
######"""


def sokoban_env(board: str, **options: object) -> TextEnv:
    env = make("quintain/Sokoban-v0", **options)
    env.reset(options={"task": Task("t", "Go.", {"board": board})})
    return env


def test_sokoban_is_played_by_pushing():
    env = sokoban_env(ROOM)
    assert says(env, "right") == ROOM.replace("@-", "-@")
    assert env.step("R")[:3] == ("Solved.\n\n######\n#--@*#\n#----#\n######", 1.0, True)


@pytest.mark.parametrize(
    ("board", "reply", "said"),
    [
        (ROOM, "up", "U is blocked."),
        ("#####\n#@$##\n#. ##\n#####", "right", "R is blocked."),  # a wall behind the box
        ("######\n#@$$.#\n#.   #\n######", "R", "R is blocked."),  # a box behind the box
        (ROOM, "up up", "Reply with one move: up, down, left or right."),
        (ROOM, "RR", "Reply with one move: up, down, left or right."),
    ],
)
def test_sokoban_refusals(board, reply, said):
    assert says(sokoban_env(board), reply).startswith(said)


def test_boxes_and_player_on_goals_are_drawn():
    room, state = sokoban_levels.read("#####\n#+*$#\n#####")
    assert (room.goals, state) == ({(1, 1), (1, 2)}, ((1, 1), {(1, 2), (1, 3)}))
    assert sokoban_levels.drawn(room, state) == "#####\n#+*$#\n#####"


def test_turned_and_mirrored_levels_with_other_walls_are_the_same():
    board = "#####\n#@$.#\n#---#\n#---#\n#####"
    turned = "#####\n#--@#\n##-$#\n#--.#\n#####"
    mirrored = "#####\n#.$@#\n#-#-#\n#---#\n#####"
    other = "#####\n#@.$#\n#---#\n#---#\n#####"
    assert sokoban_levels.pattern(board) == sokoban_levels.pattern(turned) == sokoban_levels.pattern(mirrored)
    assert sokoban_levels.pattern(board) != sokoban_levels.pattern(other)


def test_several_moves_of_a_reply_end_at_a_wall():
    env = sokoban_env(ROOM, moves_per_reply=4)
    assert says(env, "DURD").startswith("######\n#--$.#\n#-@--#")
    assert says(env, "DLLL").startswith("D is blocked.")
    assert says(env, "UUUUU").startswith("Reply with one move, up, down, left or right, or with at most 4")


def test_the_oracle_goes_on_from_any_board():
    env = make("quintain/Sokoban-v0")
    for index in range(10):
        env.reset(options={"task": index})
        says(env, "no move", "down", "left")
        reward = done = False
        while not done:
            _, reward, done, cut, _ = env.step(env.oracle(env.task, env.messages, np.random.default_rng(0)))
            if cut:
                assert sokoban_levels.solve(env.board) is None  # two moves may be enough to spoil a level
                break
        assert cut or reward == 1.0


@pytest.mark.parametrize("difficulty", ["easy", "medium", "hard"])
def test_levels_need_as_many_moves_as_their_solution(difficulty):
    tasks = make("quintain/Sokoban-v0", difficulty=difficulty).tasks
    for index in range(8):
        shortest = sokoban_levels.solve(tasks[index].answer["board"])
        assert shortest is not None
        assert len(shortest) == len(tasks[index].info["solution"])


def test_a_board_that_is_none_is_refused():
    with pytest.raises(ValueError, match="one player and as many goals as boxes, got 1, 1, 0"):
        sokoban_levels.read("####\n#@.#\n####")


def test_a_box_in_the_corner_has_no_solution():
    assert sokoban_levels.solve("#####\n#$ .#\n# @ #\n#####") is None


# --- tic-tac-toe


def tic_tac_toe_env(board: str, **options: object) -> TextEnv:
    env = make("quintain/TicTacToe-v0", **options)
    env.reset(options={"task": Task("t", "Go.", {"board": board, "choices": "0"})})
    return env


@pytest.mark.parametrize(
    ("board", "value"),
    [
        (".........", 0),
        ("X........", 0),
        ("XX.OO....", 1),  # X to move wins at once
        ("X...O...X", 0),  # two corners against the centre: an edge holds
        ("XO.......", 1),
        ("X.X.O....", 0),  # O must block
        ("X.X.O.O.X", -1),  # two threats at once
        ("XXXOO....", -1),  # O to move has lost
    ],
)
def test_the_value_of_a_position(board, value):
    assert tic_tac_toe.value(board) == value


def test_a_lost_game_pays_nothing_and_a_draw_where_a_draw_was_promised():
    env = tic_tac_toe_env("X........")  # O to move
    assert says(env, "2").startswith("I take ")  # the wrong cell: X can now force a win
    rewards = []
    for _ in range(4):
        free = re.findall(r"[1-9]", env.messages[-1]["content"].rpartition("\n\n")[2])
        _, reward, done, _, info = env.step(free[-1])
        rewards.append(reward)
        if done:
            break
    assert (done, sum(rewards)) == (True, 0.0)
    assert info["score"].reason == "You lost. Promised: a draw."


def test_a_draw_does_not_pay_where_a_win_can_be_forced():
    env = tic_tac_toe_env("XO.......")
    assert env.promised == 1
    env.board = "XOXXOOOX."  # one free cell, and it draws
    observation, reward, done, *_ = env.step("9")
    assert (observation.split("\n")[0], reward, done) == ("A draw.", 0.0, True)


def test_a_taken_cell_costs_a_turn_and_nothing_else():
    env = tic_tac_toe_env("X........")
    assert says(env, "1").startswith("Cell 1 is taken.\n\nX 2 3")
    assert says(env, "10").startswith("Reply with the number of one free cell.")


def test_a_random_player_does_better_against_a_random_opponent():
    def policy(task, messages, rng):
        free = re.findall(r"[1-9]", messages[-1]["content"].rpartition("\n\n")[2])
        return str(rng.choice(free))

    against_perfect = make("quintain/TicTacToe-v0", opening=2)
    against_random = make("quintain/TicTacToe-v0", opening=2, mistakes=1.0)
    perfect = np.mean([play(against_perfect, policy, index) for index in range(60)])
    random = np.mean([play(against_random, policy, index) for index in range(60)])
    assert 0.2 < perfect < 0.4 < 0.5 < random


def test_mirrored_and_turned_boards_are_in_the_same_split():
    boards = [
        {
            tic_tac_toe.canonical(task.answer["board"])
            for task in make("quintain/TicTacToe-v0", split=split).tasks
        }
        for split in ("train", "test")
    ]
    assert not boards[0] & boards[1]
    assert tic_tac_toe.canonical("X.......O") == tic_tac_toe.canonical("..X...O..")


def test_no_start_is_lost_or_won_at_once():
    for task in make("quintain/TicTacToe-v0").tasks:
        assert tic_tac_toe.value(task.answer["board"]) >= 0
        assert not tic_tac_toe.wins_at_once(task.answer["board"])
