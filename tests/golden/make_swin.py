"""Make Swin's golden file: transformers' outputs for a tiny random model, to be checked without torch.

    python -m tests.golden.make_swin          (needs torch and transformers)

The layout is that of tests/golden/make.py: config, parameters under timm's names, pixels, and tokens and logits that
transformers computed in float64, rounded to float32. Three sizes: one that windows divide; one that neither patches nor
windows nor pairs divide; and one that is not square, where the last stage is a single window in one direction.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.golden.make import PARAMETER_STEPS, PIXEL_STEPS
from tests.parity import swin
from vitseek.models.swin_config import SwinConfig

FILE = Path(__file__).parent / "swin" / "swin.npz"
CONFIG = SwinConfig(
    embed_dim=6, depths=(2, 3), num_heads=(2, 3), window_size=3, patch_size=2, img_size=(24, 24), mlp_ratio=3.2,
    num_classes=5,
)  # fmt: skip
SIZES = {"whole": (24, 24), "odd": (31, 19), "long": (12, 46)}  # (height, width) in px


def main() -> None:
    reference = swin.load(CONFIG, seed=len("swin"), steps=PARAMETER_STEPS)
    arrays = {f"params/{key}": value for key, value in reference.params.items()}
    for label, size in SIZES.items():
        rng = np.random.default_rng(size[0])
        pixels = rng.integers(-PIXEL_STEPS, PIXEL_STEPS, (1, 3, *size)) / PIXEL_STEPS
        stages = reference.stages(pixels)
        arrays[f"{label}/pixels"] = pixels.astype(np.float16)  # exact
        arrays[f"{label}/tokens"] = stages["norm"].astype(np.float32)
        arrays[f"{label}/logits"] = stages["logits"].astype(np.float32)
    text = json.dumps(reference.config.to_dict(), sort_keys=True)
    FILE.parent.mkdir(exist_ok=True)
    np.savez_compressed(FILE, config=np.frombuffer(text.encode(), dtype=np.uint8), **arrays)
    print(f"{FILE.name}: {FILE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
