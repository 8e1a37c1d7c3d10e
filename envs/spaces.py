"""The space of texts, for observations and actions.

Gymnasium's `spaces.Text` wants every allowed character listed: all of Unicode takes seconds and hundreds of
megabytes, and by default it leaves out the empty string and newlines. Here membership is a length and,
where wanted, a predicate.

Vector environments: `SyncVectorEnv` works as it is. Text has no fixed size, so it cannot live in shared memory:
`AsyncVectorEnv` needs `shared_memory=False`, that is
`gymnasium.make_vec(id, num_envs=4, vectorization_mode="async", vector_kwargs={"shared_memory": False})`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gymnasium import Space

_ALPHABET = "abcdefghijklmnopqrstuvwxyz ABCXYZ 0123456789 .,:;!?'\"\n\t<>/{}[]()+-*=\\#$%äß√→文🙂"
_SAMPLE_CHARS = 64


class TextSpace(Space[str]):
    """All texts of `min_length` to `max_length` characters (None: any length) that `predicate` accepts.

    Two spaces are equal if their bounds and predicates are. `sample` draws a short text of letters, digits,
    punctuation, white space and a few characters of other scripts; with a predicate it draws again until one
    is accepted, at most a thousand times. For vector environments see the module.
    """

    def __init__(
        self,
        min_length: int = 0,
        max_length: int | None = None,
        predicate: Callable[[str], bool] | None = None,
        seed: int | None = None,
    ) -> None:
        if min_length < 0 or (max_length is not None and max_length < min_length):
            raise ValueError(f"TextSpace needs 0 <= min_length <= max_length, got {min_length}, {max_length}")
        self.min_length = min_length
        self.max_length = max_length
        self.predicate = predicate
        super().__init__(shape=(), dtype=None, seed=seed)

    @property
    def is_np_flattenable(self) -> bool:
        """Text does not flatten into numbers."""
        return False

    def sample(self, mask: Any | None = None, probability: Any | None = None) -> str:
        """Draw a short text from the space; there is nothing to mask.

        Raises `ValueError` if a mask is given, or if a thousand draws do not satisfy the predicate.
        """
        if mask is not None or probability is not None:
            raise ValueError("TextSpace.sample takes no mask and no probability")
        high = self.min_length + _SAMPLE_CHARS
        if self.max_length is not None:
            high = min(high, self.max_length)
        for _ in range(1000):
            length = int(self.np_random.integers(self.min_length, high + 1))
            picks = self.np_random.integers(len(_ALPHABET), size=length)
            text = "".join([_ALPHABET[i] for i in picks])
            if self.predicate is None or self.predicate(text):
                return text
        raise ValueError("no text of a thousand draws satisfies the predicate; override `sample`")

    def contains(self, x: Any) -> bool:
        """Return whether `x` is a text of the space."""
        if not isinstance(x, str) or len(x) < self.min_length:
            return False
        if self.max_length is not None and len(x) > self.max_length:
            return False
        return self.predicate is None or bool(self.predicate(x))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TextSpace):
            return NotImplemented
        mine = (self.min_length, self.max_length, self.predicate)
        return mine == (other.min_length, other.max_length, other.predicate)

    def __hash__(self) -> int:
        return hash((TextSpace, self.min_length, self.max_length, self.predicate))

    def __repr__(self) -> str:
        bounds = f"{self.min_length}, {self.max_length}"
        return (
            f"TextSpace({bounds})" if self.predicate is None else f"TextSpace({bounds}, {self.predicate!r})"
        )
