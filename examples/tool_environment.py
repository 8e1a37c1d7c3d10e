"""A tool environment: answer questions about a stock of goods by looking them up.

python examples/tool_environment.py          # plays it by hand, checks it, audits it; seconds

Tools with a state of the episode are methods of a `Toolkit`; each episode has one of its own.
"""

from quintain import Task, TaskSet, ToolEnv, audit, tool
from quintain.envs import Card
from quintain.tools import ToolCall, ToolError, Toolkit
from quintain.verifiers import Episode, Score, Verifier

GOODS = ["nails", "screws", "hinges", "hooks", "bolts"]


class Store(Toolkit):
    """A storeroom that can be read and changed."""

    async def open(self, setup):
        """Begin an episode with the stock of its task."""
        self.stock = dict(setup["stock"])

    @tool
    def count(self, item: str) -> int:
        """Return how many of an item there are.

        Args:
            item: Its name, in the plural.
        """
        return self._known(item)

    @tool
    def move(self, item: str, change: int) -> str:
        """Add to the stock of an item, or take away with a negative number.

        Args:
            item: Its name, in the plural.
            change: How many.
        """
        if self._known(item) + change < 0:
            raise ToolError(f"there are only {self.stock[item]} {item}")
        self.stock[item] += change
        return f"{self.stock[item]} {item} now"

    def _known(self, item):
        if item not in self.stock:
            raise ToolError(f"there are no {item} here, only {', '.join(self.stock)}")
        return self.stock[item]

    async def evidence(self):
        """Hand the stock at the end to the verifier: what was done counts, not what was said."""
        return {"stock": self.stock}


class StockIs(Verifier):
    """Whether the stock is, at the end, exactly what it should be."""

    def score(self, episode: Episode) -> Score:
        """Compare item by item."""
        got, wanted = episode.evidence["stock"], episode.task.answer
        wrong = [item for item in wanted if got[item] != wanted[item]]
        return Score(float(not wrong), reason=f"wrong: {', '.join(wrong)}" if wrong else "as it should be")


class Storeroom(ToolEnv):
    """Bring the stock of two items to the same number."""

    card = Card(
        what="Move stock so that two items are there in equal number.",
        reward="1 if the whole stock is right at the end, else 0.",
        difficulty="Always the same: two look-ups and one move.",
        oracle="Knows the difference.",
        tags=("tools", "multi-turn"),
        # the audit would wonder that one question has several answers
        accepted={"informative/contradictions": (1.0, "the stock differs, and the tool shows it")},
    )

    def __init__(self, split="train", render_mode=None):
        def task(rng, index):
            stock = {item: int(rng.integers(1, 60)) for item in GOODS}
            low, high = sorted(map(str, rng.choice(GOODS, 2, replace=False)), key=stock.get)
            return Task(
                "",
                f"Buy or sell {low} until there are as many as {high}. Nothing else may change.",
                answer={**stock, low: stock[high]},
                info={"stock": stock, "move": [low, stock[high] - stock[low]]},
            )

        super().__init__(
            TaskSet.generated(task, name="storeroom", split=split),
            [Store()],
            StockIs(),
            max_turns=5,
            render_mode=render_mode,
        )
        self.oracle = self._right

    def _right(self, task, messages, rng):
        item, change = task.info["move"]
        if messages[-1]["role"] == "tool" or change == 0:
            return "Done."
        return self.format.render("", calls=[ToolCall("call-1", "move", {"item": item, "change": change})])


def main():
    env = Storeroom()
    print(env.reset(seed=4)[0])
    for item in env.task.info["move"][0], "anvils":
        print(env.step(f'<tool_call>{{"name": "count", "arguments": {{"item": "{item}"}}}}</tool_call>')[0])
    print(audit(Storeroom, tasks=20, fuzz=50).sound)


if __name__ == "__main__":
    main()
