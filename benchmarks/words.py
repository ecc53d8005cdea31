"""How well words find photos: recall of text search through a gallery, against chance and against torch.

    python -m benchmarks.words [--model FILE --captions CSV [--images DIR] [--holdout 0.1 --seed 0]] [--quick]

With ``--captions``, the photos that ``vitseek train clip`` holds out with the same ``--holdout`` and ``--seed`` go into
a new gallery, and each of their captions is a query with one right answer. A second line searches them among all photos
of the file, those of the training included. Without ``--captions``, the queries are phrases for the twelve kinds of
drawn pictures (a seed of their own), any picture of the kind is right, and the model is the tiny one of the tests.

Lines: ``gallery``, the product: ``Gallery.index`` and ``Gallery.search(words)``; ``torch``, the same files in the
training module, ranked by a plain matrix product (needs the extra train); ``chance``, a random order, computed.
Columns: part of the queries with a right picture among the first 1, 5, 10; the median place of the first right one;
milliseconds a search for the first 10, the text tower included.
"""

import argparse
import json
import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import vitseek
from benchmarks.report import Report, add_csv_option
from vitseek.search.query import Expression, Term

HERE = Path(__file__).parent
TINY = HERE.parent / "tests" / "fixtures" / "tiny-clip" / "tiny-clip.safetensors"
DRAWN_SEED = 60_013  # of the tests' model: 1009
RECALLS = (1, 5, 10)
TIMED = 50  # queries
QUICK_IMAGES, QUICK_PER_KIND, PER_KIND = 30, 4, 20


@dataclass
class Words:
    """Photos, queries, and which photos are right for each query (n queries, m photos)."""

    title: str
    paths: list[Path]
    queries: list[str]
    right: NDArray[np.bool_]

    def row(self, name: str, first: NDArray[np.float64], ms: float | None = None) -> dict[str, str]:
        """From the place of the first right photo of each query, counted from 1."""
        recalls = {f"recall@{k}": f"{np.mean(first <= k):.3f}" for k in RECALLS}
        return {"": name, **recalls, "median place": f"{np.median(first):.0f}", "ms": "" if ms is None else f"{ms:.1f}"}

    def chance(self) -> dict[str, str]:
        """What a random order gives on average: hypergeometric."""
        count, right = len(self.paths), self.right.sum(axis=1)
        found = {k: np.mean([1 - math.comb(count - r, k) / math.comb(count, k) for r in right]) for k in RECALLS}
        places = [
            next(k for k in range(1, count + 1) if math.comb(count - r, k) <= math.comb(count, k) / 2)
            for r in set(right)
        ]
        return {
            "": "chance", **{f"recall@{k}": f"{found[k]:.3f}" for k in RECALLS},
            "median place": f"{np.mean(places):.0f}", "ms": "",
        }  # fmt: skip


def drawn(folder: Path, per_kind: int) -> Words:
    """Phrases for the kinds of drawn pictures."""
    from tests.fixtures.captions import NOUNS

    from vitseek.sample.gallery import draw_gallery

    paths = draw_gallery(folder, seed=DRAWN_SEED, per_kind=per_kind)
    kinds = [path.parent.name for path in paths]
    queries = [(kind, f"a picture of {noun}") for kind, nouns in NOUNS.items() for noun in nouns]
    right = np.array([[kind == other for other in kinds] for kind, _ in queries])
    return Words(f"{len(paths)} drawn pictures, {len(queries)} phrases", paths, [text for _, text in queries], right)


def captioned(options: argparse.Namespace) -> Iterator[Words]:
    """Held-out captions, first among the held-out photos, then among all."""
    from vitseek.train.sources import hold_out_indices, read_captions

    every = read_captions(options.captions, options.images)
    held = hold_out_indices(every, options.holdout, options.seed)[1]
    if options.quick:
        held = held[:QUICK_IMAGES]
    queries = [(index, text) for index in held for text in every.captions[index]]
    for title, among in (("held-out photos", held), ("photos, training included", range(len(every)))):
        if options.quick and title != "held-out photos":
            return
        right = np.array([[index == other for other in among] for index, _ in queries])
        yield Words(
            f"{len(among)} {title}, {len(queries)} held-out captions",
            [every.paths[index] for index in among], [text for _, text in queries], right,
        )  # fmt: skip


