"""Weights files made to crash, to deceive or to attack: each is refused with its name and what to do."""

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.weights.checkpoints import entry, write_raw
from vitseek.errors import CorruptWeightsError, PickledWeightsError, VitseekError, WeightsError
from vitseek.weights.formats import read_arrays
from vitseek.weights.loader import load_weights

EXAMPLES = int(os.environ.get("VITSEEK_FUZZ_EXAMPLES", "100"))  # more on demand: 10,000 take some minutes
GOOD = {"a": entry("F32", [3], 0, 12), "b": entry("F32", [2, 2], 12, 28)}
DATA = bytes(28)


def changed(**entries: Any) -> dict[str, Any]:
    return {**GOOD, **entries}


SAFETENSORS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "zero bytes": (lambda p: write(p, b""), "is empty"),
    "seven bytes": (lambda p: write(p, bytes(7)), "7 bytes, too few"),
    "header cut off": (lambda p: write_raw(p, GOOD, b"", length=4000), "cut off: its header should have 4,000"),
    "huge header": (
        lambda p: write_raw(p, GOOD, DATA, length=2**63),
        "announces a header of 9,223,372,036,854,775,808",
    ),
    "header of one gigabyte": (lambda p: write_raw(p, GOOD, DATA, length=10**9), "announces a header of 1,000,000,000"),
    "empty header": (lambda p: write_raw(p, b"", DATA), "header that cannot be read"),
    "not UTF-8": (lambda p: write_raw(p, b'{"\xff\xfe": 1}', DATA), "header that cannot be read"),
    "not JSON": (lambda p: write_raw(p, b'{"a": ', DATA), "header that cannot be read"),
    "deep nesting": (lambda p: write_raw(p, b'{"a":' * 100_000, DATA), "header that cannot be read"),
    "giant number": (lambda p: write_raw(p, b'{"a":' + b"9" * 5000 + b"}", DATA), "header that cannot be read"),
    "a list": (lambda p: write_raw(p, [1, 2], DATA), "no JSON object"),
    "a name twice": (
        lambda p: write_raw(p, b'{"a":%s,"a":%s}' % ((json.dumps(GOOD["a"]).encode(),) * 2), DATA),
        "the name 'a' occurs twice",
    ),
    "data cut off": (lambda p: write_raw(p, GOOD, DATA[:-1]), "'b' should end at byte 28 of the data, which has 27"),
    "data too long": (lambda p: write_raw(p, GOOD, DATA + b"x"), "1 bytes that no tensor owns"),
    "overlap": (
        lambda p: write_raw(p, changed(b=entry("F32", [2, 2], 8, 24)), DATA),
        "'b' starts at byte 8 and overlaps",
    ),
    "gap": (lambda p: write_raw(p, changed(b=entry("F32", [3], 16, 28)), DATA), "leaves a gap before it"),
    "offset outside": (
        lambda p: write_raw(p, changed(b=entry("F32", [2, 2], 10**15, 10**15 + 16)), DATA),
        "is cut off",
    ),
    "offsets reversed": (lambda p: write_raw(p, changed(b=entry("F32", [2, 2], 28, 12)), DATA), "contradicts itself"),
    "negative offset": (lambda p: write_raw(p, changed(b=entry("F32", [2, 2], -4, 12)), DATA), "describes 'b' wrongly"),
    "shape against offsets": (lambda p: write_raw(p, changed(b=entry("F32", [2, 3], 12, 28)), DATA), "needs 24 bytes"),
    "shape overflows": (
        lambda p: write_raw(p, changed(b=entry("F32", [2**32, 2**32, 2**3], 12, 28)), DATA),
        "contradicts itself",
    ),
    "negative shape": (
        lambda p: write_raw(p, changed(b=entry("F32", [-2, -2], 12, 28)), DATA),
        "describes 'b' wrongly",
    ),
    "shape of floats": (lambda p: write_raw(p, changed(b=entry("F32", [2.0, 2.0], 12, 28)), DATA), "describes 'b'"),
    "shape of bools": (lambda p: write_raw(p, changed(a=entry("F32", [True, 3], 0, 12)), DATA), "describes 'a'"),
    "thousand dimensions": (
        lambda p: write_raw(p, changed(a=entry("F32", [1] * 999 + [3], 0, 12)), DATA),
        "dimensions",
    ),
    "dtype against offsets": (lambda p: write_raw(p, changed(b=entry("F64", [2, 2], 12, 28)), DATA), "needs 32 bytes"),
    "no entry": (lambda p: write_raw(p, {"a": None}, DATA), "describes 'a' wrongly"),
    "three offsets": (
        lambda p: write_raw(p, {"a": {"dtype": "F32", "shape": [7], "data_offsets": [0, 28, 28]}}, DATA),
        "describes 'a' wrongly",
    ),
}


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("case", SAFETENSORS, ids=lambda name: name.replace(" ", "-"))
def test_a_bad_safetensors_file_is_refused_by_name(case: str, tmp_path: Path) -> None:
    make, reason = SAFETENSORS[case]
    path = make(tmp_path / "model.safetensors")
    with pytest.raises(CorruptWeightsError) as caught:
        read_arrays(path)
    assert reason in str(caught.value)
    assert str(path) in str(caught.value)
    assert "download or copy it again" in str(caught.value)


