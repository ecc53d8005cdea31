"""`vitseek embed`: pictures and texts in, an .npz file of features out, without a gallery."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from vitseek.cli.common import (
    JsonOption,
    ModelOption,
    OfflineOption,
    download_bar,
    note,
    print_json,
    progress_bar,
    warn,
)
from vitseek.errors import GalleryEmptyError, ImageError, StorageError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vitseek.engines.model import Model

SHOWN_SKIPPED = 10


@dataclass(frozen=True)
class Skipped:
    """A path that gave no features, and why."""

    path: str
    reason: str


@dataclass
class Harvest:
    """What came out: one entry per usable picture, in the order of the paths."""

    paths: list[str] = field(default_factory=list)
    features: "list[NDArray[np.float32]]" = field(default_factory=list)
    grids: list[tuple[int, int]] = field(default_factory=list)
    num_tokens: list[int] = field(default_factory=list)
    num_prefix_tokens: int = 0
    texts: list[str] = field(default_factory=list)
    said: Counter[str] = field(default_factory=Counter)


def embed(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.npz", help="Where to write the features.")],
    images: Annotated[
        list[Path] | None, typer.Argument(metavar="IMAGE", help="Pictures, or folders of them.", show_default=False)
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option("--text", metavar="WORDS", help="A text to embed too, with a model that reads words; repeatable."),
    ] = None,
    model: ModelOption = None,
    preprocess: Annotated[
        str | None,
        typer.Option(metavar="POLICY", help="official, center-crop or short-side instead of the model's own."),
    ] = None,
    pooling: Annotated[
        str | None,
        typer.Option(
            metavar="RULE", help="cls, patch-mean, cls+patch-mean, gem or embedding instead of the model's own."
        ),
    ] = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="Also save every token after the final norm.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.npz.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, metavar="N", help="Images in one forward pass.")] = 16,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write the features of pictures and texts to an .npz file, as the model gives them (not normalised).

    Arrays: paths (n,), features (n, D) float32, and what identifies the model. With --tokens also
    grids (n, 2), the rows and columns of patches; num_prefix_tokens, how many tokens (class token, registers) come
    before the patches; and tokens (n, N, D). Pictures of several sizes (--preprocess short-side) have different
    numbers of tokens: tokens is (sum of N, D) then, and those of picture i are
    tokens[token_starts[i]:token_starts[i + 1]].

    With --text also texts (m,) and text_features (m, D); where the model has learned them, logit_scale and
    logit_bias: cosine × scale + bias is its own score.

    Pictures that cannot be read are left out and listed with the reason.

    \b
    Examples:
      vitseek embed cat.jpg dog.jpg -o features.npz
      vitseek embed photos -o photos.npz --model dinov2-base --preprocess center-crop
      vitseek embed cat.jpg -o cat.npz --tokens --json
      vitseek embed photos -o both.npz --model clip-vit-b32 --text "a red dress" --text "a cat at night"
    """
    from vitseek import zoo
    from vitseek.engines.model import load

    images, texts = images or [], text or []
    if not images and not texts:
        raise UsageError("nothing to embed: name pictures or folders, or a text with --text.")
    _check_output(output, force=force)
    files, skipped = _listed(images)
    if images and not files:
        raise GalleryEmptyError(f"no pictures in {_named(images)}{_because(skipped)}")
    with download_bar() as progress:
        loaded = load(
            model or zoo.DEFAULT_MODEL,
            preprocess=preprocess,
            pooling=pooling,
            offline=offline or None,
            progress=progress,
        )
    said: list[str] = []
    read = _read_texts(loaded, texts, said.append) if texts else {}  # before hours of pictures: a refusal comes at once
    with _scratch(output, wanted=tokens and bool(files)) as scratch:
        harvest = _embedded(loaded, files, batch_size, scratch, skipped) if files else Harvest()
        harvest.texts = texts
        harvest.said.update(said)
        usable = bool(harvest.paths) or (bool(texts) and not files)
        if usable:
            _save(output, {**_arrays(loaded, harvest, scratch), **read})
    if usable or as_json:
        _report(loaded, output if usable else None, harvest, skipped, tokens=tokens, as_json=as_json)
    if not usable:
        raise GalleryEmptyError(f"{_unused(len(files))}{_because(skipped)}")


