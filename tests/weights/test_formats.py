"""Reading files: what is mapped, what is converted, which file of a folder is meant."""

import json
import mmap
import struct
from pathlib import Path

import numpy as np
import pytest

from tests.weights.checkpoints import entry, save_safetensors, write_raw
from vitseek.errors import CorruptWeightsError, PickledWeightsError, UsageError, WeightsError
from vitseek.weights.formats import read_arrays


def test_safetensors_are_read_as_the_package_reads_them(tmp_path: Path, rng: np.random.Generator) -> None:
    from safetensors.numpy import load_file

    arrays = {
        "matrix": rng.normal(size=(5, 7)).astype(np.float32),
        "double": rng.normal(size=(3,)),
        "half": rng.normal(size=(2, 3)).astype(np.float16),
        "scalar": np.float32(2.5).reshape(()),
        "empty": np.zeros((0, 3), np.float32),
        "number": np.arange(5),
        "flag": np.array([True, False]),
        "ünïcode": rng.normal(size=(2,)).astype(np.float32),
    }
    path = save_safetensors(tmp_path / "a.safetensors", arrays)
    read, reference = read_arrays(path), load_file(path)
    assert read.keys() == reference.keys()
    for name, array in reference.items():
        np.testing.assert_array_equal(read[name], array, err_msg=name)
        assert read[name].shape == read.shapes[name] == array.shape
        assert read[name].dtype == (np.float32 if name == "half" else array.dtype)


def test_float32_is_mapped_read_only_and_outlives_the_reader(tmp_path: Path, rng: np.random.Generator) -> None:
    matrix = rng.normal(size=(5, 7)).astype(np.float32)
    path = save_safetensors(tmp_path / "a.safetensors", {"matrix": matrix})
    array = read_arrays(path)["matrix"]
    assert is_mapped(array)
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 1
    path.unlink()
    np.testing.assert_array_equal(array, matrix)


def test_bfloat16_becomes_float32_exactly(tmp_path: Path) -> None:
    values = np.array([1.0, -2.5, 0.0, 3.0e38, np.inf], np.float32)  # exact but for 3e38
    halves = (values.view(np.uint32) >> 16).astype("<u2")
    path = write_raw(tmp_path / "a.safetensors", {"x": entry("BF16", [5], 0, 10)}, halves.tobytes())
    read = read_arrays(path)["x"]
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, (halves.astype(np.uint32) << 16).view(np.float32))
    np.testing.assert_array_equal(read[:3], values[:3])


def test_unaligned_data_is_copied_to_aligned_memory(tmp_path: Path) -> None:
    header = json.dumps({"x": entry("F32", [3], 0, 12)}).encode()
    header += b" " * ((1 - len(header)) % 4)  # 8 + length is now no multiple of 4
    path = write_raw(tmp_path / "a.safetensors", header, np.float32([1, 2, 3]).tobytes())
    read = read_arrays(path)["x"]
    assert read.flags.aligned
    np.testing.assert_array_equal(read, [1, 2, 3])


def test_npz_gives_the_same_arrays_stored_or_compressed(tmp_path: Path, rng: np.random.Generator) -> None:
    arrays = {
        "c": rng.normal(size=(5, 7)).astype(np.float32),
        "fortran": np.asfortranarray(rng.normal(size=(3, 5)).astype(np.float32)),
        "big_endian": rng.normal(size=(2, 3)).astype(">f4"),
        "half": rng.normal(size=(7,)).astype(np.float16),
        "scalar": np.float64(2.5),
        "empty": np.zeros((0, 3), np.float32),
    }
    np.savez(tmp_path / "stored.npz", **arrays)
    np.savez_compressed(tmp_path / "packed.npz", **arrays)
    for file in ("stored.npz", "packed.npz"):
        read = read_arrays(tmp_path / file)
        assert read.keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(read[name], array, err_msg=f"{file} {name}")
            assert read[name].flags.aligned
            assert read[name].dtype.isnative
            assert read.shapes[name] == array.shape


