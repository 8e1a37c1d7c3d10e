"""The bridges to TextArena and GEM, against the real packages."""

from __future__ import annotations

import copy
import re
import warnings

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env

from quintain.envs import list_envs, make
from quintain.tools import UserError


def bisect(env, pattern, low, high, write):
    """Play a guessing game of either library by halving; return all the answers."""
    answers = []
    for _ in range(20):
        guess = (low + high) // 2
        answers.append(env.step(write.format(guess)))
        if answers[-1][2] or answers[-1][3]:
            return answers
        if "higher" in re.findall(pattern, answers[-1][0])[-1]:
            low = guess + 1
        else:
            high = guess - 1
    raise AssertionError("the game does not end")


class TestTextArena:
    @pytest.fixture(autouse=True)
    def library(self, needs):
        needs("textarena")

    def test_every_game_has_an_id(self):
        from textarena.envs.registration import ENV_REGISTRY

        ids = list_envs("textarena")
        assert len(ids) == len(ENV_REGISTRY) > 300
        assert "textarena/GuessTheNumber-v0" in ids
        assert "textarena/Taboo-v0-city.country" in ids  # a slash means something else in an id

    def test_a_game_is_played_to_its_end(self):
        env = make("textarena/GuessTheNumber-v0")
        observation, info = env.reset(options={"task": 0})
        assert "between 1 and 20" in observation
        assert info["task_id"] == "textarena-GuessTheNumber-v0-train-0-0"
        answers = bisect(env, r"target number is (\w+)", 1, 20, "[{}]")
        assert answers[0][0].startswith("The target number is ")
        assert [answer[1] for answer in answers[:-1]] == [0.0] * (len(answers) - 1)
        _, reward, terminated, _, info = answers[-1]
        assert (reward, terminated, info["score"].parts) == (1.0, True, {"return": 1.0})

    def test_an_observation_is_what_is_new_without_the_models_own_words(self):
        env = make("textarena/GuessTheNumber-v0")
        first, _ = env.reset(options={"task": 0})
        second, *_ = env.step("I say [1] because of xyzzy")
        assert first not in second
        assert "xyzzy" not in second

    def test_partial_rewards_are_the_games_own(self):
        env = make("textarena/GuessTheNumber-v0", max_turns=None)
        env.reset(options={"task": 0})
        env.step("nothing")
        _, reward, terminated, _, info = env.step("nothing again")
        assert (reward, terminated, info["score"].graded) == (0.0, True, True)

    def test_same_seed_same_game_and_another_episode_between_changes_nothing(self):
        env, other = make("textarena/Mastermind-v0"), make("textarena/Mastermind-v0")

        def game(between: bool) -> list[str]:
            observations = [env.reset(options={"task": 5})[0]]
            for guess in ("[1 2 3 4]", "[4 3 2 1]", "[5 6 1 2]"):
                observations.append(env.step(guess)[0])
                if between:
                    other.reset()
                    other.step("[1 2 3 4]")
            return observations

        assert game(False) == game(True)

    def test_against_a_list_of_moves(self):
        env = make("textarena/TicTacToe-v0", opponent=["[0]", "[1]", "[8]"])
        env.reset(options={"task": 0})
        observation, *_ = env.step("[4]")
        assert "[Player 1] [0]" in observation
        env.step("[3]")
        observation, reward, terminated, _, _ = env.step("[5]")
        assert (reward, terminated) == (1.0, True)
        assert "Player 0" in observation

    def test_a_lost_game_is_worth_nothing_and_the_opponent_sees_the_board(self):
        seen = []

        def opponent(player: int, observation: str) -> str:
            seen.append((player, observation))
            return f"[{len(seen) - 1}]"  # the top row

        env = make_textarena("TicTacToe-v0", opponent=opponent)
        env.reset(options={"task": 0})
        for move in ("[3]", "[4]", "[8]"):
            _, reward, terminated, _, info = env.step(move)
        assert (reward, terminated, info["score"].parts) == (0.0, True, {"return": -1.0})
        assert [player for player, _ in seen] == [1, 1, 1]
        assert "Player 1 in Tic Tac Toe" in seen[0][1]

    def test_the_model_may_have_the_second_seat(self):
        env = make("textarena/TicTacToe-v0", opponent=["[4]", "[0]", "[8]"], seat=1)
        observation, _ = env.reset(options={"task": 0})
        assert "[Player 0] [4]" in observation
        assert "Player 1 in Tic Tac Toe" in observation

    @pytest.mark.parametrize("env_id", ["GuessTheNumber-v0", "FrozenLake-v0", "Mastermind-v0-hard"])
    def test_check_env_finds_nothing(self, env_id):
        list_envs("textarena")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_env(gymnasium.make(f"textarena/{env_id}").unwrapped)

    def test_a_branch_goes_on_where_it_was_taken(self):
        env = make("textarena/Blackjack-v0")  # draws cards from the process while it is played
        env.reset(options={"task": 0})
        env.step("[Hit]")
        branch = copy.deepcopy(env)
        assert [branch.step("[Stand]")[0] for _ in range(2)] == [env.step("[Stand]")[0] for _ in range(2)]

    def test_a_vector_of_games(self):
        list_envs("textarena")
        envs = gymnasium.make_vec("textarena/GuessTheNumber-v0", num_envs=2)
        envs.reset(seed=1)
        observations, *_ = envs.step(["[1]", "[20]"])
        assert all("target number" in text for text in observations)
        envs.close()

    def test_options_of_the_game(self):
        observation, _ = make("textarena/GuessTheNumber-v0", config={"max_number": 7}).reset(seed=1)
        assert "between 1 and 7" in observation

    @pytest.mark.parametrize(
        ("name", "options", "says"),
        [
            ("TicTacToe-v0", {}, "is a game of 2: give opponent="),
            ("TicTacToe-v0", {"opponent": ["[0]"], "seat": 2}, "has the seats 0 to 1, got seat=2"),
            ("GuessTheNumber-v0", {"config": {"colour": 1}}, "cannot be made: TypeError"),
            (
                "GuessTheNumber-v0",
                {"players": 4},
                "cannot be made: AssertionError: The number of players has to be 1",
            ),
            ("GuessNumber-v0", {}, "did you mean 'textarena/GuessTheNumber-v0'"),
        ],
    )
    def test_a_wrong_option_is_an_error_at_once(self, name, options, says):
        with pytest.raises(UserError, match=says):
            make(f"textarena/{name}", **options)

    def test_an_opponent_that_fails_is_our_failure(self):
        def opponent(player: int, observation: str) -> str:
            raise RuntimeError("out of ideas")

        env = make_textarena("TicTacToe-v0", opponent=opponent)
        env.reset(options={"task": 0})
        *_, info = env.step("[4]")
        assert not info["score"].graded
        assert "out of ideas" in info["score"].reason


