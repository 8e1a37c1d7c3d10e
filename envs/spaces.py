"""The space of texts, for observations and actions.

Gymnasium's `spaces.Text` wants every allowed character listed: all of Unicode takes seconds and hundreds of
megabytes, and by default it leaves out the empty string and newlines. Here membership is a length and,
where wanted, a predicate.

Vector environments: `SyncVectorEnv` and `AsyncVectorEnv` work as they are. In shared memory every environment has
room for 256 KiB of UTF-8; whoever has longer texts passes `vector_kwargs={"shared_memory": False}` to `make_vec`, and
they travel through pipes.
"""

from __future__ import annotations

import ctypes
import multiprocessing
from collections.abc import Callable, Sequence
from typing import Any, Self, overload

from gymnasium import Space
from gymnasium.vector.utils import create_shared_memory, read_from_shared_memory, write_to_shared_memory

_ALPHABET = "abcdefghijklmnopqrstuvwxyz ABCXYZ 0123456789 .,:;!?'\"\n\t<>/{}[]()+-*=\\#$%äß√→文🙂"
_SAMPLE_CHARS = 64
_SHARED_BYTES = 1 << 18  # room for one text in shared memory, in UTF-8
_LENGTH_BYTES = 4  # before it stands its length


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

    def __copy__(self) -> Self:
        """Return an equal space, as `copy.copy` would anyhow, without the detour of a pickle: every episode has two."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

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


# --- shared memory, as Gymnasium asks for it: one function each to make, write and read


class SharedTexts(Sequence[str]):
    """The texts that worker processes wrote last, one for each; copying it gives them as a tuple."""

    def __init__(self, rooms: Sequence[Any]) -> None:
        self._rooms = rooms

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...

    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        """Return the text of a worker as it stands now."""
        if isinstance(index, slice):
            return tuple(map(_read, self._rooms[index]))
        return _read(self._rooms[index])

    def __len__(self) -> int:
        return len(self._rooms)

    def __deepcopy__(self, memo: dict[Any, Any]) -> tuple[str, ...]:
        """Return the texts: vector environments copy their observations for the caller."""
        return tuple(self)

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(other) if isinstance(other, Sequence) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"SharedTexts({tuple(self)!r})"


@create_shared_memory.register(TextSpace)
def _create(space: TextSpace, n: int = 1, ctx: Any = multiprocessing) -> list[Any]:
    return [ctx.RawArray(ctypes.c_char, _LENGTH_BYTES + _SHARED_BYTES) for _ in range(n)]


@read_from_shared_memory.register(TextSpace)
def _view(space: TextSpace, shared_memory: Sequence[Any], n: int = 1) -> SharedTexts:
    return SharedTexts(shared_memory)


@write_to_shared_memory.register(TextSpace)
def _write(space: TextSpace, index: int, value: str, shared_memory: Sequence[Any]) -> None:
    data = value.encode("utf-8", "surrogatepass")
    if len(data) > _SHARED_BYTES:
        raise ValueError(
            f"an observation of {len(data)} bytes is longer than the {_SHARED_BYTES} that shared memory has for it; "
            'pass vector_kwargs={"shared_memory": False} to make_vec'
        )
    end = _LENGTH_BYTES + len(data)
    shared_memory[index][:end] = len(data).to_bytes(_LENGTH_BYTES, "little") + data


def _read(room: Any) -> str:
    length = int.from_bytes(room[:_LENGTH_BYTES], "little")
    text: bytes = room[_LENGTH_BYTES : _LENGTH_BYTES + length]
    return text.decode("utf-8", "surrogatepass")
