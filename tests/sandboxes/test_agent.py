"""The parts that run inside, tried from outside: the system call filter and the border of plain values."""

from __future__ import annotations

import ctypes
import ctypes.util
import math
import struct
import subprocess
import sys
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from enum import IntEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quintain.sandboxes import bundle
from quintain.sandboxes.agent import seccomp, values

# --- the filter -------------------------------------------------------------------------------------------------

SCMP_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def test_the_numbers_are_those_of_libseccomp() -> None:
    path = ctypes.util.find_library("seccomp")
    if path is None:
        pytest.skip("libseccomp is not installed")
    library = ctypes.CDLL(path)
    named = {**seccomp.DENIED, "clone": seccomp.CLONE, "clone3": seccomp.CLONE3}
    named |= {"socket": seccomp.SOCKET, "ioctl": seccomp.IOCTL}
    wrong = []
    for name, numbers in named.items():
        for machine, number in zip(("x86_64", "aarch64"), numbers, strict=True):
            known = library.seccomp_syscall_resolve_name_arch(SCMP_ARCH[machine], name.encode())
            if known < 0 and number is None:
                continue
            if known == -1 or (known < 0 and number is not None and number > 430):
                continue  # newer than this libseccomp
            if known != number:
                wrong.append((name, machine, number, known))
    assert wrong == []


def run(program: bytes, arch: int, number: int, *arguments: int) -> int:
    """Interpret a filter as the kernel does."""
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, arch, 0, *(list(arguments) + [0] * 6)[:6])
    code = [struct.unpack_from("<HBBI", program, i) for i in range(0, len(program), 8)]
    at = value = 0
    while True:
        operation, yes, no, k = code[at]
        at += 1
        if operation == 0x20:
            (value,) = struct.unpack_from("<I", data, k)
        elif operation == 0x06:
            return int(k)
        else:
            holds = {0x15: value == k, 0x35: value >= k, 0x45: bool(value & k)}[operation]
            at += yes if holds else no


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_what_the_filter_lets_through(machine: str) -> None:
    program = seccomp.build(machine)
    arch = seccomp.AUDIT_ARCH[machine]
    column = 0 if machine == "x86_64" else 1
    for name, numbers in seccomp.DENIED.items():
        number = numbers[column]
        if number is not None:
            assert run(program, arch, number) == seccomp.ERRNO | seccomp.EPERM, name
    clone, clone3 = seccomp.CLONE[column], seccomp.CLONE3[column]
    assert run(program, arch, clone, 0x1200011) == seccomp.ALLOW
    assert run(program, arch, clone, 0x10000011) == seccomp.ERRNO | seccomp.EPERM
    assert run(program, arch, clone3) == seccomp.ERRNO | seccomp.ENOSYS
    allowed = [
        family for family in range(60) if run(program, arch, seccomp.SOCKET[column], family) == seccomp.ALLOW
    ]
    assert allowed == [1, 2, 10]
    assert run(program, arch, seccomp.IOCTL[column], 0, 0x5401) == seccomp.ALLOW
    assert run(program, arch, seccomp.IOCTL[column], 0, 0x5412) == seccomp.ERRNO | seccomp.EPERM
    assert run(program, arch, seccomp.IOCTL[column], 0, 0x541C) == seccomp.ERRNO | seccomp.EPERM
    assert run(program, arch, 0 if machine == "x86_64" else 63) == seccomp.ALLOW  # read
    assert run(program, 0x40000003, 11) == seccomp.KILL_PROCESS  # i386
    if machine == "x86_64":
        assert run(program, arch, 0x40000000 + 1) == seccomp.KILL_PROCESS  # x32
    memfd = seccomp.DENIED["memfd_create"][column]
    assert memfd is not None
    assert run(seccomp.build(machine, leave_out=("memfd_create",)), arch, memfd) == seccomp.ALLOW


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_server_and_its_box_forbid_together_what_one_filter_forbids(machine: str) -> None:
    whole = seccomp.build(machine)
    server = seccomp.build(machine, leave_out=seccomp.BOX_MAKING)
    on_top = seccomp.build(machine, only=seccomp.BOX_MAKING)
    arch, column = seccomp.AUDIT_ARCH[machine], 0 if machine == "x86_64" else 1
    for number in range(470):
        for first in (0, 1, 16, 40, 0x1200011, 0x10000011):
            both = {run(server, arch, number, first, 0x5412), run(on_top, arch, number, first, 0x5412)}
            wanted = run(whole, arch, number, first, 0x5412)
            assert (both - {seccomp.ALLOW} or {seccomp.ALLOW}) == {wanted}, (number, first)
    assert run(server, arch, seccomp.DENIED["mount"][column] or 0) == seccomp.ALLOW
    assert len(on_top) < len(whole) / 5


