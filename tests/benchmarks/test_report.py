"""Tables become files that say what they depend on."""

import csv
import platform

import numpy as np
import pytest
from benchmarks.report import Report, csv_file, without_units


def lines_of(file):
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def test_the_file_is_named_by_processor_cores_and_versions(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.report._processor", lambda: "AMD EPYC™ 9V74 (Zen 5) (AVX512F)")
    monkeypatch.setattr("benchmarks.report.cores", lambda: 3)
    python = ".".join(platform.python_version_tuple()[:2])
    name = f"amd-epyc-9v74-zen-5-3c-numpy{np.__version__}-py{python}-engines"
    assert csv_file("engines", tmp_path) == tmp_path / f"{name}.csv"
    assert csv_file("engines", tmp_path, quick=True) == tmp_path / f"{name}-quick.csv"


def test_every_row_says_its_table_and_what_it_depends_on(tmp_path, capsys):
    report = Report("engines", tmp_path / "new" / "folder")
    report.table("ViT-S", [{"engine": "ours", "images/s": "12.5"}], versions={"torch": "2.13"})
    report.table("ViT-B", [{"engine": "theirs", "time": "3.1 ms", "skipped": "not installed"}])
    assert "ViT-S\nengine  images/s\nours        12.5" in capsys.readouterr().out
    first, second = lines_of(report.file)
    assert (first["table"], first["engine"], first["images/s"], first["torch"]) == ("ViT-S", "ours", "12.5", "2.13")
    assert (second["table"], second["time [ms]"], second["skipped"], second["torch"]) == (
        "ViT-B",
        "3.1",
        "not installed",
        "",
    )
    for line in (first, second):
        assert line["numpy"] == np.__version__
        assert line["python"] == platform.python_version()
        assert line["cpu"]
        assert int(line["cores"]) >= 1
        assert line["date"][:2] == "20"
    assert [path.name for path in report.file.parent.iterdir()] == [report.file.name]


@pytest.mark.parametrize(
    ("cells", "column", "wanted"),
    [
        (["1,024.5 ms", "–", "−2 ms"], "time [ms]", ["1024.5", "", "-2"]),
        (["12", "3.5", ""], "time", ["12", "3.5", ""]),
        (["12%", "100%"], "time [%]", ["12", "100"]),
        (["1.2e-06", "0"], "time", ["1.2e-06", "0"]),
        (["12 ms", "3 s"], "time", ["12 ms", "3 s"]),
        (["none", "3"], "time", ["none", "3"]),
    ],
)
def test_a_unit_goes_to_the_name_of_the_column_where_all_cells_have_it(cells, column, wanted):
    assert [line[column] for line in without_units([{"time": cell} for cell in cells])] == wanted
