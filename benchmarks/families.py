"""Images, and texts, per second of every family in NumPy next to its reference in transformers, on PyTorch.

    python -m benchmarks.families [--quick] [NAME …] [--batches 1 8] [--threads 2] [--rounds 9] [--swin-rows]

Each model is built by transformers with random weights at its usual size (--quick: small ones), saved, and loaded from
that folder by vitseek, so that both compute with the same weights. First their features of the same input are compared;
a difference beyond rounding ends the run. Then the two take turns, on the same threads, in float32: trust the ratios of
one run, not the figures of two. Both give what search needs, the pooled feature of a picture or the embedding of a
text, as their users call them: PyTorch in inference mode with scaled-dot-product attention, and all tokens in every
block; vitseek's engine leaves out what the feature does not need. Texts have 6 to 12 tokens. CLIP's are filled up to
the longest of a batch, SigLIP's to 64 tokens, as their processors do it.

With --swin-rows, the engine of Swin alone is timed with groups of windows of several sizes.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.forward import Run, take_turns
from benchmarks.report import Report, add_csv_option, installed, machine
from vitseek.engines import swin_forward
from vitseek.engines.build import build_engine
from vitseek.engines.swin_engine import SwinEngine
from vitseek.engines.text_engine import TextEngine
from vitseek.engines.threads import default_threads
from vitseek.models.swin_config import VARIANTS, SwinConfig, swin_parameter_shapes
from vitseek.models.tokens import usual_pooling
from vitseek.weights.loader import LoadedWeights, load_weights

ROUNDING = 1e-4  # of the largest number: float32 in another order; another method would differ by more
SIZES = {"small": (384, 6, 1536), "base": (768, 12, 3072)}  # width, heads, feed-forward; 12 blocks
TOKENS = (6, 12)  # of a text
REST_S = 0.3  # by then PyTorch's threads have gone to sleep
ROW_GROUPS = (128, 256, 512, 1024, 2048)


@dataclass(frozen=True, kw_only=True)
class Contest:
    """A tower: how transformers makes it, what it is fed with, and how its users ask for features.

    Parameters
    ----------
    build
        From ``transformers`` and the options of a size to a model.
    features
        From the model and what ``inputs`` gave to its features.
    side_px
        Of a picture; 0 for texts.
    fixed
        The only size that it comes in, where "small" and "base" are not the choice.
    """

    name: str
    build: Callable[[Any, dict[str, Any]], Any]
    features: Callable[[Any, Any], Any]
    side_px: int = 224
    fixed: str | None = None


def options(size: str, **others: Any) -> dict[str, Any]:
    width, heads, hidden = SIZES[size]
    return {"hidden_size": width, "num_attention_heads": heads, "intermediate_size": hidden, **others}


def clip(lib: Any, size: dict[str, Any]) -> Any:
    text = {**size, "hidden_size": 512, "num_attention_heads": 8, "intermediate_size": 2048}
    vision = {**size, "patch_size": 32, "image_size": 224}
    return lib.CLIPModel(lib.CLIPConfig(text_config=text, vision_config=vision, projection_dim=512))


def siglip(lib: Any, size: dict[str, Any]) -> Any:
    text = {**size, "projection_size": size["hidden_size"], "vocab_size": 32000}
    return lib.SiglipModel(lib.SiglipConfig(text_config=text, vision_config={**size, "image_size": 224}))


def siglip2(lib: Any, size: dict[str, Any]) -> Any:
    # The vocabulary of 256,000 words only fills memory: a text reads a dozen of its rows.
    text = {**size, "projection_size": size["hidden_size"], "vocab_size": 32000}
    return lib.Siglip2Model(lib.Siglip2Config(text_config=text, vision_config={**size, "num_patches": 256}))


def swin_tiny(lib: Any, size: dict[str, Any]) -> Any:
    return lib.SwinModel(lib.SwinConfig())


def swin_base(lib: Any, size: dict[str, Any]) -> Any:
    return lib.SwinModel(lib.SwinConfig(embed_dim=128, depths=(2, 2, 18, 2), num_heads=(4, 8, 16, 32)))


def mae_features(model: Any, pixels: Any) -> Any:
    """The mean of all patches, in their order: the noise that chooses what to mask is no noise."""
    import torch

    patches = (pixels.shape[2] // model.config.patch_size) ** 2
    noise = torch.arange(patches, dtype=torch.float32).repeat(len(pixels), 1)
    return model(pixels, noise=noise).last_hidden_state[:, 1:].mean(dim=1)


def native_features(model: Any, pixels: Any) -> Any:
    """SigLIP 2 takes flat patches with their colours last, as its processor makes them."""
    import torch

    patch = model.config.vision_config.patch_size
    batch, _, height, width = pixels.shape
    rows, columns = height // patch, width // patch
    patches = pixels.reshape(batch, 3, rows, patch, columns, patch).permute(0, 2, 4, 3, 5, 1)
    return model.get_image_features(
        pixel_values=patches.reshape(batch, rows * columns, -1),
        pixel_attention_mask=torch.ones((batch, rows * columns), dtype=torch.int64),
        spatial_shapes=torch.tensor([[rows, columns]] * batch),
    ).pooler_output


def first_token(model: Any, pixels: Any) -> Any:
    return model(pixels).last_hidden_state[:, 0]


def pooled(model: Any, pixels: Any) -> Any:
    return model(pixels).pooler_output


def image_embedding(model: Any, pixels: Any) -> Any:
    return model.get_image_features(pixels).pooler_output


def text_embedding(model: Any, ids: Any) -> Any:
    return model.get_text_features(ids).pooler_output


CONTESTS = (
    Contest(
        name="ViT/16",
        build=lambda lib, size: lib.ViTModel(lib.ViTConfig(**size), add_pooling_layer=False),
        features=first_token,
    ),
    Contest(
        name="DeiT/16 distilled",
        build=lambda lib, size: lib.DeiTModel(lib.DeiTConfig(**size), add_pooling_layer=False),
        features=first_token,
    ),
    Contest(
        name="DINOv2/14",
        build=lambda lib, size: lib.Dinov2Model(
            lib.Dinov2Config(**_without(size, "intermediate_size"), image_size=518)
        ),
        features=first_token,
    ),
    Contest(
        name="DINOv3/16",
        build=lambda lib, size: lib.DINOv3ViTModel(lib.DINOv3ViTConfig(**size, num_register_tokens=4)),
        features=pooled,
    ),
    Contest(
        name="MAE/16",
        build=lambda lib, size: lib.ViTMAEModel(lib.ViTMAEConfig(**size, mask_ratio=0.0)),
        features=mae_features,
    ),
    Contest(name="CLIP/32", build=clip, features=image_embedding),
    Contest(name="SigLIP/16", build=siglip, features=image_embedding),
    Contest(name="SigLIP 2 NaFlex/16", build=siglip2, features=native_features, side_px=256),
    Contest(name="Swin", build=swin_tiny, features=pooled, fixed="tiny"),
    Contest(name="Swin", build=swin_base, features=pooled, fixed="base"),
    Contest(name="CLIP/32, texts", build=clip, features=text_embedding, side_px=0),
    Contest(name="SigLIP/16, texts", build=siglip, features=text_embedding, side_px=0),
    Contest(name="SigLIP 2/16, texts", build=siglip2, features=text_embedding, side_px=0),
)


def _without(values: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name}


def saved_and_loaded(model: Any) -> LoadedWeights:
    """What vitseek reads from the checkpoint that transformers writes."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return load_weights(Path(folder))  # the mapped file outlives its name


