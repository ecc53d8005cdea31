"""The filter language: what it means, checked on a real SQLite table, and what it says when it cannot be read."""

import pickle
import random
import re
import sqlite3
import unicodedata
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitseek.errors import FilterSyntaxError
from vitseek.search import where
from vitseek.search.conditions import And, AtLeast, Below, Equals, Like, Not, Or, Wild
from vitseek.search.where import parse


@dataclass(frozen=True)
class Image:
    """A row of the catalog as a filter sees it."""

    id: int
    path: str
    width: int | None
    height: int | None
    bytes: int
    date: str | None
    labels: tuple[str, ...]
    predicted: tuple[tuple[str, float], ...] = ()

    @property
    def name(self):
        return self.path.rpartition("/")[2]


def table(images):
    """The columns that Filter.to_sql promises to use, as the gallery's migration makes them."""
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE catalog (id INTEGER, path TEXT, name TEXT, width INT, height INT, bytes INT, date TEXT)")
    db.execute("CREATE TABLE predicted (image_id INTEGER, label TEXT, probability REAL, source TEXT)")
    db.execute("CREATE TABLE tags (image_id INTEGER NOT NULL, label TEXT NOT NULL, source TEXT NOT NULL)")
    rows = [(i.id, i.path, i.name, i.width, i.height, i.bytes, i.date) for i in images]
    db.executemany("INSERT INTO catalog VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    db.executemany("INSERT INTO tags VALUES (?, ?, 'user')", [(i.id, label) for i in images for label in i.labels])
    said = [(i.id, label, probability, "zero-shot") for i in images for label, probability in i.predicted]
    db.executemany("INSERT INTO predicted VALUES (?, ?, ?, ?)", said)
    db.executemany("INSERT INTO tags VALUES (?, ?, ?)", [(row[0], row[1], row[3]) for row in said])
    return db


def by_sql(db, text):
    clause, values = parse(text).to_sql()
    return [row[0] for row in db.execute(f"SELECT id FROM catalog WHERE {clause} ORDER BY id", values)]


PHOTOS = [
    Image(1, "trip/Beach/IMG_1.jpg", 800, 600, 1_500_000, "2024-05-17T18:30:00", ("dress", "red")),
    Image(2, "trip/beach day/img 2.JPG", 801, 599, 999_999, "2024-05-31T23:59:59", ("Dress",)),
    Image(3, "100%_real*.png", 31, 29, 1_000_000, "2023-12-31T23:59:59", ("dressing gown",)),
    Image(4, "100x_real!.png", None, None, 0, None, ()),
    Image(5, unicodedata.normalize("NFD", "été/Ångström.jpg"), 1200, 1200, 2**40, "2025-01-01T00:00:00", ("été",)),
    Image(6, "caf\\xe9.jpg", 800, 29, 1_048_576, "2024-06-01T00:00:00", ("not", "a\\b", 'say "hi"')),
]

GUESSED = [
    Image(1, "a.jpg", 7, 5, 3, None, ("dress",), (("hat", 0.8), ("dress", 0.1))),
    Image(2, "b.jpg", 7, 5, 3, None, (), (("dress", 0.8), ("evening dress", 0.25))),
    Image(3, "c.jpg", 7, 5, 3, None, ("hat",), (("dress", 0.79999),)),
    Image(4, "d.jpg", 7, 5, 3, None, ("shoe",)),
    Image(5, "e.jpg", 7, 5, 3, None, (), (("été", 0.5), ("a>=b", 1.0))),
]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("label:dress", [1, 2, 3]),  # whoever says so
        ("label:hat", [1, 3]),
        ("not label:*", []),
        ("predicted:dress", [1, 2, 3]),
        ("predicted:DRESS>=0.8", [2]),  # of the same prediction: the hat of 1 does not count
        ("predicted:dress >= 80%", [2]),
        ("predicted:dress>.79999", [2]),
        ("predicted:dress<0.8", [1, 3]),
        ("predicted:dress<=0.8", [1, 2, 3]),
        ("predicted:*dress>0.2 label:*", [2, 3]),
        ('predicted:"evening dress">=0.25', [2]),
        ("(predicted:dress>=0.8)", [2]),
        ("predicted:dress>=0.8 or predicted:hat>=0.8", [1, 2]),
        ("predicted=dress>=0.5", [2, 3]),
        ("predicted!=dress>=0.5", [1, 4, 5]),
        ("not predicted:*", [4]),
        ("predicted:" + unicodedata.normalize("NFD", "été"), [5]),
        ('predicted:"a>=b"', [5]),
        ('label:"a>=b"', [5]),
        ("predicted:a\\>=b", [5]),
        ("confidence>=0.8", [1, 2, 5]),  # of the most probable prediction
        ("confidence>0.8", [5]),
        ("confidence:0.79..80%", [1, 2, 3]),
        ("confidence!=0.8", [3, 4, 5]),
        ("confidence<1", [1, 2, 3]),
        ("not confidence>=0", [4]),
        ("probability=1", [5]),
        ("source:zero-shot", [1, 2, 3, 5]),
        ("source:zero*", [1, 2, 3, 5]),
        ("source=user", [1, 3, 4]),
        ("not source:user", [2, 5]),
    ],
)
def test_predicted_labels_are_found_with_their_probability(text, ids):
    assert by_sql(table(GUESSED), text) == ids


