from pathlib import Path

import pytest

from vitseek.errors import UsageError
from vitseek.heads.labels import checked_templates, clean, read_lines, split


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("dress, hat, shoes", ["dress", "hat", "shoes"]),
        ('dress, "shirt, blouse",shoes', ["dress", "shirt, blouse", "shoes"]),
        ('"a ""quoted"" word"', ['a "quoted" word']),
        ("carpenter's kit", ["carpenter's kit"]),
        ("裙子, 帽子", ["裙子", "帽子"]),
        ("a,,b,", ["a", "", "b", ""]),
        ("", []),
    ],
)
def test_labels_are_separated_by_commas_and_held_together_by_quotes(text: str, labels: list[str]) -> None:
    assert split(text) == labels


def test_a_quote_that_is_never_closed_is_said() -> None:
    with pytest.raises(UsageError, match="double quotes"):
        split('dress, "shirt')


def test_duplicates_by_case_and_space_count_once_and_that_is_said() -> None:
    said: list[str] = []
    assert clean(["Dress", "evening  dress", "", "dress ", " evening dress", " "], report=said.append) == [
        "Dress",
        "evening dress",
    ]
    assert said == [
        "2 empty labels were left out",
        "2 labels were there already (case and spaces do not count) and left out: dress, evening dress",
    ]


def test_a_list_without_a_label_or_with_a_control_character_is_refused() -> None:
    with pytest.raises(UsageError, match="there is no label"):
        clean(["", "  "])
    with pytest.raises(UsageError, match="printable"):
        clean(["dress", "ha\x07t"])


def test_thousands_of_labels_are_cleaned() -> None:
    labels = [f"label {number}" for number in range(5003)]
    said: list[str] = []
    assert clean([*labels, *labels[:7]], report=said.append) == labels
    assert said[0].startswith("7 labels were there already")
    assert said[0].endswith("label 4, …")


def test_a_file_has_one_entry_a_line_and_comments(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_bytes("\ufeff# clothes\ndress\r\n\n  shirt, blouse\nété\n".encode())
    assert [line.strip() for line in read_lines(file)] == ["dress", "shirt, blouse", "été"]
    file.write_bytes(b"dress\n\xe9t\xe9\n")
    with pytest.raises(UsageError, match=r"labels\.txt is not UTF-8 text \(byte 6\)"):
        read_lines(file)
    with pytest.raises(UsageError, match="No such file"):
        read_lines(tmp_path / "none.txt")
    with pytest.raises(UsageError, match="directory"):
        read_lines(tmp_path)


def test_a_template_needs_the_place_for_the_label() -> None:
    said: list[str] = []
    assert checked_templates(["a {}", "{} and {}", "a {}"], report=said.append) == ["a {}", "{} and {}"]
    assert said == ["1 of the templates came more than once and count once"]
    with pytest.raises(UsageError, match=r"'a photo' has no \{\}"):
        checked_templates(["a {}", "a photo"])
    with pytest.raises(UsageError, match="there is no template"):
        checked_templates([])
