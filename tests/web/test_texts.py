"""Every text of the page is translated, and the language follows the reader."""

import ast
import gettext
import re
from pathlib import Path

import pytest
from django.template.base import Lexer, TokenType

import vitseek.web
from vitseek.web.settings import LANGUAGES

WEB = Path(vitseek.web.__file__).parent
CATALOG = WEB / "locale" / "zh_Hans" / "LC_MESSAGES"
TRANSLATE = re.compile(r"""(?:translate|trans)\s+(["'])(.*?)\1""")


def texts_of_python() -> set[str]:
    found = set()
    for path in WEB.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_":
                assert isinstance(node.args[0], ast.Constant), f"{path}: a text to translate is no literal"
                found.add(node.args[0].value)
    return found


def texts_of_templates() -> set[str]:
    found = set()
    for path in (WEB / "templates").rglob("*.html"):
        block: list[str] | None = None
        for token in Lexer(path.read_text("utf-8")).tokenize():
            if token.token_type is TokenType.BLOCK and (plain := TRANSLATE.match(token.contents)):
                found.add(plain[2])
            elif token.token_type is TokenType.BLOCK and token.contents.startswith("blocktranslate"):
                block = []
            elif token.token_type is TokenType.BLOCK and token.contents in ("plural", "endblocktranslate"):
                assert block is not None
                found.add("".join(block).strip())
                block = [] if token.contents == "plural" else None
            elif block is not None:
                block.append(f"%({token.contents})s" if token.token_type is TokenType.VAR else token.contents)
    return found


def compiled() -> dict[str, str]:
    with (CATALOG / "django.mo").open("rb") as file:
        catalog = gettext.GNUTranslations(file)._catalog
    return {key[0] if isinstance(key, tuple) else key: value for key, value in catalog.items() if key}


def written() -> dict[str, str]:
    """The .po file, read by hand: msgid → msgstr."""
    entries: dict[str, str] = {}
    for entry in (CATALOG / "django.po").read_text("utf-8").split("\n\n"):
        fields: dict[str, str] = {}
        name = ""
        for line in entry.splitlines():
            if line.startswith("#"):
                assert "fuzzy" not in line, entry
                continue
            keyword, quoted = re.match(r'(?:(\S+) )?"(.*)"$', line).groups()
            name = keyword or name
            fields[name] = fields.get(name, "") + ast.literal_eval(f'"{quoted}"')
        if fields.get("msgid"):
            entries[fields["msgid"]] = fields.get("msgstr") or fields["msgstr[0]"]
    return entries


def test_the_sources_are_found():
    assert len(texts_of_python()) > 25
    assert len(texts_of_templates()) > 35


def test_no_text_is_untranslated_and_the_compiled_file_is_current():
    catalog = written()
    plurals = {"%(number)s images", "%(counter)s most similar images", "%(counter)s best matches"}
    assert set(catalog) == (texts_of_python() | texts_of_templates()) - plurals
    assert all(catalog.values())
    assert compiled() == catalog


def test_translations_keep_the_placeholders():
    for source, translation in written().items():
        assert sorted(re.findall(r"%\(\w+\)s|<\w+>", source)) == sorted(re.findall(r"%\(\w+\)s|<\w+>", translation)), (
            source
        )


@pytest.mark.parametrize("wanted", ["zh-CN,zh;q=0.9,en;q=0.8", "zh-hans", "zh-SG"])
def test_the_page_is_chinese_for_who_reads_chinese(client, wanted):
    response = client.get("/", headers={"accept-language": wanted})
    page = response.content.decode()
    assert '<html lang="zh-hans">' in page
    assert "查找相似图片" in page
    assert response["Content-Language"] == "zh-hans"
    assert "Accept-Language" in response["Vary"]


@pytest.mark.parametrize("wanted", ["en-GB,en", "fr,de;q=0.5", "", "*"])
def test_the_page_is_english_for_everyone_else(client, wanted):
    page = client.get("/", headers={"accept-language": wanted}).content.decode()
    assert '<html lang="en">' in page
    assert "Find similar images" in page


def test_the_switch_on_the_page_is_remembered_and_leads_back(careful_client):
    page = careful_client.get("/?image=1&k=5").content.decode()
    token = re.search(r'csrfmiddlewaretoken" value="([^"]+)"', page)[1]
    answer = careful_client.post(
        "/language", {"language": "zh-hans", "next": "/?image=1&k=5", "csrfmiddlewaretoken": token}
    )
    assert answer.status_code == 302
    assert answer["Location"] == "/?image=1&k=5"
    assert "最相似的 5 张图片" in careful_client.get("/?image=1&k=5").content.decode()


def test_the_switch_leads_to_no_other_site(client):
    answer = client.post("/language", {"language": "zh-hans", "next": "https://evil.example/"})
    assert answer["Location"] == "/"


def test_every_language_names_itself(client):
    page = client.get("/").content.decode()
    assert [code for code, _ in LANGUAGES] == ["en", "zh-hans"]
    assert 'lang="zh-hans">简体中文</button>' in page
