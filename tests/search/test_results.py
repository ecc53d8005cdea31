"""Every way to write results gives back the exact file names."""

import csv
import dataclasses
import io
import json
import os
from datetime import datetime
from pathlib import Path

import pytest
from rich.console import Console

from vitseek.search.results import (
    CSV_COLUMNS,
    Match,
    Result,
    document,
    human_bytes,
    one_line,
    shown_path,
    table,
    write_csv,
    write_paths,
)

ODD_NAMES = [
    "plain.jpg",
    "two words.jpg",
    "quote\"comma,'.jpg",
    "line\nbreak.jpg",
    "carriage\rreturn.jpg",
    "tab\tand\x1b[31mcolour.jpg",
    "snow☃ \U0001f600.jpg",
    os.fsdecode(b"latin1-\xe9.jpg"),
    "[bold]markup[/bold].jpg",
    "=cmd().jpg",
]
SEEN = datetime(2024, 5, 17, 18, 30, 1)


def matches(names=ODD_NAMES):
    return [
        Match(7 + i, Path("/photos") / name, 0.9 - i / 10, ("dress", "a,b"), 31, 29, 1234567, SEEN)
        for i, name in enumerate(names)
    ]


def test_json_is_ascii_and_gives_back_every_name():
    text = json.dumps(document([Result("q.jpg", matches())], gallery=Path("/photos"), model="m", where="label:dress"))
    assert text.isascii()
    back = json.loads(text)
    assert [back["gallery"], back["model"], back["where"]] == ["/photos", "m", "label:dress"]
    [result] = back["results"]
    assert result["query"] == "q.jpg"
    assert [Path(match["path"]) for match in result["matches"]] == [match.path for match in matches()]
    assert result["matches"][1] == {
        "rank": 2,
        "score": 0.8,
        "path": "/photos/two words.jpg",
        "labels": ["dress", "a,b"],
        "width": 31,
        "height": 29,
        "bytes": 1234567,
        "modified": "2024-05-17T18:30:01",
        "id": 8,
        "predictions": [],
    }


THOUGHTS = (("dress", 0.93333333, "zero-shot"), ("hat", 0.05, "head"), ("s", 0, "t"))
GUESSED = Match(3, Path("/x.png"), 0.5, ("mine",), predictions=THOUGHTS)


def test_what_models_think_is_told_apart_from_labels():
    [match] = document([Result("q.jpg", [GUESSED])], gallery=Path("/photos"), model="m")["results"][0]["matches"]
    assert match["labels"] == ["mine"]
    assert match["predictions"][:2] == [
        {"label": "dress", "probability": 0.933333, "source": "zero-shot"},
        {"label": "hat", "probability": 0.05, "source": "head"},
    ]
    stream = io.BytesIO()
    write_csv([Result("q.jpg", [GUESSED])], stream)
    [row] = csv.DictReader(io.StringIO(stream.getvalue().decode()))
    assert (row["labels"], row["predictions"]) == ("mine", "dress 0.933333;hat 0.05;s 0")
    assert "mine, dress 0.93, hat 0.05 " in rendered([GUESSED])
    assert "dress 0.93" in rendered([dataclasses.replace(GUESSED, labels=())])


def test_csv_gives_back_every_name_byte_for_byte():
    stream = io.BytesIO()
    write_csv([Result("q 1.jpg", matches()), Result("q2.jpg", [Match(3, Path("/x.png"), -0.25)])], stream)
    text = stream.getvalue().decode("utf-8", "surrogateescape")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert [os.fsencode(row["path"]) for row in rows] == [os.fsencode(m.path) for m in matches()] + [b"/x.png"]
    assert rows[0]["labels"] == "dress;a,b"
    assert rows[-1] == dict.fromkeys(CSV_COLUMNS, "") | {
        "query": "q2.jpg",
        "rank": "1",
        "score": "-0.25",
        "path": "/x.png",
        "id": "3",
    }


def test_paths_are_raw_bytes_once_each_and_null_makes_them_unambiguous():
    stream = io.BytesIO()
    results = [Result("a", matches()), Result("b", matches()[::-1])]
    assert write_paths(results, stream, null=True) == []
    assert stream.getvalue().split(b"\0") == [os.fsencode(match.path) for match in matches()] + [b""]


def test_paths_with_a_line_break_are_reported():
    stream = io.BytesIO()
    ambiguous = write_paths([Result("a", matches())], stream)
    assert ambiguous == [Path("/photos/line\nbreak.jpg")]
    assert stream.getvalue().startswith(b"/photos/plain.jpg\n/photos/two words.jpg\n")


def rendered(rows, width=500, **options):
    console = Console(width=width, file=io.StringIO(), highlight=False, **options)
    console.print(table(rows))
    return console.file.getvalue()


def test_the_table_has_one_line_a_match_whatever_the_name():
    lines = rendered(matches()).splitlines()
    assert len(lines) == 1 + len(ODD_NAMES)
    assert lines[1].split() == ["1", "0.9000", "/photos/plain.jpg", "dress,", "a,b", "31×29", "1.23", "MB"]
    shown = "\n".join(lines)
    assert "line\\nbreak.jpg" in shown
    assert "latin1-\\xe9.jpg" in shown
    assert "\\x1b[31mcolour" in shown
    assert "[bold]markup[/bold]" in shown
    assert "\x1b" not in shown


def test_a_narrow_table_folds_paths_and_loses_no_letter():
    name = "abcdefghij" * 12 + ".jpg"
    header, *lines = rendered([Match(1, Path("/photos") / name, 0.5)], width=50).splitlines()
    assert len(lines) > 2
    column = slice(header.index("path"), header.index("pixels"))
    assert "".join(line[column].strip() for line in lines) == f"/photos/{name}"


def test_the_table_leaves_out_labels_that_nothing_has_and_shows_what_is_missing():
    shown = rendered([Match(1, Path("/a.jpg"), -0.5)])
    assert "labels" not in shown
    assert shown.splitlines()[1].split() == ["1", "-0.5000", "/a.jpg", "–", "–"]


def test_links_open_the_file_itself():
    console = Console(width=500, file=io.StringIO(), force_terminal=True, highlight=False)
    console.print(table([Match(1, Path(os.fsdecode(b"/photos/a b\xe9.jpg")), 0.5)], links=True))
    assert ";file:///photos/a%20b%E9.jpg\x1b\\" in console.file.getvalue()


def test_a_path_is_relative_where_that_is_shorter(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert shown_path(tmp_path / "here" / "x.jpg") == "x.jpg"
    assert shown_path(tmp_path / "there" / "x.jpg") == str(Path("..", "there", "x.jpg"))
    assert shown_path(Path("/x.jpg")) == "/x.jpg"


def test_a_path_is_absolute_when_the_working_directory_is_gone(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert shown_path(Path("/photos/x.jpg")) == "/photos/x.jpg"
    monkeypatch.chdir(tmp_path)


def test_text_on_one_line_shows_bytes_and_control_characters_as_escapes():
    assert one_line("a\nb\t\x1b\udce9é☃") == "a\\nb\\t\\x1b\\xe9é☃"


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1234, "1.23 kB"),
        (999_499, "999 kB"),
        (999_500, "1 MB"),
        (10**9, "1 GB"),
        (12_300_000_000_000, "12.3 TB"),
        (10**16, "10000 TB"),
    ],
)
def test_sizes_have_three_digits(count, shown):
    assert human_bytes(count) == shown