def random_texts(loaded: LoadedWeights, batch: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Token ids as the model's tokenizer would fill them up, and which of them are text; both (batch, length)."""
    assert loaded.text is not None
    config = loaded.text.config
    lengths = rng.integers(*TOKENS, size=batch, endpoint=True)
    length = config.context_length if config.attend_padding else int(lengths.max())
    mask = np.arange(length) < lengths[:, None]
    reserved = {config.bos_token_id, config.eos_token_id, config.pad_token_id}
    words = np.array([token for token in range(2000) if token not in reserved])
    ids = np.where(mask, rng.choice(words, size=(batch, length)), config.pad_token_id)
    if config.bos_token_id is not None:
        ids[:, 0] = config.bos_token_id
    ids[np.arange(batch), lengths - 1] = config.eos_token_id
    return ids.astype(np.int64), mask.astype(np.int64)


def runs(contest: Contest, model: Any, loaded: LoadedWeights, batch: int, threads: int) -> tuple[Run, Run]:
    """The same features by vitseek and by PyTorch, ready to be called."""
    import torch

    rng = np.random.default_rng(batch)
    if contest.side_px:
        engine = build_engine(loaded.params, loaded.config, loaded.pooling or usual_pooling(loaded.config), threads)
        pixels = rng.standard_normal((batch, 3, contest.side_px, contest.side_px), dtype=np.float32)
        inputs = torch.from_numpy(pixels)

        def ours() -> object:
            return engine.embed_pixels(pixels)
    else:
        assert loaded.text is not None
        tower = TextEngine(loaded.text.params, loaded.text.config, threads)
        ids, mask = random_texts(loaded, batch, rng)
        inputs = torch.from_numpy(ids)

        def ours() -> object:
            return tower.encode(ids, mask)

    def theirs() -> object:
        with torch.inference_mode():
            return contest.features(model, inputs)

    return ours, theirs


def compare(contest: Contest, size: str, *, batches: list[int], threads: int, rounds: int) -> Iterator[dict[str, str]]:
    """A row for each batch."""
    import torch
    import transformers

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = contest.build(transformers, options(size)).eval()
    loaded = saved_and_loaded(model)
    for batch in batches:
        ours, theirs = runs(contest, model, loaded, batch, threads)
        mine, wanted = np.asarray(ours()), np.asarray(theirs())
        difference, largest = float(np.abs(mine - wanted).max()), float(np.abs(wanted).max())
        if mine.shape != wanted.shape or not difference <= ROUNDING * largest:
            raise SystemExit(
                f"{contest.name}: {mine.shape} differs from transformers' {wanted.shape} by {difference:.1e}, for "
                f"values up to {largest:.1e}: what computes something else is not worth timing"
            )
        times = take_turns({"vitseek": ours, "torch": theirs}, rounds=rounds, rest_s=REST_S)
        speeds = [batch / statistics.median(times[name].wall_s) for name in ("vitseek", "torch")]
        pairs = zip(times["torch"].wall_s, times["vitseek"].wall_s, strict=True)
        ratio = statistics.median(other / own for other, own in pairs)
        work = [statistics.median(times[name].processor_s) / batch * 1000 for name in ("vitseek", "torch")]
        cells = (
            contest.name, contest.fixed or size, str(batch), *(f"{speed:.2f}" for speed in speeds), f"{ratio:.2f}",
            *(f"{one:.0f}" for one in work), f"{difference / largest:.0e}",
        )  # fmt: skip
        yield dict(zip(COLUMNS, cells, strict=True))


COLUMNS = ("tower", "size", "batch", "vitseek /s", "PyTorch /s", "ratio", "vitseek ms", "PyTorch ms", "difference")
LINE = "{:20} {:6} {:>5} {:>10} {:>10} {:>7} {:>12} {:>12} {:>11}"


def swin_rows(*, batches: list[int], threads: int, rounds: int, variants: tuple[str, ...]) -> None:
    """Time Swin's engine with groups of several sizes, in turn."""
    rng = np.random.default_rng(0)
    for variant in variants:
        config = SwinConfig(**VARIANTS[variant])
        shapes = swin_parameter_shapes(config)
        weights = {name: rng.standard_normal(shape, dtype=np.float32) * 0.02 for name, shape in shapes.items()}
        engine = SwinEngine(weights, config, threads=threads)
        for batch in batches:
            pixels = rng.standard_normal((batch, 3, 224, 224), dtype=np.float32)

            def run(rows: int, pixels: np.ndarray = pixels, engine: SwinEngine = engine) -> object:
                swin_forward.GROUP_ROWS = rows
                return engine.embed_pixels(pixels)

            contestants: dict[str, Run] = {str(rows): (lambda rows=rows: run(rows)) for rows in ROW_GROUPS}
            times = take_turns(contestants, rounds=rounds)
            shown = "  ".join(
                f"{name}: {batch / statistics.median(own.wall_s):.2f}/s ({statistics.median(own.processor_s):.3f} s)"
                for name, own in times.items()
            )
            print(f"{variant}, batch {batch}, rows a group, images/s (processor time): {shown}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="towers whose name begins so; all by default")
    parser.add_argument("--quick", action="store_true", help="small models, one batch, 3 rounds")
    parser.add_argument("--batches", type=int, nargs="+")
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--swin-rows", action="store_true", help="time Swin with groups of several sizes instead")
    add_csv_option(parser)
    asked = parser.parse_args()
    size = "small" if asked.quick else "base"
    batches = asked.batches or ([4] if asked.quick else [1, 8])
    rounds = asked.rounds or (3 if asked.quick else 9)
    chosen = [
        one for one in CONTESTS if not asked.names or one.name.lower().startswith(tuple(map(str.lower, asked.names)))
    ]
    if not chosen:
        parser.error(
            f"no tower begins with {', '.join(asked.names)}; there are {', '.join(one.name for one in CONTESTS)}"
        )
    print(f"{machine()}; {asked.threads} threads")
    if asked.swin_rows:
        variants = ("swin_tiny",) if asked.quick else ("swin_tiny", "swin_base")
        swin_rows(batches=batches, threads=asked.threads, rounds=rounds, variants=variants)
        return
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(
        f"PyTorch {torch.__version__}, transformers {transformers.__version__}, float32, medians of {rounds} rounds; "
        "ratio: of the rounds' own; ms: processor time of an image or text"
    )
    print(LINE.format(*COLUMNS))
    rows = []
    for contest in chosen:
        if asked.quick and contest.fixed == "base":
            continue
        for row in compare(contest, size, batches=batches, threads=asked.threads, rounds=rounds):
            print(LINE.format(*row.values()), flush=True)
            rows.append(row)
    Report("families", asked.csv_dir, quick=asked.quick).keep(
        f"{asked.threads} threads, {rounds} rounds", rows, versions=installed(["torch", "transformers"])
    )


if __name__ == "__main__":
    main()
