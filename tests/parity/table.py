"""Print how far vitseek is from transformers: family × resolution × largest absolute difference of the final tokens.

    python -m tests.parity.table [--markdown] [--full-size]

The models are the small random ones of tests/parity/families.py, two images each. "float32" is vitseek's engine against
transformers, both float32; "float64" the same in float64. For DINOv2 at other resolutions than the trained one, float64
is limited by transformers, which resizes positions in float32 whatever the model's dtype; the column "same positions"
gives both sides transformers' resized positions. Then come the image towers of MAE, CLIP, SigLIP and DINOv3
(tests/parity/towers.py), Swin (swin.py), and text towers and the scores of both towers (texts.py). With --full-size,
DINOv2-base, CLIP B/32, SigLIP base and Chinese-CLIP with random weights, and the real ViT-Ti weights on ten photos,
follow.
"""

from __future__ import annotations

import argparse
import dataclasses

import numpy as np

from tests.parity import families, swin, texts, towers
from vitseek.engines.numpy_engine import NumpyEngine
from vitseek.models.tokens import usual_pooling


def difference(name: str, size: tuple[int, int], dtype: type, *, same_positions: bool = False) -> float:
    reference = families.reference(name)
    config, params = reference.config, families.in_dtype(reference.params, dtype)
    if same_positions:
        grid = size[0] // config.patch_size, size[1] // config.patch_size
        params["pos_embed"] = reference.positions(*grid, float64=dtype is np.float64)
        config = dataclasses.replace(config, img_size=size)
    pixels = families.random_pixels(*size, dtype=dtype)
    ours = NumpyEngine(params, config, usual_pooling(config), dtype=dtype).forward(pixels)
    theirs = reference.stages(pixels, float64=dtype is np.float64)["norm"]
    return float(np.abs(ours - theirs).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markdown", action="store_true", help="as in docs/models.md")
    parser.add_argument("--full-size", action="store_true", help="minutes instead of seconds")
    options = parser.parse_args()
    markdown = options.markdown
    line = "| {:27} | {:>7} | {:>7} | {:>7} | {:>14} |" if markdown else "{:28} {:>8} {:>8} {:>8} {:>15}"
    print(line.format("family", "h x w", "float32", "float64", "same positions"))
    if markdown:
        print("|---|---:|---:|---:|---:|")
    for name, family in families.FAMILIES.items():
        for size in family.resolutions if family.in_table else ():
            found = [difference(name, size, dtype) for dtype in (np.float32, np.float64)]
            found.append(difference(name, size, np.float64, same_positions=True))
            print(line.format(name, f"{size[0]}x{size[1]}", *(f"{value:.1e}" for value in found)))
    print()
    towers.print_table(markdown=markdown)
    print()
    print_swin(markdown=markdown)
    print()
    texts.print_table(markdown=markdown)
    if options.full_size:
        print()
        print_full_size()
        texts.print_full_size()


def print_swin(*, markdown: bool) -> None:
    line = "| {:31} | {:>7} | {:>7} | {:>7} |" if markdown else "{:32} {:>8} {:>8} {:>8}"
    print(line.format("family", "h x w", "float32", "float64"))
    if markdown:
        print("|---|---:|---:|---:|")
    for name, (_, sizes) in swin.FAMILIES.items():
        for size in sizes:
            found = [swin.difference(swin.reference(name), size, dtype) for dtype in (np.float32, np.float64)]
            print(line.format(name, f"{size[0]}x{size[1]}", *(f"{value:.1e}" for value in found)))


def print_full_size() -> None:
    from tests.conftest import SHARED
    from tests.parity import full_size

    for height, width in ((224, 224), (518, 518), (154, 308)):
        found = full_size.dinov2_base_differences(height, width)
        shown = ", ".join(f"{name} {value:.1e}" for name, value in found.items())
        print(f"DINOv2-base, random weights, {height}x{width}, float32: {shown}")
    if (SHARED / "weights" / full_size.REAL_WEIGHTS).is_file():
        ours, theirs = full_size.vit_tiny_logits(SHARED)
        same = (np.argsort(-ours)[:, :5] == np.argsort(-theirs)[:, :5]).all(axis=1).sum()
        print(f"ViT-Ti, real weights, ten photos: logits {np.abs(ours - theirs).max():.1e}, same top 5 on {same} of 10")


if __name__ == "__main__":
    main()