def test_a_stored_npz_member_is_mapped_when_it_lies_aligned(tmp_path: Path) -> None:
    # The name's length moves the data: one of four names puts it on a multiple of four bytes.
    mapped = []
    for length in range(1, 5):
        path = tmp_path / f"{length}.npz"
        np.savez(path, **{"x" * length: np.arange(7, dtype=np.float32)})
        array = read_arrays(path)["x" * length]
        np.testing.assert_array_equal(array, np.arange(7))
        assert array.flags.aligned
        assert not array.flags.writeable
        mapped.append(is_mapped(array))
    assert sum(mapped) == 1


def is_mapped(array: np.ndarray) -> bool:
    """Whether an array's memory is, in the end, that of a mapped file."""
    owner: object = array
    while isinstance(owner, np.ndarray | memoryview):
        owner = owner.base if isinstance(owner, np.ndarray) else owner.obj
    return isinstance(owner, mmap.mmap)


def test_a_folder_means_its_model_file(tmp_path: Path) -> None:
    save_safetensors(tmp_path / "model.safetensors", {"right": np.zeros(2, np.float32)})
    save_safetensors(tmp_path / "other.safetensors", {"wrong": np.zeros(2, np.float32)})
    assert list(read_arrays(tmp_path)) == ["right"]


def test_a_folder_with_one_file_means_that_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "vit.npz", only=np.zeros(2, np.float32))
    assert list(read_arrays(tmp_path)) == ["only"]


def test_a_folder_with_several_files_asks_which(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_safetensors(tmp_path / f"{name}.safetensors", {"x": np.zeros(2, np.float32)})
    with pytest.raises(UsageError, match=r"a\.safetensors, b\.safetensors.*name the one"):
        read_arrays(tmp_path)


def test_a_folder_without_weights_says_so_and_a_pickle_in_it_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no weights in"):
        read_arrays(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(PickledWeightsError, match=r"pytorch_model\.bin is a pickled checkpoint"):
        read_arrays(tmp_path)


def shards(folder: Path, weight_map: dict[str, str]) -> Path:
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return index


def test_shards_are_joined_by_their_index(tmp_path: Path) -> None:
    save_safetensors(tmp_path / "model-00001-of-00002.safetensors", {"a": np.ones(2, np.float32)})
    save_safetensors(
        tmp_path / "model-00002-of-00002.safetensors", {"b": np.zeros(3, np.float32), "c": np.ones((2, 2), np.float32)}
    )
    files = ["model-00001-of-00002.safetensors", *["model-00002-of-00002.safetensors"] * 2]
    index = shards(tmp_path, dict(zip("abc", files, strict=True)))
    for path in (tmp_path, index):
        read = read_arrays(path)
        assert sorted(read) == ["a", "b", "c"]
        np.testing.assert_array_equal(read["c"], np.ones((2, 2)))
    assert len(read.files) == 3


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    shards(tmp_path, {"a": "model-00001-of-00002.safetensors"})
    with pytest.raises(CorruptWeightsError, match=r"names the shard model-00001-of-00002.safetensors, which is not"):
        read_arrays(tmp_path)


def test_an_index_that_disagrees_with_its_shard_is_refused(tmp_path: Path) -> None:
    save_safetensors(tmp_path / "one.safetensors", {"a": np.ones(2, np.float32)})
    shards(tmp_path, {"a": "one.safetensors", "b": "one.safetensors"})
    with pytest.raises(CorruptWeightsError, match=r"disagree about the tensors in it \(b\)"):
        read_arrays(tmp_path / "model.safetensors.index.json")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt", ".pkl", ".PTH"])
def test_a_pickled_checkpoint_is_refused_with_the_way_out(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"dinov2{suffix}"
    path.write_bytes(b"anything")
    with pytest.raises(PickledWeightsError) as caught:
        read_arrays(path)
    message = str(caught.value)
    assert "can run any code" in message
    assert "from safetensors.torch import save_file" in message
    assert f"torch.load('dinov2{suffix}', weights_only=True)" in message
    assert "'dinov2.safetensors'" in message


def test_another_kind_of_file_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<I", 3) + bytes(32))
    with pytest.raises(WeightsError, match=r"neither safetensors nor npz"):
        read_arrays(path)
