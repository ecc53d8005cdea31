"""Time of a search's words: text towers of full size against PyTorch.

    python -m benchmarks.texts [--quick] [--threads 2]

Random weights, float32, the same threads. A query is eight words; it is embedded alone (a search) and with 63 others of
4 to 16 words (labels without training). Both sides get the numbers of tokens that the model's processor gives: SigLIP
reads 64 of them however short the text is; a causal or masked tower of vitseek leaves the padding out, transformers'
computes it. "open" is what the first query pays once: folding the weights, with the table of tokens left in its file.
The two take turns; trust the ratios of one run. Without torch and transformers only vitseek is timed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.forward import Run, take_turns
from benchmarks.report import Report, add_csv_option
from vitseek.engines.text_engine import TextEngine
from vitseek.engines.threads import default_threads
from vitseek.models.text import TextConfig, text_parameter_shapes
from vitseek.zoo import ZOO

TOWERS = ("clip-vit-b32", "siglip-base", "chinese-clip-vit-b16")
TEXTS = 64
QUERY_TOKENS = 8


def random_weights(config: TextConfig, rng: np.random.Generator) -> dict[str, np.ndarray]:
    weights = {}
    for name, shape in text_parameter_shapes(config).items():
        weights[name] = rng.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
        if "norm" in name and name.endswith("weight"):
            weights[name] += np.float32(1)
    return weights


def random_texts(config: TextConfig, lengths: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Token numbers and mask of texts with so many words, as the model's tokenizer would give them."""
    front = [] if config.bos_token_id is None else [config.bos_token_id]
    longest = config.context_length if config.attend_padding else int(lengths.max()) + len(front) + 1
    ids = np.full((len(lengths), longest), config.pad_token_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, words in enumerate(lengths):
        numbers = [*front, *rng.integers(1000, 20_000, size=words), config.eos_token_id]
        ids[row, : len(numbers)] = numbers
        mask[row, : len(numbers)] = 1
    return ids, mask


def torch_tower(name: str, config: TextConfig, threads: int) -> Callable[[np.ndarray, np.ndarray], Run] | None:
    """Return transformers' text tower of the same shape; ``None`` if it is not installed."""
    try:
        import torch
        import transformers
    except ImportError:
        return None
    torch.set_num_threads(threads)
    shape: dict[str, Any] = {
        "vocab_size": config.vocab_size, "hidden_size": config.width, "num_hidden_layers": config.depth,
        "num_attention_heads": config.num_heads, "intermediate_size": config.mlp_dim,
        "max_position_embeddings": config.context_length,
    }  # fmt: skip
    model: Any
    if name.startswith("siglip"):
        model = transformers.SiglipTextModel(transformers.SiglipTextConfig(**shape))
    elif name.startswith("chinese"):
        model = transformers.ChineseCLIPTextModel(transformers.ChineseCLIPTextConfig(**shape), add_pooling_layer=False)
    else:
        ends = {"eos_token_id": config.eos_token_id, "projection_dim": config.embedding_dim}
        model = transformers.CLIPTextModelWithProjection(transformers.CLIPTextConfig(**shape, **ends))
    model.eval()

    def prepared(ids: np.ndarray, mask: np.ndarray) -> Run:
        inputs = {"input_ids": torch.from_numpy(ids)}
        if not config.attend_padding:
            inputs["attention_mask"] = torch.from_numpy(mask)

        def run() -> object:
            with torch.inference_mode():
                return model(**inputs)

        return run

    return prepared


def compare(name: str, *, threads: int, rounds: int) -> dict[str, str]:
    config = ZOO[name].text
    assert config is not None
    rng = np.random.default_rng(0)
    weights = random_weights(config, rng)
    start = time.perf_counter()
    engine = TextEngine(weights, config, threads=threads)
    opened_s = time.perf_counter() - start
    reference = torch_tower(name, config, threads)
    row = {"text tower": name, "open": f"{opened_s:.2f} s"}
    for title, lengths in (
        ("one query", np.array([QUERY_TOKENS])),
        (f"{TEXTS} texts", rng.integers(4, 17, size=TEXTS)),
    ):
        ids, mask = random_texts(config, lengths, rng)
        runs: dict[str, Run] = {"vitseek": lambda ids=ids, mask=mask: engine.encode(ids, mask)}
        if reference is not None:
            runs["PyTorch"] = reference(ids, mask)
        times = {who: statistics.median(found.wall_s) for who, found in take_turns(runs, rounds=rounds).items()}
        for who, seconds in times.items():
            row[f"{title}, {who}"] = f"{seconds * 1000:.0f} ms"
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 rounds instead of 15, CLIP alone")
    parser.add_argument("--threads", type=int, default=default_threads())
    add_csv_option(parser)
    options = parser.parse_args()
    report = Report.of("texts", options)
    towers = TOWERS[:1] if options.quick else TOWERS
    rows = [compare(name, threads=options.threads, rounds=3 if options.quick else 15) for name in towers]
    report.table(f"Words to embeddings, {options.threads} threads, median of rounds", rows)


if __name__ == "__main__":
    main()
