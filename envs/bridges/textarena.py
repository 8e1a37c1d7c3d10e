"""Games of TextArena: `textarena/GuessTheNumber-v0` and hundreds more, alone or against a scripted opponent.

The ids are TextArena's own, with a dot for what no Gymnasium id may hold (`Taboo-v0-city.country`).

What the model sees is what the game and the other players said since its last reply. TextArena's own wrappers repeat
the whole game in every observation, for models without memory; here the conversation holds it already. A few games
read a word list that NLTK has to download when they are made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...tools.errors import UserError, nearest
from ...verifiers.base import Task
from ..card import Card
from ..registry import register
from .foreign import ForeignEnv, Randomness, Said, construction, env_id, need, seeds_as_tasks

LIBRARY = "textarena"
Opponent = Callable[[int, str], str]
"""Answers for another player: takes its number and what it sees, returns its action."""

_MOST_PLAYERS = 15
_MOST_MOVES = 1000  # of the others before it is the model's turn again


class TextArena(ForeignEnv):
    """One game of TextArena.

    The reward is the game's own, at its end. Alone it lies in 0..1 and counts as it is; against others a loss is -1, a
    draw 0 and a win 1, and counts as 0, 0.5 and 1. Another `scale` says otherwise.

    Args:
        name: TextArena's own id, for example "TicTacToe-v0".
        opponent: Plays the other seats: a function of player number and observation, or actions that are played in
            turn by each of them, from the start when they are used up. A game for one needs none.
        players: How many play; None takes the fewest that the game allows.
        seat: The number of the player that the model is.
        split: "train", "validation" or "test"; no seed of one belongs to another.
        seed: Other seeds give other episodes.
        config: Keyword arguments of the game.
        scale: The reward that is worth 0, and the one that is worth 1.
        max_turns: Replies until we end the episode; None leaves that to the game.
        render_mode: None or "ansi".

    Raises `UserError` if the library is missing, has no such game or cannot make it, and for a game of several
    players without an opponent.
    """

    library = LIBRARY

    def __init__(
        self,
        name: str,
        *,
        opponent: Opponent | Sequence[str] | None = None,
        players: int | None = None,
        seat: int = 0,
        split: str = "train",
        seed: int = 0,
        config: Mapping[str, Any] | None = None,
        scale: Sequence[float] | None = None,
        max_turns: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        need("textarena")
        known = _registry()
        if name not in known:
            raise UserError(f"{LIBRARY} has no game {name!r}; {nearest(name, known)}")
        self.name = name
        self.config = dict(config or {})
        with construction(LIBRARY, name), Randomness(0).installed():
            self.players = self._count(players)
        if not 0 <= seat < self.players:
            raise UserError(f"{LIBRARY}/{name} has the seats 0 to {self.players - 1}, got seat={seat}")
        if self.players > 1 and not opponent:
            raise UserError(
                f"{LIBRARY}/{name} is a game of {self.players}: give opponent=, a function of player number and "
                "observation that returns an action, or a list of actions"
            )
        self.seat = seat
        self.opponent = opponent
        if scale is None:
            scale = (0.0, 1.0) if self.players == 1 else (-1.0, 1.0)
        tasks = seeds_as_tasks(f"{LIBRARY}-{name}", split, seed)
        super().__init__(scale=scale, tasks=tasks, max_turns=max_turns, render_mode=render_mode)
        self.card = Card(
            what=f"TextArena's {name}, {'alone' if self.players == 1 else f'{self.players} players'}.",
            reward=f"The game's own reward at the end, mapped from {self.low:g}..{self.high:g} to 0..1.",
            difficulty="The variants of the name and the arguments in `config`.",
            oracle="None: the library has none.",
            source="TextArena, MIT",
            tags=("game", "multi-turn", LIBRARY),
        )

    def open(self, task: Task, seed: int) -> tuple[Any, str]:
        """Make the game, and let the others move until it is the model's turn."""
        env = _arena().make(self.name, **self.config)
        env.reset(num_players=self.players, seed=seed)
        env.quintain_moves = [0] * self.players  # how many actions of a list each player has used
        if self._others(env):
            raise RuntimeError("the game was over before the model's first turn")
        return env, self._seen(env)

    def play(self, env: Any, action: str) -> Said:
        """Move, and let the others move until it is the model's turn again."""
        done, _ = env.step(action)
        if not done:
            done = self._others(env)
        if not done:
            return Said(self._seen(env))
        seen = self._seen(env)
        rewards, told = env.close()
        reason = str((told or {}).get(self.seat, {}).get("reason") or "")
        reward = (rewards or {}).get(self.seat)
        return Said(f"{seen}\n{reason}".strip(), 0.0 if reward is None else reward, True)

    def _others(self, env: Any) -> bool:
        """Play the other seats; return whether the game is over."""
        for _ in range(_MOST_MOVES):
            player = int(_innermost(env).state.current_player_id)
            if player == self.seat:
                return False
            moves = env.quintain_moves
            if callable(self.opponent):
                action = self.opponent(player, self._seen(env, player))
            else:
                assert self.opponent is not None
                action = self.opponent[moves[player] % len(self.opponent)]
                moves[player] += 1
                _innermost(env).state.get_current_player_observation()
            if env.step(action)[0]:
                return True
        raise RuntimeError(f"the others made {_MOST_MOVES} moves in a row")

    def _seen(self, env: Any, player: int | None = None) -> str:
        """Return what a player has been told since it was last asked, without its own words."""
        seat = self.seat if player is None else player
        state = _innermost(env).state
        news, state.observations[seat] = state.observations[seat], []
        arena = _arena()
        own = arena.ObservationType.PLAYER_ACTION
        lines = []
        for sender, text, kind in news:
            if sender == seat and kind is own:
                continue
            who = state.role_mapping.get(sender, f"Player {sender}")
            lines.append(text if sender == arena.GAME_ID else f"[{who}] {text}")
        return "\n".join(str(line).strip() for line in lines)

    def _count(self, players: int | None) -> int:
        """Return how many play, by asking the game."""
        first: Exception | None = None
        for count in range(1, _MOST_PLAYERS + 1) if players is None else (players,):
            try:
                _arena().make(self.name, **self.config).reset(num_players=count, seed=0)
            except (AssertionError, ValueError) as error:  # how games refuse a number of players
                first = first or error
            else:
                return count
        raise first or UserError(f"{LIBRARY}/{self.name}: players must be at least 1, got {players}")


def _arena() -> Any:
    return need("textarena")


def _innermost(env: Any) -> Any:
    while "env" in env.__dict__:
        env = env.env
    return env


def _registry() -> Mapping[str, Any]:
    from textarena.envs.registration import ENV_REGISTRY

    registry: Mapping[str, Any] = ENV_REGISTRY
    return registry


def register_family() -> None:
    """Register every game of TextArena. Raises `UserError` if the library is missing."""
    need("textarena")
    for name in _registry():
        register(env_id(LIBRARY, name), "quintain.envs.bridges.textarena:TextArena", {"name": name})
