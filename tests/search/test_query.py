"""The language of queries: what each form means, what is refused, and that the canonical form parses to the same."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from vitseek.errors import QuerySyntaxError, UsageError
from vitseek.search.query import MAX_LENGTH, MAX_TERMS, MAX_WEIGHT, Expression, Term, parse, remarks

FILES = {"cat.jpg", "2 cats.jpg", "7", "snow", "Artist - Title.jpg", "a + b.png", 'odd "name".jpg', "my cat.jpg"}


def terms(text, **options):
    found = parse(text, **{"is_file": FILES.__contains__, **options})
    return [(term.weight, term.kind, term.value) for term in found.terms]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a red dress", [(1, "text", "a red dress")]),
        ("  a   red\tdress ", [(1, "text", "a red dress")]),
        ('"a red  dress"', [(1, "text", "a red  dress")]),
        ("'it''s'", None),
        ("a dog's life", [(1, "text", "a dog's life")]),
        (r'"5\" disk"', [(1, "text", '5" disk')]),
        (r'"C:\photos and \\"', [(1, "text", "C:\\photos and \\")]),
        ("“red” + „blue“", [(1, "text", "red"), (1, "text", "blue")]),
        ("«green» - 「黒」", [(1, "text", "green"), (-1, "text", "黒")]),
        ('cat.jpg + "night" - 0.5 "snow"', [(1, "file", "cat.jpg"), (1, "text", "night"), (-0.5, "text", "snow")]),
        ("cat.jpg + 'at night'", [(1, "file", "cat.jpg"), (1, "text", "at night")]),
        ("cat.jpg − image:12", [(1, "file", "cat.jpg"), (-1, "image", 12)]),
        ('- "snow" + cat.jpg', [(-1, "text", "snow"), (1, "file", "cat.jpg")]),
        ('+ 2"snow"', [(2, "text", "snow")]),
        ('.25 image:3 + 3. "x"', [(0.25, "image", 3), (3, "text", "x")]),
        ("IMAGE:0", [(1, "image", 0)]),
        ("http://a.org/a-b.jpg?c=1+2 - x", [(1, "address", "http://a.org/a-b.jpg?c=1+2"), (-1, "text", "x")]),
        ("2 https://example.org/", [(2, "address", "https://example.org/")]),
        ("red-dress - blue-green", [(1, "text", "red-dress"), (-1, "text", "blue-green")]),
        ("sea – evening", [(1, "text", "sea – evening")]),
        # a number before words is one of them, unless there is something to weigh it against
        ("2 dogs", [(1, "text", "2 dogs")]),
        ("1.5 litre engine", [(1, "text", "1.5 litre engine")]),
        ("beach + 0.5 rain", [(1, "text", "beach"), (0.5, "text", "rain")]),
        ('beach + "2 dogs"', [(1, "text", "beach"), (1, "text", "2 dogs")]),
        ('0 "snow" + beach', [(0, "text", "snow"), (1, "text", "beach")]),
        ("1984", [(1, "text", "1984")]),
        # files
        ("2 cats.jpg", [(1, "file", "2 cats.jpg")]),
        ("0.5 2 cats.jpg", [(0.5, "file", "2 cats.jpg")]),
        ("2 cat.jpg", [(2, "file", "cat.jpg")]),
        ("7", [(1, "file", "7")]),
        ("cat.jpg + 7", [(1, "file", "cat.jpg"), (1, "file", "7")]),
        ("3 7", [(3, "file", "7")]),
        ("Artist - Title.jpg", [(1, "file", "Artist - Title.jpg")]),
        ("Artist - Title.jpg - night", [(1, "file", "Artist - Title.jpg"), (-1, "text", "night")]),
        ('"night" + 0.5 a + b.png', [(1, "text", "night"), (0.5, "file", "a + b.png")]),
        ('odd "name".jpg', [(1, "file", 'odd "name".jpg')]),
        (r'file:"odd \"name\".jpg" + night', [(1, "file", 'odd "name".jpg'), (1, "text", "night")]),
        ("my cat.jpg + night", [(1, "file", "my cat.jpg"), (1, "text", "night")]),
        ("snow", [(1, "file", "snow")]),
        ('"snow"', [(1, "text", "snow")]),
        ("snow storm", [(1, "text", "snow storm")]),
        ("file:snow", [(1, "file", "snow")]),
        ("gone.jpg", [(1, "file", "gone.jpg")]),
        ("no such picture.JPEG", [(1, "file", "no such picture.JPEG")]),
        ("gone.jpg+cat.jpg", [(1, "file", "gone.jpg+cat.jpg")]),
        (r"C:\photos\cat", [(1, "file", r"C:\photos\cat")]),
        (r"\\server\share\my cat", [(1, "file", r"\\server\share\my cat")]),
        (r"photos\cat", [(1, "file", r"photos\cat")]),
        ("./dress", [(1, "file", "./dress")]),
        ("..", [(1, "file", "..")]),
        ("/no/such/thing", [(1, "file", "/no/such/thing")]),
        ("black/white", [(1, "text", "black/white")]),
        ("C: drive", [(1, "text", "C: drive")]),
    ],
)  # fmt: skip
def test_each_form_means_what_the_page_says(text, wanted):
    if wanted is None:
        with pytest.raises(QuerySyntaxError):
            terms(text)
    else:
        assert terms(text) == wanted


@pytest.mark.parametrize(
    ("text", "position", "said"),
    [
        ("", 0, "the query is empty"),
        (" \n ", 0, "the query is empty"),
        ('""', 0, "they are empty"),
        ("cat.jpg + '  '", 10, "they are empty"),
        ('"a red dress', 0, "never closed"),
        ("beach + 'tis", 8, "double quotes"),
        ('a "red" dress', 2, "in the middle of words"),
        ('0,5 "snow"', 4, "0.5"),
        ("a + ", 4, "something must follow"),
        ("a +", 3, "something must follow"),
        ("-", 1, "something must follow"),
        ("a + - b", 4, "two signs in a row"),
        ('"a" "b"', 4, "a + or - is missing"),
        ('"a"+"b"', 3, "this + stands too close"),
        ('"a" +"b"', 4, "this + stands too close"),
        ("cat -snow", 4, "this - stands too close"),
        ('-0.5 "snow"', 0, "this - stands too close"),
        ('"a"b', 3, "a space is missing"),
        ("image:", 6, "is no id"),
        ("image:cat", 6, "is no id"),
        ("image:-1", 6, "is no id"),
        ("image:٣", 6, "is no id"),
        ("image:99999999999999999999", 6, "is no id"),
        ("image:1 image:2", 8, "a + or - is missing"),
        ("https:// + night", 0, "names no server"),
        ("https://example.org/my cat", 23, "a + or - is missing"),
        ("ftp://example.org/cat.jpg", 0, "no address that can be fetched"),
        ("file: + night", 5, "names no file"),
        ('0 "a" - 0 "b"', 0, "every weight is 0"),
        ('1000.5 "a"', 0, "at most 1000"),
        ("beach + 2 dogs", 8, '"2 dogs" if it is one of the words'),
        ("cat.jpg + 0.5", 10, "stands before nothing"),
        ("a\0b", 0, "control character"),
        ("a\udce9b", 0, "half of a character"),
    ],
)
def test_what_makes_no_sense_is_shown_with_its_place(text, position, said):
    with pytest.raises(QuerySyntaxError) as caught:
        parse(text, is_file=FILES.__contains__)
    assert caught.value.position == position
    assert said in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_query_is_limited_in_length_and_in_terms():
    many = " + ".join(f'"{number}"' for number in range(MAX_TERMS))
    assert len(parse(many).terms) == MAX_TERMS
    with pytest.raises(QuerySyntaxError, match=f"more than {MAX_TERMS}"):
        parse(f'{many} + "one too many"')
    with pytest.raises(QuerySyntaxError, match="at most 2,000"):
        parse("x" * (MAX_LENGTH + 1))
    long_name = "y" * (MAX_LENGTH + 1)
    assert terms(long_name, is_file={long_name}.__contains__) == [(1, "file", long_name)]


def test_without_files_names_are_words_or_refused():
    assert terms("snow", files=False) == [(1, "text", "snow")]
    assert terms("snow + night", files=False) == [(1, "text", "snow"), (1, "text", "night")]
    for text in ("cat.jpg", "file:snow", "/etc/passwd", "~/cat", "night + 2 cat.jpg", "../x"):
        with pytest.raises(QuerySyntaxError, match="files cannot be named here"):
            parse(text, files=False, is_file=lambda name: pytest.fail(f"looked for {name}"))


def test_a_server_names_the_pictures_that_it_holds():
    held = terms('upload:a1B2 + 0.5 upload:x9 - "snow"', files=False, held=True)
    assert held == [(1, "upload", "a1B2"), (0.5, "upload", "x9"), (-1, "text", "snow")]
    assert terms("2 upload:a1B2 + upload:b", files=False, held=True)[0] == (2, "upload", "a1B2")
    assert str(parse('upload:a1B2 - 0.5 "snow"', held=True)) == 'upload:a1B2 - 0.5 "snow"'
    assert terms("upload:a1B2") == [(1, "text", "upload:a1B2")]
    assert terms("upload:../x", held=True) == [(1, "text", "upload:../x")]


def test_without_files_the_folders_of_the_machine_make_no_difference(monkeypatch, tmp_path):
    (tmp_path / "black").mkdir()
    monkeypatch.chdir(tmp_path)
    assert terms("black/white", files=False) == [(1, "text", "black/white")]


def test_the_home_folder_is_found_in_quotes_of_the_shell(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "my cat.jpg").touch()
    [cat, night] = parse("~/my cat.jpg + night").terms
    assert (cat.kind, cat.value) == ("file", str(tmp_path / "my cat.jpg"))
    assert parse("file:~/gone").terms[0].value == str(tmp_path / "gone")
    assert night.value == "night"


def test_a_folder_is_meant_only_with_a_slash(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dress").mkdir()
    assert [term.kind for term in parse("dress").terms] == ["text"]
    assert [term.kind for term in parse("dress/").terms] == ["file"]
    assert [term.kind for term in parse("dress/one").terms] == ["file"]
    assert [term.kind for term in parse("hat/one").terms] == ["text"]


def test_what_a_person_may_not_expect_is_remarked():
    def said(text):
        return remarks(parse(text, is_file=FILES.__contains__), is_file=FILES.__contains__)

    assert said('cat.jpg + "at night"') == []
    assert said("a red dress") == []
    [note] = said('"snow"')
    assert 'file:"snow"' in note
    [note] = said("1984")
    assert "image:1984" in note
    [note] = said('night + 0 "rain"')
    assert '"rain" has the weight 0' in note
    [note] = said('- "rain"')
    assert "least like it" in note


def test_the_picture_of_a_query_is_the_one_that_weighs_most():
    assert parse("0.5 image:3 + image:4 - 9 image:5").picture.value == 4
    assert parse("night").picture is None
    assert parse("night - image:3").picture is None


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((float("nan"), "text", "a"), "between"),
        ((float("inf"), "text", "a"), "between"),
        ((-1001, "text", "a"), "between"),
        (("1", "text", "a"), "is a number"),
        ((True, "text", "a"), "is a number"),
        ((1, "song", "a"), "song"),
        ((1, "text", " "), "empty"),
        ((1, "text", 3), "not text"),
        ((1, "text", "\ud800"), "surrogate"),
    ],
)
def test_a_term_made_by_a_program_is_checked_too(values, said):
    with pytest.raises(UsageError, match=said):
        Term(*values)


def test_terms_of_programs_have_a_name_for_messages():
    shown = Expression((Term(1, "picture", b"...", name="upload.jpg"), Term(-2, "vector", np.ones(3))))
    assert str(shown) == "upload.jpg - 2 vector"


words = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1).filter(str.strip)
paths = st.text(st.characters(exclude_characters="\0", exclude_categories=()), min_size=1).filter(str.strip)
weights = st.one_of(st.just(1.0), st.floats(0, MAX_WEIGHT, allow_subnormal=False).filter(lambda w: w == 0 or w > 1e-9))
signs = st.sampled_from((1, -1))


@st.composite
def some_terms(draw):
    kind = draw(st.sampled_from(("text", "file", "image", "address")))
    value = {
        "text": words,
        "file": paths.filter(lambda path: not path.startswith("~")),
        "image": st.integers(0, 2**63 - 1),
        "address": st.from_regex(r"\Ahttps?://[a-z0-9.:\[\]%/?&=+~#-]*[a-z0-9]\Z", fullmatch=True),
    }[kind]
    weight = draw(weights)
    return Term(draw(signs) * weight if weight else 0.0, kind, draw(value))


expressions = st.lists(some_terms(), min_size=1, max_size=5).map(tuple).map(Expression).filter(lambda e: e.active)


# A busy machine is no failure of the language.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@patient
@given(expressions)
@example(Expression((Term(-1e-7, "text", '\\" + \\'), Term(1000, "file", "file:x"))))
def test_the_canonical_form_parses_to_the_same_query(expression):
    text = str(expression)
    if len(text) <= MAX_LENGTH:
        again = parse(text, is_file=lambda name: False)
        assert again == expression
        assert str(again) == text


def outcome(text, **options):
    """What came of a text; any other error than the language's own fails the test."""
    try:
        return parse(text, **options), None
    except QuerySyntaxError as error:
        return None, error


