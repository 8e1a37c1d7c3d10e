"""Plain values as bytes, for the border between a program that is not trusted and its judge.

The writer looks at exact types and normalises what is close to plain (subclasses, named tuples, numpy numbers
and arrays). The reader trusts nothing: every length, depth and count is bounded, and what comes out has been
built by the reader from `None`, `bool`, `int`, `float`, `complex`, `str`, `bytes`, `list`, `tuple`, `set`,
`frozenset` and `dict` alone, so no object of the program, with whatever `__eq__`, ever crosses. No pickle, and no
JSON, whose keys are always text. Used on both sides of the border; standard library only.
"""

from __future__ import annotations

import struct

MAX_DEPTH = 100
MAX_NODES = 1_000_000
MAX_BYTES = 1 << 24
MAX_INT_BYTES = 1 << 16
MAX_SAME_HASH = 64
"""More keys than this with one hash would make a dict here quadratically slow: it is refused."""

_COUNT = struct.Struct("<I")
_FLOAT = struct.Struct("<d")
_COMPLEX = struct.Struct("<dd")
_SIZED = {list: b"L", tuple: b"U", set: b"E", frozenset: b"Z"}


class NotPlain(ValueError):  # noqa: N818 - the name is the sentence
    """The value is not plain data, or too large; the text says which."""


def encode(value: object, *, normalise: bool = True) -> bytes:
    """Write a value. Without `normalise`, subclasses and arrays are refused as well."""
    out: list[bytes] = []
    budget = [MAX_NODES, MAX_BYTES]
    _encode(value, out, 0, budget, normalise)
    return b"".join(out)


def _encode(value: object, out: list[bytes], depth: int, budget: list[int], normalise: bool) -> None:
    if depth > MAX_DEPTH:
        raise NotPlain(f"nested deeper than {MAX_DEPTH}")
    budget[0] -= 1
    if budget[0] < 0:
        raise NotPlain(f"more than {MAX_NODES:,} values")
    kind = type(value)
    if value is None:
        out.append(b"N")
    elif kind is bool:
        out.append(b"T" if value else b"F")
    elif kind is int:
        _block(b"I", _int_bytes(value), out, budget)  # type: ignore[arg-type]
    elif kind is float:
        out.append(b"D" + _FLOAT.pack(value))
    elif kind is str:
        _block(b"S", value.encode("utf-8", "surrogatepass"), out, budget)  # type: ignore[attr-defined]
    elif kind is list or kind is tuple or kind is set or kind is frozenset:
        out.append(_SIZED[kind] + _COUNT.pack(len(value)))  # type: ignore[arg-type]
        for item in value:  # type: ignore[attr-defined]
            _encode(item, out, depth + 1, budget, normalise)
    elif kind is dict:
        out.append(b"M" + _COUNT.pack(len(value)))  # type: ignore[arg-type]
        for key, item in value.items():  # type: ignore[attr-defined]
            _encode(key, out, depth + 1, budget, normalise)
            _encode(item, out, depth + 1, budget, normalise)
    elif kind is bytes:
        _block(b"B", value, out, budget)  # type: ignore[arg-type]
    elif kind is complex:
        out.append(b"C" + _COMPLEX.pack(value.real, value.imag))  # type: ignore[attr-defined]
    elif normalise:
        _encode(plain(value), out, depth + 1, budget, normalise)
    else:
        raise NotPlain(f"a value of type {kind.__name__}")


def _int_bytes(value: int) -> bytes:
    size = value.bit_length() // 8 + 1
    if size > MAX_INT_BYTES:
        raise NotPlain(f"a whole number of {size:,} bytes")
    return value.to_bytes(size, "little", signed=True)


def _block(tag: bytes, data: bytes, out: list[bytes], budget: list[int]) -> None:
    budget[1] -= len(data)
    if budget[1] < 0:
        raise NotPlain(f"more than {MAX_BYTES:,} bytes")
    out.append(tag + _COUNT.pack(len(data)))
    out.append(data)


