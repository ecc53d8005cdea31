"""A thousand texts that tokenizers stumble over: the same every time."""

import random
import unicodedata
from collections.abc import Callable

WORDS = (  # noqa: SIM905
    "a photo of the red dress at night with cat dog shoe hat running beach mountain don't it's we've I'll they're "
    "Wi-Fi e-mail naïve café 3rd 2024 12,345.67 #tag @home C++ semi-detached under_score x=y"
).split()
EMOJI = "😀 🦩 👩🏽‍🚀 🏳️‍🌈 👨‍👩‍👧‍👦 ❤️ 🇨🇳 ☺ 🧑🏿‍🦱 🈴 ™ ©️ 0️⃣ 🫠".split()  # noqa: SIM905
CHINESE = "一张夜晚海边的红色连衣裙照片，猫在沙发上睡觉。繁體字與簡体字混合！龘𠮷㐂"
SCRIPTS = (
    "صورة لفستان أحمر في اللّيل ، قِطَّة ـــ ٠١٢٣٤",
    "תמונה של שִׂמְלָה אדומה בלילה",
    "รูปถ่ายชุดเดรสสีแดงตอนกลางคืน",
    "रात में लाल पोशाक की तस्वीर क्षत्रिय",
    "夜の赤いドレスの写真、ｶﾀｶﾅ がぎぐ か\u3099",
    "밤에 찍은 빨간 드레스 사진 \u1112\u1161\u11ab",
    "Фотография красного платья ночью Ёё",
    "Φωτογραφία ΟΔΟΣ ΣΑΣ ς σ ΐ",
    "İstanbul ISPARTA ıi ǅ ǆ ß ẞ STRASSE ŉ",
    "Tiếng Việt: ảnh chụp chiếc váy đỏ",
)
CONTROLS = [chr(code) for code in (*range(32), 0x7F, 0x80, 0x85, 0x9F, 0xAD)] + list(
    "\u200b\u200c\u200d\u200e\u202e\u2028\u2029\u2060\ufeff\ufffc\ufffd\u0378\ue000\U000f0000\U0010fffd"
)
SPACES = [" ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "\u2003", "\u1680", "\u202f", "\x0b", "\x1c", "\x1f"]
MARKUP = [
    "<b>bold</b>", "&amp;", "&#39;", "&lt;|endoftext|&gt;", "<!-- x -->", "{{template}}", "$x^2$", "\\n", "%20",
    "a photo of a {}", "<img src='x.jpg' alt=\"y\">", "```py\nx = 1\n```", "~~struck~~", "[link](http://x.y/?q=1&r=2)",
]  # fmt: skip
SPECIALS = [
    "<|endoftext|>", "<|startoftext|>", "<|ENDOFTEXT|>", "<|StartOfText|>", "</s>", "<s>", "<unk>", "<pad>", "<eos>",
    "<bos>", "<mask>", "[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]", "[sep]", "</w>", "##ing", "▁", "▁a", "Ġthe",
    "<0x0A>", "< / s >", "<|endoftext", "|>", "</S>", "<EOS>",
]  # fmt: skip
COMPATIBILITY = "ﬁﬂ ℃ Å Ω ½ ① ㍿ ＡＢＣ！？ ｆｕｌｌ ㎏ ﷺ 𝔉𝔞𝔫𝔠𝔶 … ‥ “quoted” ‘single’ – — ― ‐ ´ ` ¨ x² H₂O ſ Ⅷ ª"


def varied_texts(count: int = 1000, seed: int = 20260) -> list[str]:
    """Return ``count`` texts of every kind there is above, from the empty one to one of 40,000 characters."""
    rng = random.Random(seed)
    fixed = ["", " ", "\n", "\x00", "▁", " a dog", "a dog ", "A  DOG", "!!!", "...", "é", "e\u0301", "\u0301",
             "cat" * 3000, "cat " * 10_000, "猫" * 500, "😀" * 300, "x" * 20_000, "<|endoftext|>" * 50, "</s>" * 100,
             "a" + "\u0301" * 200, "日" + "\u0000" + "本", "</s> hello </s>", "hello<unk>world", "<eos>", "[SEP] cat",
             *EMOJI, *MARKUP, *SPECIALS, *SCRIPTS, CHINESE, COMPATIBILITY, "".join(CONTROLS),
             "|".join(CONTROLS)]  # fmt: skip
    kinds: tuple[Callable[[random.Random], str], ...] = (
        _words, _words, _mixed, _mixed, _chinese, _script, _emoji, _controls, _spaces, _markup, _specials, _marks,
        _compatibility, _any, _long,
    )  # fmt: skip
    return [*fixed, *(rng.choice(kinds)(rng) for _ in range(count - len(fixed)))][:count]


def _words(rng: random.Random) -> str:
    words = rng.choices(WORDS, k=rng.randint(1, 14))
    style = rng.choice([str, str.upper, str.title, str.swapcase])
    return style(" ".join(words)) + rng.choice(["", ".", "!", "?!", " ;-)", "…"])


def _mixed(rng: random.Random) -> str:
    return rng.choice(["", " ", "-"]).join(
        rng.choice([_words, _chinese, _script, _emoji, _markup, _specials, _marks])(rng) for _ in range(3)
    )


def _chinese(rng: random.Random) -> str:
    start = rng.randrange(len(CHINESE))
    return CHINESE[start : start + rng.randint(1, 20)] + rng.choice(["", "cat", " 3 只", "ABC", "，"])


def _script(rng: random.Random) -> str:
    text = rng.choice(SCRIPTS)
    start = rng.randrange(len(text))
    cut = text[start : start + rng.randint(1, 30)]
    return unicodedata.normalize(rng.choice(["NFC", "NFD", "NFKC", "NFKD"]), cut)


def _emoji(rng: random.Random) -> str:
    return rng.choice(["", " "]).join(rng.choices(EMOJI, k=rng.randint(1, 8))) + rng.choice(["", " cat", "cat"])


def _controls(rng: random.Random) -> str:
    return "".join(rng.choice([rng.choice(CONTROLS), rng.choice(WORDS), " "]) for _ in range(rng.randint(1, 12)))


def _spaces(rng: random.Random) -> str:
    return "".join(rng.choice(SPACES) + rng.choice(WORDS) for _ in range(rng.randint(1, 8))) + rng.choice(SPACES)


def _markup(rng: random.Random) -> str:
    return rng.choice(["", " "]).join(rng.choices([*MARKUP, *WORDS], k=rng.randint(1, 6)))


def _specials(rng: random.Random) -> str:
    return rng.choice(["", " ", "  "]).join(rng.choices([*SPECIALS, *WORDS[:20]], k=rng.randint(1, 7)))


def _marks(rng: random.Random) -> str:
    """Letters under random heaps of combining marks."""
    marks = [chr(code) for code in range(0x300, 0x36F)]
    return "".join(
        letter + "".join(rng.choices(marks, k=rng.choice([0, 0, 1, 2, 5])))
        for letter in rng.choice([*WORDS, "Ångström"])
    )


def _compatibility(rng: random.Random) -> str:
    start = rng.randrange(len(COMPATIBILITY))
    return COMPATIBILITY[start : start + rng.randint(1, 12)] + rng.choice(WORDS)


def _any(rng: random.Random) -> str:
    """Any characters of the first three planes but surrogates, assigned or not."""
    codes = (rng.choice([rng.randrange(0x250), rng.randrange(0x3000), rng.randrange(0x30000)]) for _ in range(12))
    return "".join(chr(code) for code in codes if not 0xD800 <= code <= 0xDFFF)


def _long(rng: random.Random) -> str:
    """Around the context lengths of 52, 64 and 77 tokens, and far beyond."""
    return " ".join(_mixed(rng) for _ in range(rng.choice([3, 5, 8, 40])))