def test_an_unknown_machine_is_refused() -> None:
    with pytest.raises(ValueError, match="no system call filter for 'mips'; have x86_64, aarch64"):
        seccomp.build("mips")


# --- plain values -----------------------------------------------------------------------------------------------

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
keys = st.none() | st.booleans() | st.integers() | st.text() | st.tuples(st.integers(), st.text())
plain = st.recursive(
    scalars,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(keys, inner) | st.sets(keys),
    max_leaves=20,
)


@given(plain)
def test_plain_values_come_back_with_their_types(value: object) -> None:
    got = values.decode(values.encode(value, normalise=False))
    assert got == value
    assert repr(got) == repr(value) or isinstance(value, (set, dict, list, tuple))


@given(st.binary(max_size=300))
def test_no_bytes_make_the_reader_do_more_than_refuse(data: bytes) -> None:
    try:
        values.decode(data)
    except values.NotPlain as refused:
        assert str(refused)


@given(plain, st.data())
def test_a_damaged_value_is_refused_or_plain(value: object, data: st.DataObject) -> None:
    written = bytearray(values.encode(value))
    at = data.draw(st.integers(0, len(written) - 1))
    written[at] = data.draw(st.integers(0, 255))
    try:
        values.decode(bytes(written))
    except values.NotPlain as refused:
        assert str(refused)


class Colour(IntEnum):
    RED = 3


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (Colour.RED, 3),
        (Point(1, 2), (1, 2)),
        (deque([1, 2]), [1, 2]),
        (range(3), [0, 1, 2]),
        (Counter("aab"), {"a": 2, "b": 1}),
        (defaultdict(list, {1: [2]}), {1: [2]}),
        (OrderedDict([("b", 1), ("a", 2)]), {"b": 1, "a": 2}),
        ({"a": 1}.keys(), ["a"]),
        (bytearray(b"x"), b"x"),
    ],
)
def test_near_relatives_become_plain(value: object, wanted: object) -> None:
    got = values.decode(values.encode(value))
    assert (type(got), got) == (type(wanted), wanted)


def test_numpy_becomes_plain() -> None:
    numpy = pytest.importorskip("numpy")
    got = values.decode(
        values.encode([numpy.int64(3), numpy.float64(1.5), numpy.array([[1, 2]]), numpy.bool_(True)])
    )
    assert got == [3, 1.5, [[1, 2]], True]
    assert [type(item) for item in got] == [int, float, list, bool]  # type: ignore[attr-defined]


def test_not_a_number_stays_one_and_equals_nothing() -> None:
    got = values.decode(values.encode([math.nan, math.inf, -0.0]))
    assert str(got) == "[nan, inf, -0.0]"
    assert got[0] != got[0]  # type: ignore[index]


class Yes:
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Yes(), "a value of type Yes"),
        ([lambda: 1], "a value of type function"),
        ((i for i in "a"), "a value of type generator"),
        (1 << (1 << 20), "a whole number of"),
    ],
    ids=["object", "function", "generator", "huge number"],
)
def test_what_is_not_plain_says_so(value: object, words: str) -> None:
    with pytest.raises(values.NotPlain, match=words):
        values.encode(value)


def test_depth_and_cycles_are_bounded() -> None:
    deep: list[object] = []
    deep.append(deep)
    with pytest.raises(values.NotPlain, match="nested deeper than 100"):
        values.encode(deep)
    with pytest.raises(values.NotPlain, match="nested deeper than 100"):
        values.decode(b"L\x01\x00\x00\x00" * 200 + b"N")


def test_a_length_beyond_the_data_is_refused_at_once() -> None:
    with pytest.raises(values.NotPlain, match="cut short"):
        values.decode(b"L\xff\xff\xff\xff")


def test_keys_made_to_collide_are_refused() -> None:
    prime = (1 << 61) - 1
    with pytest.raises(values.NotPlain, match="keys made to collide"):
        values.decode(values.encode({prime * i: i for i in range(1000)}))


# --- the bundle -------------------------------------------------------------------------------------------------


def test_every_module_of_the_agent_is_in_the_bundle() -> None:
    from pathlib import Path

    from quintain.sandboxes import agent

    folder = Path(agent.__file__).parent
    there = {path.stem for path in folder.glob("*.py")} - {"__init__", "launch"}
    assert set(bundle.MODULES) == there


def test_the_agent_fits_on_a_command_line_and_imports_nothing_beside_the_standard_library() -> None:
    text = bundle.boot("values", {}, []).replace("package.values.main({})", "print(sorted(sys.modules))")
    assert len(text) < 128 * 1024
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", text], capture_output=True, text=True, check=True
    )
    for heavy in ("pathlib", "contextlib", "typing", "json", "asyncio", "socket", "re"):
        assert f"'{heavy}'" not in done.stdout
