"""Weights written to a file are read back by safetensors, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from quintain.rl.engines import server_weights
from quintain.rl.engines.base import EngineError
from quintain.rl.engines.server_weights import FileWeights
from quintain.rl.engines.weight_file import NAMES, write_weights


def same(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    found = load_file(path)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(found[name].float(), tensor.float())


@pytest.mark.parametrize("dtype", NAMES, ids=str)
def test_every_type_comes_back(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {"a": torch.arange(6).reshape(2, 3).to(dtype), "b": torch.ones(5).to(dtype)}
    write_weights(tensors, tmp_path / "file")
    same(tmp_path / "file", tensors)


def test_one_memory_of_two_names_a_view_a_number_and_nothing_at_all(tmp_path: Path) -> None:
    tied = torch.randn(4, 3)
    tensors = {
        "embedding": tied,
        "head": tied,
        "view": tied.T,
        "number": torch.tensor(2.5),
        "none": torch.zeros(0),
    }
    write_weights(tensors, tmp_path / "file")
    same(tmp_path / "file", tensors)


@pytest.mark.parametrize("count", [3, 100, 7])
def test_a_file_that_is_there_is_written_over_whole(tmp_path: Path, count: int) -> None:
    path = tmp_path / "file"
    write_weights({"old": torch.randn(20)}, path)
    before = path.stat().st_ino
    write_weights({"new": torch.arange(count)}, path)
    same(path, {"new": torch.arange(count)})
    assert path.stat().st_ino == before


def test_a_type_that_the_format_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^x has the type torch.complex64"):
        write_weights({"x": torch.zeros(2, dtype=torch.complex64)}, tmp_path / "file")


def test_in_shared_memory_the_file_before_the_last_is_written_over(model, tmp_path, monkeypatch) -> None:
    """The last one is for servers that come back; the one before has been read by all."""
    monkeypatch.setattr(server_weights, "SHARED_MEMORY", tmp_path)
    weights = FileWeights(None, 1.0)
    files = []
    for label in ("a", "b", "c", "d"):
        weights.publish(model, label)
        weights.withdraw()
        (home,) = tmp_path.iterdir()
        files.append((home / label / "model.safetensors").stat().st_ino)
        same(home / label / "model.safetensors", dict(model.state_dict()))
    assert files[0] == files[2] != files[1] == files[3]
    weights.close()
    assert not list(tmp_path.iterdir())


def test_in_a_folder_that_others_see_every_file_is_a_new_one(model, tmp_path: Path) -> None:
    weights = FileWeights(tmp_path, 1.0)
    for label in ("a", "b", "c"):
        weights.publish(model, label)
        weights.withdraw()
    (home,) = tmp_path.iterdir()
    assert [one.name for one in home.iterdir() if one.is_dir()] == ["c"]
    weights.close()


def test_where_there_is_no_room_the_error_names_the_option(model, tmp_path, monkeypatch) -> None:
    def full(tensors, path):
        path.write_bytes(b"a part")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(server_weights, "write_weights", full)
    weights = FileWeights(tmp_path, 1.0)
    with pytest.raises(
        EngineError, match=r"No space left .*; give a folder with room in engine\.server\.weights_dir"
    ):
        weights.publish(model, "a")
    assert not list(tmp_path.rglob("model.safetensors"))
    weights.close()