def plain(value: object) -> object:
    """Return the plain value that a close relative stands for. Runs where the program runs."""
    kind = type(value)
    if kind.__module__.split(".")[0] == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    for base in (bool, int, float, complex, str, bytes):
        if isinstance(value, base):
            return _bare(base, value)
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    for container in (list, tuple, set, frozenset):
        if isinstance(value, container):
            return container(container.__iter__(value))  # type: ignore[arg-type]
    if isinstance(value, dict):
        return dict(dict.items(value))
    if (kind.__module__ == "collections" and kind.__name__ == "deque") or kind is range:
        return list(value)  # type: ignore[call-overload]
    if kind.__name__ in ("dict_keys", "dict_values", "dict_items") and kind.__module__ == "builtins":
        return list(value)  # type: ignore[call-overload]
    raise NotPlain(f"a value of type {kind.__name__}")


def _bare(base: type, value: object) -> object:
    if base is int:
        return int.__index__(value)  # type: ignore[arg-type]
    if base is float:
        return float.__float__(value)  # type: ignore[arg-type]
    if base is complex:
        return complex(value.real, value.imag)  # type: ignore[attr-defined]
    if base is str:
        return str.__str__(value)
    return bytes(memoryview(value))  # type: ignore[arg-type]


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.nodes = MAX_NODES

    def take(self, size: int) -> bytes:
        end = self.at + size
        if end > len(self.data):
            raise NotPlain("cut short")
        part = self.data[self.at : end]
        self.at = end
        return part

    def count(self) -> int:
        number: int = _COUNT.unpack(self.take(4))[0]
        return number

    def value(self, depth: int) -> object:
        if depth > MAX_DEPTH:
            raise NotPlain(f"nested deeper than {MAX_DEPTH}")
        self.nodes -= 1
        if self.nodes < 0:
            raise NotPlain(f"more than {MAX_NODES:,} values")
        tag = self.take(1)
        if tag == b"N":
            return None
        if tag in (b"T", b"F"):
            return tag == b"T"
        if tag == b"I":
            size = self.count()
            if size > MAX_INT_BYTES:
                raise NotPlain(f"a whole number of {size:,} bytes")
            return int.from_bytes(self.take(size), "little", signed=True)
        if tag == b"D":
            return _FLOAT.unpack(self.take(8))[0]
        if tag == b"C":
            return complex(*_COMPLEX.unpack(self.take(16)))
        if tag == b"S":
            return self.take(self.count()).decode("utf-8", "surrogatepass")
        if tag == b"B":
            return self.take(self.count())
        if tag in (b"L", b"U", b"E", b"Z"):
            items = [self.value(depth + 1) for _ in range(self.bounded())]
            if tag == b"L":
                return items
            if tag == b"U":
                return tuple(items)
            hashable(items)
            return set(items) if tag == b"E" else frozenset(items)
        if tag == b"M":
            pairs = [(self.value(depth + 1), self.value(depth + 1)) for _ in range(self.bounded())]
            hashable([key for key, _ in pairs])
            return dict(pairs)
        raise NotPlain(f"an unknown kind {tag!r}")

    def bounded(self) -> int:
        number = self.count()
        if number > len(self.data) - self.at:  # each item takes at least a byte
            raise NotPlain("cut short")
        return number


def hashable(keys: list[object]) -> None:
    """Refuse keys that cannot be keys, and sets of keys made to collide."""
    seen: dict[int, int] = {}
    for key in keys:
        try:
            number = hash(key)
        except TypeError:
            raise NotPlain(f"a {type(key).__name__} as a key") from None
        seen[number] = seen.get(number, 0) + 1
        if seen[number] > MAX_SAME_HASH:
            raise NotPlain("keys made to collide")


def decode(data: bytes) -> object:
    """Read one value that fills `data`; raise `NotPlain` for anything else."""
    if len(data) > MAX_BYTES * 2:
        raise NotPlain(f"more than {MAX_BYTES * 2:,} bytes")
    reader = _Reader(data)
    try:
        value = reader.value(0)
    except (UnicodeDecodeError, RecursionError, struct.error) as error:
        raise NotPlain(f"{type(error).__name__}") from None
    if reader.at != len(data):
        raise NotPlain("more than one value")
    return value
