"""Every filter and every query that docs/search.md shows can be parsed."""

import re
from pathlib import Path

import pytest

from vitseek.errors import FilterSyntaxError, QuerySyntaxError
from vitseek.search import query
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


QUERIES = PAGE.split("# Search and filters")[1].split("## What the score is")[0]
COMMANDS = re.findall(r"^    vitseek search (?:'([^']+)'|\"([^\"]+)\"|(\S+))", QUERIES, flags=re.MULTILINE)
SHOWN = [next(filter(None, parts)) for parts in COMMANDS]
JOINED = re.findall(r"^    (\S.*)$", QUERIES.split("### Joining several")[1].split("- A weight")[0], flags=re.MULTILINE)
CELLS = re.findall(r"^\| (`.+?`) \|", QUERIES, flags=re.MULTILINE)
FORMS = [form for cell in CELLS for form in re.findall(r"`([^`]+)`", cell) if form != "-"]


@pytest.mark.parametrize("text", SHOWN + JOINED + FORMS)
def test_a_query_of_the_page_parses(text):
    assert query.parse(text, is_file=lambda name: False).active


def test_the_page_shows_every_kind_of_term():
    assert len(SHOWN) >= 4
    assert len(JOINED) == 5
    kinds = {term.kind for text in FORMS for term in query.parse(text, is_file=lambda name: False).terms}
    assert kinds == {"file", "text", "image", "address"}


def test_the_refusal_on_the_page_is_what_is_printed():
    with pytest.raises(QuerySyntaxError) as caught:
        query.parse("beach + 2 dogs")
    shown = [line[6:] for line in PAGE.split("vitseek search 'beach + 2 dogs'\n")[1].splitlines()[:4]]
    assert shown == f"error: {caught.value}".splitlines()
