from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from vitseek.train.metrics import CURVES, EPOCHS, STEPS, Metrics, draw_curves, read_rows, write_rows  # noqa: E402


def test_a_resumed_run_drops_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    with Metrics(tmp_path) as metrics:
        for step in range(1, 8):
            metrics.step(step, {"loss": 1 / step})
        metrics.epoch(7, {"epoch": 1, "train_loss": 0.5})
    with Metrics(tmp_path, last_step=5) as metrics:
        metrics.step(6, {"loss": 9.0})
        metrics.flush()
    assert [(row["step"], row["loss"]) for row in read_rows(tmp_path / STEPS)][-2:] == [(5, 0.2), (6, 9.0)]
    assert read_rows(tmp_path / EPOCHS) == []


def test_numbers_come_back_exactly_and_missing_ones_stay_missing(tmp_path: Path) -> None:
    rows = [{"step": 3.0, "loss": 0.1 + 0.2}, {"step": 5.0, "loss": 1e-17, "val_accuracy": 1 / 3}]
    write_rows(tmp_path / STEPS, rows)
    assert read_rows(tmp_path / STEPS) == rows
    assert (tmp_path / STEPS).read_text().splitlines()[0] == "step,loss,val_accuracy"


def test_the_curve_picture_has_a_second_half_for_scores(tmp_path: Path) -> None:
    from PIL import Image

    widths = []
    for scores in ({}, {"knn_accuracy": 0.5, "text_to_image_recall@1": 0.25}):
        with Metrics(tmp_path) as metrics:
            metrics.step(1, {"loss": 2.0})
            metrics.step(2, {"loss": 1.0})
            metrics.epoch(2, {"epoch": 1, "val_loss": 1.5, **scores})
        with Image.open(draw_curves(tmp_path, "a run")) as picture:
            widths.append(picture.width)
        for file in (STEPS, EPOCHS, CURVES):
            (tmp_path / file).unlink()
    assert widths == [720, 1320]
