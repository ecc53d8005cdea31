"""Make the golden files of text towers: transformers' outputs for tiny random models, to be checked without torch.

    python -m tests.golden.make_text          (needs torch and transformers)

Each file holds the config, the parameters under our names (float32), numbers of tokens and mask, and what transformers
computed from them in float64, rounded to float32: the tokens after the last block and the embeddings. The models are
those of tests/parity/texts.py, made smaller, their parameters rounded to few levels so that the files compress.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.golden.make import PARAMETER_STEPS
from tests.parity import texts

FOLDER = Path(__file__).parent / "text"
TINY = {"hidden_size": 10, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 19}
GOLDEN = {
    "clip_eos2": "CLIP (eos 2)",
    "clip": "CLIP",
    "openclip": "CLIP, exact GELU",
    "siglip": "SigLIP",
    "siglip2": "SigLIP 2 (native resolution)",
    "chinese_clip": "Chinese-CLIP",
    "metaclip2": "MetaCLIP 2",
}


def make(file: str) -> None:
    reference = texts.load(texts.FAMILIES[GOLDEN[file]], seed=len(file), steps=PARAMETER_STEPS)
    config = reference.config
    ids, mask = texts.random_texts(config, texts=5)
    stages = reference.stages(ids, mask, float64=True)
    arrays = {f"params/{name}": value for name, value in reference.text.items()}
    arrays |= {"ids": ids.astype(np.int16), "mask": mask.astype(np.int8)}
    arrays["tokens"] = stages[f"block.{config.depth - 1}"].astype(np.float32)
    arrays["embedding"] = stages["embedding"].astype(np.float32)
    text = json.dumps(config.to_dict(), sort_keys=True)
    place = FOLDER / f"{file}.npz"
    np.savez_compressed(place, config=np.frombuffer(text.encode(), dtype=np.uint8), **arrays)
    print(f"text/{file}.npz: {place.stat().st_size} bytes")


if __name__ == "__main__":
    texts.TEXT.update(TINY)
    for one in GOLDEN:
        make(one)
