"""The documentation lists what the code does."""

from pathlib import Path

from vitseek.preprocess.image import IMAGE_SUFFIXES, POLICIES, ImagePreprocessing

PAGE = Path(__file__).parents[2] / "docs" / "preprocessing.md"


def test_the_table_of_formats_lists_every_suffix_and_no_other() -> None:
    text = PAGE.read_text("utf-8")
    rows = text[text.index("| format | suffixes") :].split("\n\n", 1)[0].splitlines()[2:]
    listed = {word for row in rows for word in row.rsplit("|", 2)[1].split() if word.startswith(".")}
    assert listed == IMAGE_SUFFIXES


def test_every_policy_and_every_field_is_explained() -> None:
    text = PAGE.read_text("utf-8")
    assert all(f"| `{policy}` |" in text for policy in POLICIES)
    assert all(f"`{field}`" in text for field in ImagePreprocessing().to_dict())