PIECES = [
    "a",
    "cat.jpg",
    "2",
    "0.5",
    " ",
    " + ",
    " - ",
    "+",
    "-",
    '"',
    "'",
    "\\",
    "image:",
    "file:",
    "/",
    "“",
    "\n",
    "~",
]


@patient
@given(st.lists(st.sampled_from([*PIECES, "http://"])).map("".join), st.booleans())
def test_any_text_parses_or_is_refused_with_a_place_inside_it(text, files):
    found, error = outcome(text, files=files, is_file=FILES.__contains__)
    if error is not None:
        assert error.position is None or 0 <= error.position <= len(text)
        assert str(error).startswith("query: ")
        return
    assert found.active
    assert files or all(term.kind != "file" for term in found.terms)
    assert parse(str(found), is_file=FILES.__contains__) == found


@patient
@given(st.text())
def test_wild_text_never_fails_otherwise(text):
    found, error = outcome(text)
    assert (found is None) != (error is None)


def test_the_default_looks_at_the_disk(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("a + b").touch()
    assert [(term.kind, term.value) for term in parse("a + b").terms] == [("file", "a + b")]
    assert [term.kind for term in parse("b + a").terms] == ["text", "text"]
    assert [term.kind for term in parse("x" * 300).terms] == ["text"]  # longer than any file's name: no error