def _check_output(output: Path, *, force: bool) -> None:
    """Everything that would make the work be in vain, before it starts."""
    if output.suffix.lower() != ".npz":
        raise UsageError(f"the output must be a file named *.npz; it is {output}. Try -o {output.with_suffix('.npz')}")
    if output.is_dir():
        raise UsageError(f"{output} is a folder; name a file in it.")
    if output.exists() and not force:
        raise UsageError(f"{output} exists already. Add --force to overwrite it, or name another file.")
    if not output.parent.is_dir():
        raise UsageError(f"there is no folder {output.parent} to write {output.name} to. Make it first.")


def _listed(images: list[Path]) -> tuple[list[str], list[Skipped]]:
    """The files to embed, folders replaced by the pictures in them, and what cannot be looked into."""
    from vitseek.gallery.walk import Walk
    from vitseek.preprocess.image import IMAGE_SUFFIXES

    files: list[str] = []
    skipped: list[Skipped] = []
    for path in images:
        if not path.is_dir():
            files.append(str(path))  # whatever it is: decoding says what is wrong with it
            continue
        walk = Walk(os.fsencode(path), IMAGE_SUFFIXES)
        files.extend(os.fsdecode(os.path.join(walk.root, found.raw_path)) for found in walk.files())  # noqa: PTH118
        skipped.extend(Skipped(str(path / os.fsdecode(place)), reason) for place, reason in walk.unseen)
    return files, skipped


def _embedded(
    model: "Model", files: list[str], batch_size: int, scratch: IO[bytes] | None, skipped: list[Skipped]
) -> Harvest:
    import numpy as np

    from vitseek.engines.threads import default_threads

    harvest = Harvest()

    def prepared(path: str) -> "NDArray[np.float32] | Skipped":
        try:
            return model.preprocess(path, report=lambda said: harvest.said.update([_kind_of(said)]))
        except ImageError as error:
            return Skipped(path, error.reason)

    started = time.monotonic()
    with progress_bar() as bar, ThreadPoolExecutor(default_threads(), thread_name_prefix="vitseek-decode") as threads:
        task = bar.add_task("Embedding", total=len(files), rate="")
        for start in range(0, len(files), batch_size):
            batch = files[start : start + batch_size]
            usable = []
            for path, pixels in zip(batch, threads.map(prepared, batch), strict=True):
                if isinstance(pixels, Skipped):
                    skipped.append(pixels)
                else:
                    usable.append((path, pixels))
            for group in _runs_of_one_size(usable):
                stacked = np.stack([pixels for _, pixels in group])
                if scratch is None:
                    features = model.embed_pixels(stacked)
                else:
                    found = model.tokens(stacked)
                    features = model.pool(found)
                    scratch.write(np.ascontiguousarray(found.all, dtype=np.float32).data)
                    harvest.grids.extend([found.grid] * len(group))
                    harvest.num_tokens.extend([found.all.shape[1]] * len(group))
                    harvest.num_prefix_tokens = found.num_prefix_tokens
                harvest.paths.extend(path for path, _ in group)
                harvest.features.extend(features)
            done = start + len(batch)
            bar.update(task, completed=done, rate=f"{done / (time.monotonic() - started):,.1f} images/s")
    return harvest


def _read_texts(model: "Model", texts: list[str], report: Callable[[str], None]) -> "dict[str, NDArray[Any]]":
    import numpy as np

    arrays: dict[str, NDArray[Any]] = {
        "texts": np.array(texts, np.str_), "text_features": model.embed_texts(texts, report=report),
    }  # fmt: skip
    scalars = {"logit_scale": model.logit_scale, "logit_bias": model.logit_bias}
    return arrays | {name: np.array(value) for name, value in scalars.items() if value is not None}


def _runs_of_one_size(
    usable: "list[tuple[str, NDArray[np.float32]]]",
) -> "Iterator[list[tuple[str, NDArray[np.float32]]]]":
    """Neighbours whose pixels have one shape, so that they go through the model together and in order."""
    run: list[tuple[str, NDArray[np.float32]]] = []
    for path, pixels in usable:
        if run and run[-1][1].shape != pixels.shape:
            yield run
            run = []
        run.append((path, pixels))
    if run:
        yield run


