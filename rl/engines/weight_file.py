"""A safetensors file that is written tensor by tensor, without a copy in between, and over one that was there.

The library's own `save_file` copies every tensor first and wants each to have memory of its own. Here a tied head is
written under both of its names out of the same memory, and a file in shared memory keeps its pages from one sync to
the next: getting fresh ones costs more than filling them.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""The format's names of types (https://github.com/huggingface/safetensors, "Format")."""


def write_weights(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write the tensors to `path`; a file that is there is written over in place.

    Raises `OSError` where there is no room, `ValueError` for a type that the format does not have.
    """
    entries: dict[str, object] = {}
    end = 0
    for name, tensor in tensors.items():
        if tensor.dtype not in NAMES:
            raise ValueError(f"{name} has the type {tensor.dtype}, which safetensors does not have")
        begin, end = end, end + tensor.nbytes
        shape = list(tensor.shape)
        entries[name] = {"dtype": NAMES[tensor.dtype], "shape": shape, "data_offsets": [begin, end]}
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    path.touch()
    with path.open("r+b", buffering=0) as file:
        _write(file.fileno(), memoryview(struct.pack("<Q", len(header)) + header))
        for tensor in tensors.values():
            if tensor.nbytes:
                plain = tensor.detach().cpu().contiguous().reshape(-1)
                _write(file.fileno(), plain.view(torch.uint8).numpy().data)
        file.truncate()


def _write(file: int, data: memoryview) -> None:
    while data:
        data = data[os.write(file, data) :]
