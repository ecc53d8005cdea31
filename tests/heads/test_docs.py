"""docs/classify.md says what the program does."""

import re
from pathlib import Path

from vitseek.heads.zero_shot import DEFAULT_TEMPLATES
from vitseek.search.where import parse

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "classify.md").read_text("utf-8")


def test_the_default_templates_are_all_on_the_page() -> None:
    listed = re.findall(r"^    (.*\{\}.*)$", PAGE, flags=re.MULTILINE)
    assert tuple(listed) == DEFAULT_TEMPLATES


def test_every_filter_on_the_page_parses() -> None:
    shown = re.findall(r"--where '([^']+)'", PAGE) + re.findall(r'images\("([^"]+)"\)', PAGE)
    assert len(shown) >= 3
    assert all(parse(text) for text in shown)