@contextmanager
def gallery_of(words: Words, model: Path) -> Iterator[vitseek.Gallery]:
    """A new gallery of just these photos, by links to them."""
    with tempfile.TemporaryDirectory(prefix="vitseek-words-") as folder:
        for number, path in enumerate(words.paths):
            (Path(folder) / f"{number:05d}{path.suffix}").symlink_to(path.resolve())
        with vitseek.Gallery(folder, model=str(model)) as gallery:
            gallery.index()
            yield gallery


def by_gallery(words: Words, model: Path) -> dict[str, str]:
    """Index and search, as a user does."""
    first = []
    with gallery_of(words, model) as gallery:
        gallery.search(Expression((Term(1.0, "text", words.queries[0]),)))  # reads weights and tokenizer
        timed = words.queries[:TIMED]
        started = time.perf_counter()
        for text in timed:
            gallery.search(Expression((Term(1.0, "text", text),)), k=max(RECALLS))
        ms = (time.perf_counter() - started) * 1000 / len(timed)
        # Not parsed, because a caption may hold quotes and signs.
        found = [gallery.search(Expression((Term(1.0, "text", text),)), k=len(words.paths)) for text in words.queries]
    for matches, right in zip(found, words.right, strict=True):
        places = [int(match.path.stem) for match in matches]
        first.append(1 + next(place for place, number in enumerate(places) if right[number]))
    return words.row("gallery", np.array(first, dtype=np.float64), ms)


def by_torch(words: Words, file: Path) -> dict[str, str]:
    """The same files in the module that was trained, ranked by cosines in float64."""
    import torch
    from safetensors.torch import load_file

    from vitseek.models.config import ViTConfig
    from vitseek.models.text import TextConfig
    from vitseek.preprocess.image import ImagePreprocessing, preprocess
    from vitseek.train import tokenizer as tokenizers
    from vitseek.train.bridge import from_runtime
    from vitseek.train.clip import Clip
    from vitseek.train.text import TextTower
    from vitseek.train.vit import VisionTransformer

    document = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    config = ViTConfig.from_dict(document["config"])
    pair = Clip(VisionTransformer(from_runtime(config)), TextTower(TextConfig.from_dict(document["text"])), 1.0)
    own = ("text.", "projection.", "logit_scale")
    pair.load_state_dict({n if n.startswith(own) else f"image.{n}": v.float() for n, v in load_file(file).items()})
    pair.double().eval()
    prepared = ImagePreprocessing.from_dict(document["preprocessing"])
    tokenizer = tokenizers.read(file.with_name(document["tokenizer"]))
    numbers = torch.tensor(tokenizers.rows(tokenizer, words.queries, pair.text.config.context_length))
    with torch.no_grad():
        images = torch.cat(
            [pair.see(torch.from_numpy(preprocess(path, prepared)).double()[None]) for path in words.paths]
        )
        scores = (pair.read(numbers) @ images.T).numpy()
    order = np.argsort(-scores, axis=1, kind="stable")
    first = 1 + np.take_along_axis(words.right, order, axis=1).argmax(axis=1)
    return words.row("torch, float64", first.astype(np.float64))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=TINY, metavar="FILE", help="a pair of towers, as exported")
    parser.add_argument("--captions", type=Path, metavar="CSV", help="image,caption; without it, drawn pictures")
    parser.add_argument("--images", type=Path, metavar="DIR")
    parser.add_argument("--holdout", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0, help="of the split")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_IMAGES} photos, or {QUICK_PER_KIND} a kind")
    parser.add_argument("--no-torch", action="store_true", help="leave the comparison out")
    add_csv_option(parser)
    options = parser.parse_args()
    report = Report.of("words", options)
    with tempfile.TemporaryDirectory(prefix="vitseek-drawn-") as folder:
        measured: Sequence[Words] | Iterator[Words]
        if options.captions is None:
            measured = [drawn(Path(folder), QUICK_PER_KIND if options.quick else PER_KIND)]
        else:
            measured = captioned(options)
        for words in measured:
            rows = [by_gallery(words, options.model)]
            if find_spec("torch") and not options.no_torch:
                rows.append(by_torch(words, options.model))
            report.table(f"{options.model.stem}: {words.title}", [*rows, words.chance()])


if __name__ == "__main__":
    main()