def test_the_good_file_that_the_bad_ones_vary_is_read(tmp_path: Path) -> None:
    assert read_arrays(write_raw(tmp_path / "model.safetensors", GOOD, DATA)).shapes == {"a": (3,), "b": (2, 2)}


def test_a_dtype_that_numpy_has_not_is_named(tmp_path: Path) -> None:
    path = write_raw(tmp_path / "model.safetensors", {"a": entry("F8_E4M3", [4], 0, 4)}, bytes(4))
    with pytest.raises(WeightsError, match="stores 'a' as F8_E4M3"):
        read_arrays(path)


def test_a_header_full_of_hostile_names_is_an_error_and_not_a_crash(tmp_path: Path) -> None:
    names = ["", ".", "blocks.#.norm1.*", "blocks.٣.norm1.weight", "blocks.-1.norm1.weight", "blocks." + "9" * 99, "\0"]
    header = {name: entry("F32", [1], 4 * at, 4 * at + 4) for at, name in enumerate(names)}
    path = write_raw(tmp_path / "model.safetensors", header, bytes(4 * len(names)))
    with pytest.raises(WeightsError):
        load_weights(path)


small = st.integers(-3, 40)
junk: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | small | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
tensors = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "BF16", "F64", "U8", "BOOL", "F8_E5M2", ""]) | junk,
        "shape": st.lists(small, max_size=4) | junk,
        "data_offsets": st.lists(small, min_size=2, max_size=2) | junk,
    }
)
headers = st.dictionaries(st.text(max_size=5), tensors | junk, max_size=4)


def outcome(path: Path) -> dict[str, tuple[int, ...]] | None:
    """What reading every array gives; ``None`` for a proper error."""
    try:
        read = read_arrays(path)
        return {name: read[name].shape for name in read}
    except VitseekError:
        return None


