"""The question "engines": what is compared, what is counted, and a run from the command line."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks.contest import Outcome, WorkerFailed
from benchmarks.engines import ENGINES, PRODUCTS, REFERENCE, Case, against_the_fastest, groups, ours, peer, row, too_far
from benchmarks.exports import Exports
from benchmarks.runtimes import gflop, product_shapes

from benchmarks import engines

ROOT = Path(__file__).resolve().parents[2]
CASE = Case("vit_tiny", 16, 224, 3, 2)
TORCH = peer("torch", "float32", "transformers")
EXACT, ROUGH = peer("onnxruntime", "float32", "onnx"), peer("torch", "int8", "transformers")


def outcome(engine, seconds, rng=None, apart=0.0):
    features = np.random.default_rng(3).standard_normal((3, 7), dtype=np.float32)
    if rng is not None:
        features += rng.standard_normal(features.shape, dtype=np.float32) * np.float32(apart)
    return Outcome(
        engine.label, wall_s={"": seconds}, processor_s={"": seconds}, outputs={"": features}, peak_bytes=5 << 20
    )


def test_contestants_have_names_of_their_own_and_peers_that_take_part():
    labels = [one.label for one in ENGINES]
    assert len(set(labels)) == len(labels)
    assert {one.peer for one in ENGINES if one.peer} <= set(labels)


def test_float32_that_differs_is_refused_and_int8_is_only_shown(rng):
    by_label = {one.label: one for one in (REFERENCE, EXACT, ROUGH)}
    outputs = {
        REFERENCE.label: outcome(REFERENCE, [1]).outputs,
        EXACT.label: outcome(EXACT, [1], rng, 1e-3).outputs,
        ROUGH.label: outcome(ROUGH, [1], rng, 0.3).outputs,
    }
    assert list(too_far(by_label, outputs)) == [EXACT.label]
    assert "of their length away" in too_far(by_label, outputs)[EXACT.label]
    outputs[ROUGH.label] = {"": np.full((3, 7), np.nan, np.float32)}
    assert list(too_far(by_label, outputs)) == [EXACT.label, ROUGH.label]


def test_nothing_is_timed_without_a_reference():
    reasons = too_far({EXACT.label: EXACT}, {EXACT.label: outcome(EXACT, [1]).outputs})
    assert "nothing to compare with" in reasons[EXACT.label]


def test_a_row_counts_images_a_second_and_the_share_of_what_blas_allows():
    outcomes = {
        one.label: outcome(one, seconds)
        for one, seconds in ((REFERENCE, [0.5, 1, 2]), (TORCH, [1, 2, 4]), (PRODUCTS, [0.25, 0.5, 1]))
    }
    found = row(CASE, REFERENCE, outcomes, CASE.batch)
    assert (found["images/s"], found["slowest"], found["fastest"]) == ("3.00", "1.50", "6.00")
    assert (found["ratio"], found["to"]) == ("2.00", "torch, float32")
    share = gflop("vit_tiny", 16, 224, "class") / gflop("vit_tiny", 16, 224, "products") / 2
    assert found["of BLAS"] == f"{share:.0%}"
    assert (found["apart"], found["cosine"], found["peak"]) == ("0.0e+00", "1.00000", "5 MiB")
    assert against_the_fastest([REFERENCE, TORCH, PRODUCTS], outcomes) == [
        "float32: vitseek numpy is 2.00 times as fast as the fastest peer, torch"
    ]


def test_large_models_are_measured_one_precision_after_the_other_with_the_reference_in_each():
    engines = [REFERENCE, TORCH, PRODUCTS, ROUGH]
    assert groups(engines, 1 << 20, 1 << 40) == [engines]
    assert groups(engines, 1 << 20, None) == [engines]
    assert groups(engines, 1 << 40, 1 << 40) == [[REFERENCE, TORCH, PRODUCTS], [REFERENCE, ROUGH]]
    assert groups([REFERENCE, ROUGH], 1 << 40, 1 << 40) == [[REFERENCE, ROUGH]]


def test_everyone_is_in_one_group_with_its_peer():
    for group in groups(list(ENGINES), 1 << 40, 1 << 30):
        labels = {one.label for one in group}
        assert {one.peer for one in group if one is not REFERENCE and one.peer} <= labels


def test_a_row_of_who_was_skipped_has_the_reason_and_no_figures():
    outcomes = {REFERENCE.label: outcome(REFERENCE, [1]), TORCH.label: Outcome(TORCH.label, skipped="not installed")}
    found = row(CASE, TORCH, outcomes, CASE.batch)
    assert found["skipped"] == "not installed"
    assert found["images/s"] == "–"
    assert against_the_fastest([REFERENCE, TORCH], outcomes) == []


def test_products_are_those_that_all_tokens_go_through():
    shapes = product_shapes("vit_tiny", 16, 224)
    assert len(shapes) == 4 * 12
    assert shapes[:4] == [(192, 576), (192, 192), (192, 768), (768, 192)]
    assert gflop("vit_tiny", 16, 224, "products") == pytest.approx(2 * 197 * 12 * 12 * 192**2 / 1e9)
    assert gflop("vit_tiny", 16, 224, "class") < gflop("vit_tiny", 16, 224, "all")


def test_an_engine_of_another_version_is_skipped_before_anything_is_exported(tmp_path):
    exports = Exports("vit_tiny", 16, 224, tmp_path)
    assert CASE.contestant(ours("abacus"), exports).skipped == "no engine of that name in this version"
    assert list(tmp_path.iterdir()) == []


def test_eight_bits_with_fixed_scales_get_a_calibration(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.engines.missing", lambda modules: "")
    monkeypatch.setattr("benchmarks.exports.call", lambda make, arguments, *, limit_s: make.rpartition(":")[2])
    exports = Exports("vit_tiny", 16, 224, tmp_path, say=lambda said: None)
    arguments = CASE.contestant(ours("onnx", "int8-static"), exports).arguments
    assert (arguments["file"], arguments["calibration"]) == ("weights", "calibration")
    assert "calibration" not in CASE.contestant(ours("onnx", "int8"), exports).arguments


def test_nothing_is_exported_for_a_runtime_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.engines.missing", lambda modules: f"{' and '.join(modules)} not installed")
    exports = Exports("vit_tiny", 16, 224, tmp_path)
    assert CASE.contestant(EXACT, exports).skipped == "onnxruntime not installed"
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_fails_is_tried_once_and_skips_what_is_made_from_it(tmp_path, monkeypatch):
    tried = []

    def failing(make, arguments, *, limit_s):
        tried.append(make)
        raise WorkerFailed("torch is not installed")

    monkeypatch.setattr("benchmarks.exports.call", failing)
    monkeypatch.setattr("benchmarks.engines.missing", lambda modules: "")
    exports = Exports("vit_tiny", 16, 224, tmp_path, say=lambda said: None)
    for engine in (TORCH, EXACT, ROUGH):
        assert CASE.contestant(engine, exports).skipped == "export to weights failed: torch is not installed"
    assert tried == ["benchmarks.exports:weights"]


@pytest.mark.parametrize(("text", "wanted"), [("vit_base/8", ("vit_base", 8)), ("vit_tiny", ("vit_tiny", 16))])
def test_models_are_named_with_their_patch(text, wanted):
    assert engines.sized(text) == wanted


@pytest.mark.slow
def test_the_question_prints_a_table_and_keeps_a_file(tmp_path):
    command = [sys.executable, "-m", "benchmarks.engines", "--quick", "--models", "vit_tiny", "--batches", "2"]
    command += ["--precisions", "float32", "--rounds", "2", "--csv-dir", str(tmp_path)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "vit_tiny/16 at 224 px, batch 2" in ran.stdout
    (file,) = tmp_path.iterdir()
    with file.open(encoding="utf-8", newline="") as opened:
        lines = {line["engine"]: line for line in csv.DictReader(opened)}
    for name in ("vitseek numpy", "matrix products"):
        assert float(lines[name]["images/s"]) > 0
        assert float(lines[name]["peak [MiB]"]) > 20
        assert lines[name]["skipped"] == ""
    assert all(line["skipped"] or float(line["images/s"]) > 0 for line in lines.values())
