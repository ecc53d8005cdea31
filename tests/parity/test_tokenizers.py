"""Every kind of tokenizer against transformers on 1,000 texts: the numbers are equal, or the text is named."""

from pathlib import Path

import pytest

from tests.preprocess.varied_texts import varied_texts

pytestmark = pytest.mark.parity
pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("sentencepiece", reason="sentencepiece, which trains and runs SigLIP's reference, is not installed")
pytest.importorskip("google.protobuf", reason="protobuf, which transformers' SigLIP tokenizer needs, is not installed")
tokenizers = pytest.importorskip("tests.parity.tokenizers")


@pytest.mark.filterwarnings("ignore:This sequence already has")  # "</s>" written at the end of a text
@pytest.mark.parametrize("build", tokenizers.PAIRS, ids=lambda build: build.__name__)
def test_a_thousand_texts_get_the_same_numbers(build, tmp_path: Path) -> None:
    pair = build(tmp_path)
    texts = varied_texts(1000)
    assert len(texts) == 1000
    assert set(pair.different(texts)) <= set(pair.ties)


@pytest.mark.filterwarnings("ignore:This sequence already has")
def test_the_page_says_what_is_printed(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "text.md").read_text("utf-8")
    texts = varied_texts(1000)
    for number, build in enumerate(tokenizers.PAIRS):
        folder = tmp_path / str(number)
        folder.mkdir()
        pair = build(folder)
        assert f"| {pair.name} | {1000 - len(pair.different(texts))} of 1000 |" in page


def test_the_comparison_sees_a_difference(tmp_path: Path) -> None:
    siglip = tokenizers.siglip(tmp_path)
    assert siglip.ours("A red dress!") == siglip.theirs("a RED dress")
    assert siglip.ours("a red dress") != siglip.theirs("a red cat")