@pytest.mark.parametrize(
    ("text", "problem", "position"),
    [
        ("predicted:dress>=1.5", "no probability", 17),
        ("predicted:dress>=high", "no probability", 17),
        ("predicted:dress>=101%", "no probability", 17),
        ("predicted:dress>=.", "no probability", 17),
        ("predicted:dress>=", "wants a probability", 17),
        ("predicted>=0.5", "is text and has no order", 9),
        ("label:dress>=0.5", "a label has no probability", 11),
        ("confidence>=often", "no probability", 12),
        ("confidence:0.8..0.2", "nothing lies between", 11),
        ('predicted:"dress"x', "a space is missing", 17),
    ],
)
def test_a_probability_that_makes_no_sense_is_shown_where_it_stands(text, problem, position):
    with pytest.raises(FilterSyntaxError, match=problem) as caught:
        parse(text)
    assert caught.value.position == position


@pytest.fixture(scope="module")
def photos_db():
    db = table(PHOTOS)
    yield db
    db.close()


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        # text: a label is a whole word, path and name are searched in; letters in either case
        ("label:dress", [1, 2]),
        ("label:DRESS", [1, 2]),
        ("label:dress*", [1, 2, 3]),
        ("label:?ress", [1, 2]),
        ("label:*", [1, 2, 3, 5, 6]),
        ("not label:*", [4]),
        ("label=dress", [1, 2]),
        ("label=dress*", []),
        ("label!=dress", [3, 4, 5, 6]),
        ("path:beach", [1, 2]),
        ("path:*beach", []),
        ("path:trip/*", [1, 2]),
        ("name:*.jpg", [1, 2, 5, 6]),
        ("name:img_1", [1]),
        ("name:IMG?2*", [2]),
        ("path=trip/beach/img_1.jpg", [1]),
        ('path:"beach day"', [2]),
        ("path:'beach day/img 2'", [2]),
        ('label:"dressing gown"', [3]),
        # wildcards of SQL are letters here, and ours can be written as letters
        ("path:100%_real", [3]),
        (r"path:real\*", [3]),
        (r"path:*real\**", [3]),
        (r'name:"100%_real\*.png"', [3]),
        ("name=100%_real*.png", [3]),
        ("path:_", [1, 3, 4]),
        # backslashes, quotes, bytes that are not UTF-8, two spellings of é
        (r"label:a\\b", [6]),
        (r'label:"say \"hi\""', [6]),
        ("label:'say \"hi\"'", [6]),
        ("name:caf\udce9*", [6]),
        (r"name=caf\\xe9.jpg", [6]),
        ("path:été", [5]),
        (unicodedata.normalize("NFD", "label:été"), [5]),
        (unicodedata.normalize("NFC", "name=Ångström.jpg"), [5]),
        # numbers, missing ones too
        ("width>=800", [1, 2, 5, 6]),
        ("width>800", [2, 5]),
        ("width<800", [3]),
        ("width<=800", [1, 3, 6]),
        ("width:800", [1, 6]),
        ("width=800px", [1, 6]),
        ("width==800", [1, 6]),
        ("width!=800", [2, 3, 4, 5]),
        ("not width>=800", [3, 4]),
        ("width:31..800", [1, 3, 6]),
        ("width:801..", [2, 5]),
        ("width!=31..801", [4, 5]),
        ("width:..31", [3]),
        ("height : 29", [3, 6]),
        ("bytes>1MB", [1, 5, 6]),
        ("bytes>=1MB", [1, 3, 5, 6]),
        ("bytes:1mib", [6]),
        ("bytes=1024KiB", [6]),
        ("size<1 label:*", []),
        ("size:0", [4]),
        ("bytes<0.001kB", [4]),
        ('bytes>="1.5 MB"', [1, 5]),
        ("bytes>1TB", [5]),
        # dates: a year or a month is all of it
        ("date:2024", [1, 2, 6]),
        ("date:2024-05", [1, 2]),
        ("date:2024-05-31", [2]),
        ("date>=2024-05-31", [2, 5, 6]),
        ("date>2024-05", [5, 6]),
        ("date<2024-05", [3]),
        ("date<=2024-05", [1, 2, 3]),
        ("date!=2024", [3, 4, 5]),
        ("date:2024-05-17T18:30", [1]),
        ('date<"2024-05-17 18:30"', [3]),
        ("date<=2024-05-17t18", [1, 3]),
        ("date:2023..2024-05", [1, 2, 3]),
        ("date:2024-06..", [5, 6]),
        ("date:..2023", [3]),
        ("not date>0000", [4]),
        # logic
        ("label:red label:dress", [1]),
        ("label:red and label:dress", [1]),
        ("label:red or label:été", [1, 5]),
        ("label:dress width>800 or label:été", [2, 5]),
        ("label:dress (width>800 or label:été)", [2]),
        ("NOT (label:dress OR label:été) AND bytes>0", [3, 6]),
        ("not not label:red", [1]),
        ("not label:dress label:not", [6]),
        ("label:not", [6]),
        ("(((label:red)))", [1]),
        ("  label:red\n\tbytes>0  ", [1]),
        ("(label:red)(bytes>0)", [1]),
        ("not(label:*)", [4]),
    ],
)
def test_a_filter_selects_these_images(photos_db, text, ids):
    assert by_sql(photos_db, text) == ids