def make_textarena(name, **options):
    from quintain.envs.bridges.textarena import TextArena

    return TextArena(name, **options)


class TestGem:
    @pytest.fixture(autouse=True)
    def library(self, needs):
        needs("gem")

    def test_every_environment_has_an_id(self):
        from gem.envs.registration import ENV_REGISTRY

        ids = list_envs("gem")
        assert len(ids) == len(ENV_REGISTRY) > 100
        assert {"gem/game.GuessTheNumber-v0-easy", "gem/rg.countdown", "gem/math.GSM8K"} <= set(ids)

    def test_a_game_is_played_to_its_end(self):
        env = make("gem/game.GuessTheNumber-v0-hard")
        observation, info = env.reset(options={"task": 0})
        assert "between 1 and 50" in observation
        assert observation.endswith("Enter your next guess.")
        *_, (_, reward, terminated, _, info) = bisect(env, r"number is (\w+)", 1, 50, "\\boxed{{{}}}")
        assert (reward, terminated, info["score"].value) == (1.0, True, 1.0)

    def test_its_penalties_are_cut_unless_the_scale_says_otherwise(self):
        for scale, value in (((0, 1), 0.0), ((-1, 1), 0.45)):
            env = make("gem/game.GuessTheNumber-v0-easy", scale=list(scale))
            env.reset(options={"task": 0})
            _, reward, _, _, info = env.step("no number")
            assert (reward, info["score"].parts) == (pytest.approx(value), {"return": -0.1})

    def test_same_seed_same_game_though_it_draws_from_the_process(self):
        env, other = make("gem/game.Mastermind-v0-easy"), make("gem/game.Mastermind-v0-easy")

        def game(between: bool) -> list[str]:
            observations = [env.reset(options={"task": 5})[0]]
            for guess in ("12", "34", "56"):
                observations.append(env.step(f"\\boxed{{{guess}}}")[0])
                if between:
                    other.reset()
            return observations

        assert game(False) == game(True)

    def test_check_env_finds_nothing(self):
        list_envs("gem")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_env(gymnasium.make("gem/game.TowerofHanoi-v0-easy").unwrapped)

    def test_an_environment_that_cannot_be_made_says_why(self):
        with pytest.raises(UserError, match="gem: game:FifteenPuzzle-v0-random cannot be made: TypeError"):
            make("gem/game.FifteenPuzzle-v0-random")
