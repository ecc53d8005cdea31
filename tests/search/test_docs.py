"""Every filter that docs/search.md shows can be parsed."""

import re
from pathlib import Path

import pytest

from vitseek.errors import FilterSyntaxError
from vitseek.search.conditions import FIELDS
from vitseek.search.where import parse

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "search.md").read_text("utf-8")
SECTION = PAGE.split("## Filters")[1].split("A filter that does not parse")[0]
INDENTED = re.findall(r"^    (\S.*)$", SECTION, flags=re.MULTILINE)
INLINE = [code for code in re.findall(r"`([^`]+)`", SECTION) if re.match(rf"(not )?({'|'.join(FIELDS)})[:=!<>]", code)]


@pytest.mark.parametrize("text", INDENTED + INLINE)
def test_a_filter_of_the_page_parses(text):
    assert parse(text)


def test_the_page_has_filters_for_every_field():
    assert len(INDENTED + INLINE) > 20
    assert all(f"`{field}`" in SECTION for field in FIELDS)


def test_the_error_on_the_page_is_what_is_printed():
    filter_text = "label:dress wdth>=800"
    with pytest.raises(FilterSyntaxError) as caught:
        parse(filter_text)
    shown = [line.removeprefix("    ") for line in PAGE.split("--where 'label:dress wdth>=800'\n")[1].splitlines()[:4]]
    assert shown == f"error: {caught.value}".splitlines()
