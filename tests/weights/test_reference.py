"""Reading references and measuring the distance to them."""

from pathlib import Path

import numpy as np
import pytest

from vitseek.errors import CorruptWeightsError, PickledWeightsError, ShapeError, UsageError
from vitseek.weights.reference import compare, read_reference


def test_the_four_numbers_are_those_of_their_definitions() -> None:
    [difference] = compare(np.array([[1.0, 2.0, 2.0]], np.float32), np.array([[1.0, 2.0, 5.0]]))
    assert difference.max_abs == 3
    assert difference.mean_abs == 1
    assert difference.mse == 3
    assert difference.cosine == pytest.approx(15 / (3 * np.sqrt(30)))
    assert difference.within(3)
    assert not difference.within(2.999)


def test_not_a_number_never_passes() -> None:
    [difference] = compare(np.array([[1.0, np.nan]]), np.array([[1.0, 2.0]]))
    assert not difference.within(np.inf)


def test_npy_and_npz_are_read(tmp_path: Path, rng: np.random.Generator) -> None:
    features = rng.normal(size=(2, 5))
    np.save(tmp_path / "a.npy", features)
    np.savez(tmp_path / "one.npz", anything=features)
    np.savez_compressed(tmp_path / "two.npz", features=features, paths=np.zeros(2))
    for name in ("a.npy", "one.npz", "two.npz"):
        np.testing.assert_array_equal(read_reference(tmp_path / name, images=2, width=5), features)
    np.testing.assert_array_equal(read_reference(tmp_path / "one.npz", array="anything", images=2, width=5), features)


def test_a_single_vector_stands_for_one_image(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(5.0))
    assert read_reference(tmp_path / "a.npy", images=1, width=5).shape == (1, 5)


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((3, 5), "it holds 3 images and 2 were given"),
        ((2, 7), "the model's features have 5 numbers"),
        ((2, 5, 1), "one row of features for each image"),
    ],
)
def test_another_shape_is_explained(shape: tuple[int, ...], reason: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(shape))
    with pytest.raises(ShapeError, match=reason) as caught:
        read_reference(tmp_path / "a.npy", images=2, width=5)
    assert f"has shape {shape}, wanted (2, 5)" in str(caught.value)


def test_several_arrays_ask_which(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 5)), y=np.zeros((2, 5)))
    with pytest.raises(UsageError, match="several arrays: name one of x, y with --array"):
        read_reference(tmp_path / "a.npz", images=2, width=5)
    with pytest.raises(UsageError, match="no array called 'z': name one of x, y"):
        read_reference(tmp_path / "a.npz", array="z", images=2, width=5)


def test_pickled_references_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}, None]), allow_pickle=True)
    np.savez(tmp_path / "b.npz", features=np.array([{"a": 1}, None]))
    (tmp_path / "c.npy").write_bytes(b"\x80\x04.")
    for name in ("a.npy", "b.npz", "c.npy"):
        with pytest.raises(PickledWeightsError):
            read_reference(tmp_path / name, images=2, width=5)


def test_text_and_strings_are_no_features(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_text("0.5 0.25")
    with pytest.raises(CorruptWeightsError, match=r"no \.npy file"):
        read_reference(tmp_path / "a.npy", images=2, width=5)
    np.save(tmp_path / "b.npy", np.array(["x", "y"]))
    with pytest.raises(ShapeError, match="wanted numbers"):
        read_reference(tmp_path / "b.npy", images=2, width=5)
    with pytest.raises(UsageError, match="no reference at"):
        read_reference(tmp_path / "none.npy", images=2, width=5)