def _kind_of(said: str) -> str:
    """A note without the size that it begins with: "4 × 3 px is smaller than …" is one kind of note."""
    return said.split(" px ", 1)[-1]


@contextmanager
def _scratch(output: Path, *, wanted: bool) -> Iterator[IO[bytes] | None]:
    """A nameless file beside the output: the tokens of ten thousand pictures do not fit in memory."""
    if not wanted:
        yield None
        return
    try:
        with TemporaryFile(dir=output.parent) as file:
            yield file
    except OSError as error:
        raise StorageError(f"cannot keep the tokens in {output.parent}: {error.strerror or error}.") from error


def _arrays(model: "Model", harvest: Harvest, scratch: IO[bytes] | None) -> "dict[str, NDArray[Any]]":
    import numpy as np

    arrays: dict[str, NDArray[Any]] = {}
    if harvest.paths:
        arrays = {"paths": np.array(harvest.paths, np.str_), "features": np.stack(harvest.features)}
    arrays |= {name: np.array(str(value)) for name, value in model.space()._asdict().items()}
    if scratch is not None:
        scratch.flush()
        width = model.config.num_features
        flat: NDArray[np.float32] = np.memmap(scratch, np.float32, "r", shape=(sum(harvest.num_tokens), width))
        if len(set(harvest.num_tokens)) == 1:
            arrays["tokens"] = flat.reshape(len(harvest.paths), -1, width)
        else:
            arrays["tokens"] = flat
            arrays["token_starts"] = np.concatenate([[0], np.cumsum(harvest.num_tokens)])
        arrays["grids"] = np.array(harvest.grids)
        arrays["num_prefix_tokens"] = np.array(harvest.num_prefix_tokens)
    return arrays


def _save(output: Path, arrays: "dict[str, NDArray[Any]]") -> None:
    """Write the file beside its place and move it there: an old one is kept until the new one is complete."""
    import numpy as np

    unfinished = output.with_name(f".{output.name}.part")
    try:
        with unfinished.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        unfinished.replace(output)
    except OSError as error:
        raise StorageError(f"cannot write {output}: {error.strerror or error}. Name another place.") from error
    finally:
        unfinished.unlink(missing_ok=True)


def _report(
    model: "Model", output: Path | None, harvest: Harvest, skipped: list[Skipped], *, tokens: bool, as_json: bool
) -> None:
    remarks = [f"{count:,} × {said}" if said[0] != '"' else said for said, count in harvest.said.most_common()]
    if as_json:
        print_json(
            {
                "file": str(output) if output else None,
                "images": len(harvest.paths),
                "texts": len(harvest.texts),
                "tokens": sum(harvest.num_tokens) if tokens else None,
                **model.space()._asdict(),
                "policy": model.preprocessing.policy,
                "skipped": [vars(one) for one in skipped],
                "notes": [*model.notes, *remarks],
            }
        )
        return
    for remark in model.notes:
        note(f"{model.name}: {remark}")
    for remark in remarks:
        note(remark)
    if skipped:
        warn(f"{len(skipped):,} left out:")
        for one in skipped[:SHOWN_SKIPPED]:
            note(f"  {one.path}: {one.reason}")
        if len(skipped) > SHOWN_SKIPPED:
            note(f"  … and {len(skipped) - SHOWN_SKIPPED:,} more (--json lists all)")
    extra = f" and {sum(harvest.num_tokens):,} tokens" if tokens else ""
    counts = {"pictures": len(harvest.paths), "texts": len(harvest.texts)}
    what = " and ".join(f"{count:,} {kind if count > 1 else kind[:-1]}" for kind, count in counts.items() if count)
    note(f"{output}: features of {what}, {model.embed_dim}-d ({model.name}){extra}")


def _named(images: list[Path]) -> str:
    return ", ".join(map(str, images[:3])) + (f" and {len(images) - 3} more" if len(images) > 3 else "")


def _unused(pictures: int) -> str:
    return "the picture could not be used" if pictures == 1 else f"none of {pictures:,} pictures could be used"


def _because(skipped: list[Skipped]) -> str:
    if not skipped:
        return ". Is it the right folder?"
    first = f"{skipped[0].path}: {skipped[0].reason}"
    return f"; {first}" if len(skipped) == 1 else f"; the first: {first}"