def test_quotes_and_semicolons_stay_values(photos_db):
    text = "label:'x\"; DROP TABLE labels; --' or path:\"') OR 1=1 --\" or name:x'/**/OR/**/1=1"
    clause, values = parse(text).to_sql()
    assert by_sql(photos_db, text) == []
    assert re.fullmatch(r"[A-Za-z_ ()?='\\]+", clause)
    assert any("DROP TABLE" in str(value) for value in values)


@pytest.mark.parametrize(
    ("text", "problem", "under", "hint"),
    [
        ("", "empty", None, "label:dress"),
        ("  ", "empty", "  ", "label:dress"),
        ("label:a wdth>=800", "no field 'wdth'", "wdth>=800", "Did you mean 'width'? Fields: path, name, label"),
        ("beach", "'beach' has no field", "beach", "path:*beach*"),
        ("label:red dress", "'dress' has no field", "dress", "quotes hold words together"),
        ("label:a or", "ends here", "", "Fields:"),
        ("label:a or or label:b", "'or' wants a test on both sides", "or label:b", ""),
        ("not", "ends here", "", "Fields:"),
        ('width:""', "'' is no width", '""', ""),
        ("date>''", "'' is no date", "''", ""),
        ("label:a && label:b", "'&' cannot start", "&&", "as words"),
        ("(label:a", "never closed", "(label", "Add ')'"),
        ("label:a)", "closes nothing", ")", "quotes"),
        ("()", "')' cannot start a test", ")", "Fields:"),
        ("path:*(1)*", "must be in quotes", "*(1)", ""),
        ('label:"abc', 'this " is never closed', '"abc', "closing quote"),
        ("label:'a'b", "space is missing", "b", ""),
        ("label:", "wants a value, but the filter ends", "", "label:dress"),
        ("label: )", "')' is no value", ")", ""),
        ("label", "wants an operator", "", ": = !="),
        ("width 800", "wants an operator", "800", "width>=800"),
        ("label>3", "is text and has no order", ">3", ": = !="),
        ("width>=abc", "'abc' is no width: wanted a number of pixels", "abc", "width>=800"),
        ("width>=3MB", "no width", "3MB", ""),
        ("width>=-3", "no width", "-3", ""),
        ("bytes>3parsec", "kB, MB, GB", "3parsec", "bytes>1.5MB"),
        ("bytes>1.23456kB", "not a whole number of bytes", "1.23456kB", ""),
        ("bytes>99999999999TB", "larger than any picture", "99999999999TB", ""),
        ("width:9..3", "nothing lies between 9 and 3", "9..3", "width:3..9"),
        ("width:..", "at least one end", "..", "width:800..1200"),
        ("width>1..3", "'>' cannot be used with a range", "1..3", "width:1..3"),
        ("width:3..x", "'x' is no width", "x", ""),
        ("date:17.5.2024", "wanted YYYY, YYYY-MM", "17.5", "date:2024-05"),
        ("date:2024-13", "no month 13", "2024-13", ""),
        ("date:2023-02-29", "no day 29", "2023-02-29", ""),
        ("date:2024-05-17T24", "is no date", "2024-05-17T24", ""),
        ("label:a\0b", "control character", "\0b", ""),
        ("label:\ud800", "lone surrogate", "\ud800", ""),
    ],
)
def test_an_error_marks_the_place_and_says_what_is_allowed(text, problem, under, hint):
    with pytest.raises(FilterSyntaxError) as caught:
        parse(text)
    assert problem in caught.value.problem
    assert hint in caught.value.hint
    if under is not None:
        assert text[caught.value.position :].startswith(under)
        lines = str(caught.value).split("\n")
        assert lines[2].index("^") - 2 == caught.value.position
    assert caught.value.exit_status == 2