@settings(max_examples=EXAMPLES, deadline=None)
@given(header=headers, data=st.binary(max_size=40), length=st.none() | st.integers(0, 2**64 - 1))
def test_any_header_is_read_or_refused_properly(
    header: dict[str, Any], data: bytes, length: int | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.safetensors"
    write_raw(path, json.dumps(header).encode(), data, length=length)
    outcome(path)


@settings(max_examples=EXAMPLES, deadline=None)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_properly(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    for suffix in (".safetensors", ".npz"):
        outcome(write(tmp_path_factory.getbasetemp() / f"fuzzed{suffix}", content))


@settings(max_examples=EXAMPLES, deadline=None)
@given(at=st.integers(0, 400), bit=st.integers(0, 7), cut=st.integers(0, 60))
def test_what_the_safetensors_package_refuses_is_refused(
    at: int, bit: int, cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file, save

    content = bytearray(save({"a": np.arange(3, dtype=np.float32), "b": np.ones((2, 2), np.float32)}))
    content[at % len(content)] ^= 1 << bit
    path = write(tmp_path_factory.getbasetemp() / "bent.safetensors", bytes(content[: len(content) - cut]))
    ours = outcome(path)
    try:
        theirs = {name: array.shape for name, array in load_file(path).items()}
    except (SafetensorError, KeyError, ValueError, TypeError):
        theirs = None
    if theirs is None:
        assert ours is None
    elif ours is not None:  # stricter is allowed: duplicate names, dtypes without a NumPy counterpart
        assert ours == theirs


class Attack:
    """Unpickling this creates a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.trace,))


def test_the_attack_works_where_pickles_are_loaded(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Attack(tmp_path / "trace")))
    assert (tmp_path / "trace").exists()


@pytest.mark.parametrize("compressed", [False, True])
def test_an_npz_with_pickled_objects_is_refused_before_any_runs(compressed: bool, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    payload = np.empty(1, dtype=object)
    payload[0] = Attack(trace)
    path = tmp_path / "model.npz"
    (np.savez_compressed if compressed else np.savez)(path, good=np.zeros(3, np.float32), bad=payload)
    with pytest.raises(PickledWeightsError, match=r"'bad\.npy' has dtype object.*can run any code"):
        read_arrays(path)
    assert not trace.exists()


@pytest.mark.parametrize("name", ["model.safetensors", "model.npz", "weights", "model.npy"])
def test_a_pickle_under_another_name_is_refused_before_it_runs(name: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    path = write(tmp_path / name, pickle.dumps(Attack(trace)))
    with pytest.raises(PickledWeightsError, match="is a pickle under another name"):
        read_arrays(path)
    assert not trace.exists()


@pytest.mark.parametrize("name", ["model.safetensors", "model.npz", "weights"])
def test_a_torch_archive_under_another_name_is_refused_before_it_runs(name: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Attack(trace)))
        archive.writestr("archive/data/0", bytes(12))
    with pytest.raises(PickledWeightsError, match="is a torch archive"):
        read_arrays(tmp_path / name)
    assert not trace.exists()


def npy(shape: tuple[int, ...], *, data: bytes = b"", descr: str = "<f4") -> bytes:
    stream = BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue() + data


def archive(path: Path, members: dict[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def test_a_decompression_bomb_is_refused_before_it_unpacks(tmp_path: Path) -> None:
    side = 5_000
    zeros = npy((side, side), data=bytes(4 * side * side))
    path = archive(tmp_path / "model.npz", {"a.npy": zeros}, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 500_000
    with pytest.raises(CorruptWeightsError, match="claims to unpack to 100,000,128: a decompression bomb"):
        read_arrays(path)


def test_a_member_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "model.npz", {"a.npy": npy((1_000_000, 1_000_000), data=bytes(16))})
    with pytest.raises(CorruptWeightsError, match=r"'a\.npy' of shape \(1000000, 1000000\).*the archive holds 16"):
        read_arrays(path)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"a.npy": b"\x93NUMPY\x01\x00\xff\xff{"}, r"damaged array 'a\.npy'"),
        ({"a.npy": b""}, r"damaged array 'a\.npy'"),
        ({"a.npy": b"\x93NUMPY\x09\x00\x10\x00" + b" " * 16}, r"damaged array 'a\.npy'"),
        ({"a.npy": npy((2,), data=bytes(4))}, "contradicts itself"),
        ({"a.npy": npy((-2, -2), data=bytes(16))}, "contradicts itself"),
        ({"a.npy": npy((2,), data=bytes(8), descr="|S4")}, "no array of numbers"),
        ({"a.txt": b"hello"}, r"'a\.txt' is no \.npy file"),
        ({}, "empty archive"),
    ],
)
def test_a_bad_npz_is_refused_by_name(members: dict[str, bytes], reason: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "model.npz", members)
    with pytest.raises(CorruptWeightsError, match=reason) as caught:
        read_arrays(path)
    assert str(path) in str(caught.value)


def test_a_truncated_npz_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "model.npz", a=np.zeros(1000, np.float32))
    content = (tmp_path / "model.npz").read_bytes()
    for kept in (3, 40, 2000, len(content) - 1):
        path = write(tmp_path / f"cut{kept}.npz", content[:kept])
        with pytest.raises(CorruptWeightsError, match="download or copy it again"):
            read_arrays(path)


def test_damaged_compressed_data_is_an_error_when_it_is_read(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "model.npz"
    np.savez_compressed(path, a=rng.normal(size=1009))
    content = bytearray(path.read_bytes())
    for at in range(3000, 3100):
        content[at] ^= 0xFF
    read = read_arrays(write(path, bytes(content)))
    with pytest.raises(CorruptWeightsError, match="damaged array"):
        read["a"]


OUTSIDE = [
    "../secret.safetensors",
    "/etc/secret.safetensors",
    "a/../../x.safetensors",
    "..\\x.safetensors",
    "C:\\x.safetensors",
    "\\\\host\\x.safetensors",
    "passwd",
    "x.bin",
    "",
    "a\0.safetensors",
]
BAD_INDEXES = ["", "[]", "{", '{"weight_map": []}', '{"weight_map": {}}', '{"weight_map": {"a": 5}}', "[" * 100_000]
BAD_CONFIGS = [
    "",
    "[]",
    "{",
    "{}",
    "[" * 100_000,
    '{"format": "vitseek"}',
    '{"format": "vitseek", "version": 99}',
    '{"format": "vitseek", "version": 1, "config": {"embed_dim": "many"}}',
    '{"model_type": "llama"}',
    '{"model_type": "vit", "image_size": "large"}',
    '{"model_type": "vit", "hidden_act": "relu"}',
    '{"architecture": "resnet50"}',
    '{"architecture": "vit_base", "pretrained_cfg": {"input_size": [3, 224]}}',
]


@pytest.mark.parametrize("shard", OUTSIDE)
def test_a_shard_outside_the_folder_is_refused(shard: str, tmp_path: Path) -> None:
    write_raw(tmp_path / "secret.safetensors", {"a": entry("F32", [1], 0, 4)}, bytes(4))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(CorruptWeightsError, match=r"not a \.safetensors file inside"):
        read_arrays(folder)


@pytest.mark.parametrize("text", BAD_INDEXES, ids=range(len(BAD_INDEXES)))
def test_a_bad_index_of_shards_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(CorruptWeightsError, match=r"model\.safetensors\.index\.json"):
        read_arrays(tmp_path)


@pytest.mark.parametrize("text", BAD_CONFIGS, ids=range(len(BAD_CONFIGS)))
def test_a_bad_config_beside_the_weights_is_refused_by_name(text: str, tmp_path: Path) -> None:
    write_raw(tmp_path / "model.safetensors", {"blocks.0.a": entry("F32", [1], 0, 4)}, bytes(4))
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(VitseekError, match=r"config\.json"):
        load_weights(tmp_path)


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_raw(tmp_path / "model.safetensors", GOOD, DATA)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)  # root, who runs the tests in a container, may read anything
    with pytest.raises(WeightsError, match=r"model\.safetensors cannot be read: Permission denied"):
        read_arrays(path)


def test_a_header_length_of_all_values_of_one_byte_is_harmless(tmp_path: Path) -> None:
    text = json.dumps(GOOD).encode()
    for place in range(8):
        length = bytearray(struct.pack("<Q", len(text)))
        length[place] = 0x7F
        path = write(tmp_path / "model.safetensors", bytes(length) + text + DATA)
        with pytest.raises(CorruptWeightsError):
            read_arrays(path)
