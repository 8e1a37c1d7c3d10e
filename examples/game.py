"""A game as an environment: find a mine field's safe path. The rules are two methods.

python examples/game.py                      # a random player against a careful one; seconds

No tasks and no verifier: `begin` sets up an episode, `respond` answers a reply and pays.
"""

import numpy as np

from quintain import TextEnv
from quintain.envs import Turn

MOVES = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}


class Marsh(TextEnv):
    """Cross a marsh from the west to the east; a step into a hole ends it. Holes can be smelled from beside them.

    Args:
        size: Rows and columns.
        holes: How many cells are holes.
    """

    def __init__(self, size=5, holes=4, max_turns=20, render_mode=None):
        super().__init__(max_turns=max_turns, render_mode=render_mode)
        self.size, self.count = size, holes

    def begin(self, task):
        """Draw a marsh whose first and last columns are firm."""
        cells = [(row, column) for row in range(self.size) for column in range(1, self.size - 1)]
        chosen = self.np_random.choice(len(cells), self.count, replace=False)
        self.holes = {cells[index] for index in chosen}
        self.place = (self.size // 2, 0)
        return (
            f"You are in the west of a marsh of {self.size} x {self.size} cells. Reach the east. "
            f"Write up, down, left or right. {self._smell()}"
        )

    def respond(self, reply):
        """Take a step."""
        word = reply.content.strip().lower()
        if word not in MOVES:
            return "Write up, down, left or right and nothing else."
        row, column = (here + step for here, step in zip(self.place, MOVES[word], strict=True))
        if not (0 <= row < self.size and 0 <= column < self.size):
            return "There is a fence."
        self.place = (row, column)
        if self.place in self.holes:
            return Turn("You sink.", reward=0.0, done=True)
        if column == self.size - 1:
            return Turn("You are across.", reward=1.0, done=True)
        return f"You are in row {row + 1}, column {column + 1}. {self._smell()}"

    def _smell(self):
        near = {(self.place[0] + row, self.place[1] + column) for row, column in MOVES.values()}
        return "It smells of mud." if near & self.holes else "The air is clear."


def play(env, policy, episodes):
    """Return the mean reward of a policy, a function of the observation and a generator."""
    rng, total = np.random.default_rng(0), 0.0
    for seed in range(episodes):
        observation, _ = env.reset(seed=seed)
        done = False
        while not done:
            observation, reward, terminated, truncated, _ = env.step(policy(observation, rng))
            done = terminated or truncated
        total += reward
    return total / episodes


def anywhere(observation, rng):
    return rng.choice(list(MOVES))


def eastwards(observation, rng):
    return "right" if "clear" in observation or rng.random() < 0.3 else rng.choice(["up", "down"])


if __name__ == "__main__":
    for policy in (anywhere, eastwards):
        print(f"{policy.__name__}: {play(Marsh(), policy, 200):.2f}")