def test_an_error_survives_pickling():
    error = FilterSyntaxError("a problem", text="label:", position=6, hint="what to do")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) == "filter: a problem\n  label:\n        ^\nwhat to do"


def test_the_mark_stands_below_the_place_in_a_long_filter_of_wide_letters():
    text = "label:日本 " * 40 + "wdth>3 " + "label:a " * 40
    with pytest.raises(FilterSyntaxError) as caught:
        parse(text)
    shown, mark = str(caught.value).split("\n")[1:3]
    cells = [2 if unicodedata.east_asian_width(letter) == "W" else 1 for letter in shown]
    place = shown.index("wdth")
    assert sum(cells[:place]) == mark.index("^")
    assert shown.startswith("  …")
    assert shown.endswith("…")
    assert len(shown) < 80


def test_length_and_nesting_are_limited():
    with pytest.raises(FilterSyntaxError, match="2001 characters; at most 2000"):
        parse("label:" + "x" * 1995)
    deepest = where.MAX_DEPTH
    assert parse("(" * deepest + "label:a" + ")" * deepest) == parse("label:a")
    for text in ("(" * (deepest + 1) + "label:a" + ")" * (deepest + 1), "not " * (deepest + 1) + "label:a"):
        with pytest.raises(FilterSyntaxError, match="more than 32"):
            parse(text)


