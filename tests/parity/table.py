"""Print how far vitseek is from transformers: family × resolution × largest absolute difference of the final tokens.

    python -m tests.parity.table [--markdown]

The models are the small random ones of tests/parity/families.py, two images each. "float32" is vitseek's engine against
transformers, both float32; "float64" the same in float64. For DINOv2 at other resolutions than the trained one, float64
is limited by transformers, which resizes positions in float32 whatever the model's dtype; the column "same positions"
gives both sides transformers' resized positions.
"""

from __future__ import annotations

import argparse
import dataclasses

import numpy as np

from tests.parity import families
from vitseek.engines.numpy_engine import NumpyEngine


def difference(name: str, size: tuple[int, int], dtype: type, *, same_positions: bool = False) -> float:
    reference = families.reference(name)
    config, params = reference.config, families.in_dtype(reference.params, dtype)
    if same_positions:
        grid = size[0] // config.patch_size, size[1] // config.patch_size
        params["pos_embed"] = reference.positions(*grid, float64=dtype is np.float64)
        config = dataclasses.replace(config, img_size=size)
    pixels = families.random_pixels(*size, dtype=dtype)
    ours = NumpyEngine(params, config, dtype=dtype).forward(pixels)
    theirs = reference.stages(pixels, float64=dtype is np.float64)["norm"]
    return float(np.abs(ours - theirs).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markdown", action="store_true", help="as in docs/models.md")
    markdown = parser.parse_args().markdown
    line = "| {:27} | {:>7} | {:>7} | {:>7} | {:>14} |" if markdown else "{:28} {:>8} {:>8} {:>8} {:>15}"
    print(line.format("family", "h x w", "float32", "float64", "same positions"))
    if markdown:
        print("|---|---:|---:|---:|---:|")
    for name, family in families.FAMILIES.items():
        for size in family.resolutions:
            found = [difference(name, size, dtype) for dtype in (np.float32, np.float64)]
            found.append(difference(name, size, np.float64, same_positions=True))
            print(line.format(name, f"{size[0]}x{size[1]}", *(f"{value:.1e}" for value in found)))


if __name__ == "__main__":
    main()