@pytest.mark.parametrize("text", ["w", "label:é "])
def test_the_longest_filters_that_parse_also_run(photos_db, text):
    unit = {"w": "date!=1 ".replace("1", "0001"), "label:é ": "label:é "}[text]
    many = unit * (where.MAX_LENGTH // len(unit))
    assert by_sql(photos_db, many) in ([], [1, 2, 3, 4, 5, 6])
    assert by_sql(photos_db, " or ".join([unit] * (where.MAX_LENGTH // (len(unit) + 4)))) in ([], [1, 2, 3, 4, 5, 6])


def test_many_wildcards_take_no_exponential_time(photos_db):
    db = table([Image(1, "a" * 4000, 1, 1, 1, None, ())])
    steps = 0

    def count():
        nonlocal steps
        steps += 1
        return steps > 1000

    db.set_progress_handler(count, 100_000)
    assert by_sql(db, "path:" + "*a" * 900 + "*b") == []
    db.close()


# --- The same filters, evaluated in Python from the tree: SQL must agree on every image.


def letters(text):
    """A–Z folded, nothing else, after both spellings became one."""
    return "".join(c.lower() if "A" <= c <= "Z" else c for c in text)


def matches(pattern, text):
    regex = "".join({Wild.ANY: ".*", Wild.ONE: "."}.get(p) or re.escape(letters(p)) for p in pattern)
    return re.fullmatch(regex, letters(text), re.DOTALL) is not None


def holds(node, image):
    match node:
        case And(parts):
            return all(holds(part, image) for part in parts)
        case Or(parts):
            return any(holds(part, image) for part in parts)
        case Not(part):
            return not holds(part, image)
        case Like(field, pattern) | Equals(field, pattern):
            texts = image.labels if field == "label" else (getattr(image, field),)
            wanted = pattern if isinstance(node, Like) else (pattern,)
            forms = [
                tuple(p if isinstance(p, Wild) else unicodedata.normalize(form, p) for p in wanted)
                for form in ("NFC", "NFD")
            ]
            return any(matches(p, text) for p in [wanted, *forms] for text in texts)
        case AtLeast(field, bound):
            return getattr(image, field) is not None and getattr(image, field) >= bound
        case Below(field, bound):
            return getattr(image, field) is not None and getattr(image, field) < bound
    raise AssertionError(node)


TEXTS = st.text(st.sampled_from("aAbB éÉ%_\\*?/.'\"()|-1日\U0001f600"), max_size=6)
IMAGES = st.lists(
    st.builds(
        Image,
        id=st.integers(1, 1000),
        path=TEXTS,
        width=st.none() | st.integers(0, 5),
        height=st.none() | st.integers(0, 5),
        bytes=st.sampled_from([0, 1, 999, 1000, 1001, 1024, 2_000_000]),
        date=st.none()
        | st.sampled_from(["2023-12-31T23:59:59", "2024-01-01T00:00:00", "2024-02-29T12:30:00", "2024-03-01T00:00:00"]),
        labels=st.lists(TEXTS, max_size=3).map(tuple),
    ),
    max_size=7,
    unique_by=lambda image: image.id,
)


def quoted(text, wildcards):
    special = '"\\' if wildcards else '"\\*?'
    return '"' + "".join("\\" + c if c in special else c for c in text) + '"'


TEXT_TESTS = st.builds(
    lambda field, op, text, wild: f"{field}{op}{quoted(text, wild)}",
    st.sampled_from(["path", "name", "label", "LABEL"]),
    st.sampled_from([":", "=", "!="]),
    TEXTS,
    st.booleans(),
)
NUMBER_TESTS = st.builds(
    lambda field, op, value: f"{field}{op}{value}",
    st.sampled_from(["width", "height"]),
    st.sampled_from([":", "=", "!=", "<", "<=", ">", ">="]),
    st.integers(0, 6),
) | st.builds(
    lambda op, value: f"bytes{op}{value}",
    st.sampled_from([":", "=", "!=", "<", "<=", ">", ">="]),
    st.sampled_from(["0", "1B", "1kB", "1KiB", "0.999k", "2mb", "1.001KB"]),
)
POINTS = ["2023", "2024", "2024-01", "2024-02-29", "2024-02-29T12", "2024-02-29T12:30", "2024-03-01T00:00:00"]
DATE_TESTS = st.builds(
    lambda op, point: f"date{op}{point}",
    st.sampled_from([":", "=", "!=", "<", "<=", ">", ">="]),
    st.sampled_from(POINTS),
) | st.builds(
    lambda op, ends: f"date{op}{min(ends)}..{max(ends)}",
    st.sampled_from([":", "!="]),
    st.tuples(st.sampled_from(POINTS), st.sampled_from(POINTS)),
)
FILTERS = st.recursive(
    TEXT_TESTS | NUMBER_TESTS | DATE_TESTS,
    lambda inner: (
        st.builds(
            lambda parts, word: "(" + word.join(parts) + ")",
            st.lists(inner, min_size=1, max_size=3),
            st.sampled_from([" and ", " or ", " ", " OR "]),
        )
        | inner.map(lambda part: f"not {part}")
    ),
    max_leaves=6,
)


@settings(max_examples=400, deadline=None)
@given(images=IMAGES, text=FILTERS)
def test_sql_agrees_with_the_tree_evaluated_in_python(images, text):
    db = table(images)
    try:
        wanted = sorted(image.id for image in images if holds(parse(text), image))
        assert by_sql(db, text) == wanted
    finally:
        db.close()


ALPHABET = st.sampled_from(
    [*"abel:=!<>()'\"\\ *?.-0129TMkB\n\t\0é日\udce9\ud800&|", "label:", "width>=", " or ", "not ", "date:"]
)


@settings(max_examples=600, deadline=None)
@given(text=st.lists(ALPHABET, max_size=30).map("".join) | st.text(max_size=60))
def test_any_text_parses_and_runs_or_is_a_syntax_error(text):
    try:
        clause, values = parse(text).to_sql()
    except FilterSyntaxError:
        return
    db = table(PHOTOS)
    try:
        db.execute(f"SELECT id FROM catalog WHERE {clause}", values).fetchall()
    finally:
        db.close()


def damaged(text, rng):
    """A filter with characters dropped, doubled and put elsewhere: closer to the edges than random text."""
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(text))
        text = text[:at] + rng.choice(["", text[at] * 2, text[at] + rng.choice(text)]) + text[at + 1 :]
    return text


def test_damaged_filters_never_raise_anything_else():
    rng = random.Random(97)
    text = "label:dress path:*beach* width>=800 bytes>1.5MB date:2024-01-01..2025 not (name:'*.gif' or label:\"draft\")"
    parse(text)
    refused = 0
    for _ in range(3000):
        try:
            parse(damaged(text, rng)).to_sql()
        except FilterSyntaxError:
            refused += 1
    assert 0 < refused < 3000
