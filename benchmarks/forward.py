"""Images per second of the NumPy engine against PyTorch, and of the matrix products that bound it.

    python -m benchmarks.forward [--quick] [--batches 1 8] [--threads 2] [--model vit_base] [--patch 14] [--gemm]

Both run the same DINOv2 architecture with random weights, float32, on the same threads: transformers' ``Dinov2Model``
with scaled-dot-product attention in inference mode, and vitseek's engine, once for the class token alone
(``embed_pixels``, what search needs) and once for all tokens (``forward``, what PyTorch computes). The three take
turns, so that a busy machine slows them alike: trust the ratios of one run, not the figures of two. Processor time (of
all threads together) tells how much work was done, and how much PyTorch's threads spent waiting actively for each
other on a busy machine. Without torch and transformers only vitseek is timed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from benchmarks.report import Report, add_csv_option, installed
from vitseek.engines.numpy_engine import NumpyEngine
from vitseek.engines.threads import BLAS, default_threads
from vitseek.models.config import VARIANTS, ViTConfig, parameter_shapes

Run = Callable[[], object]


def random_weights(config: ViTConfig, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Weights with the spread of a trained model, so that softmax and GELU see usual numbers."""
    weights = {}
    for name, shape in parameter_shapes(config).items():
        weights[name] = rng.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
        if name.endswith(("norm1.weight", "norm2.weight", "norm.weight", "gamma")):
            weights[name] += np.float32(1)
    return weights


@dataclass
class Times:
    """Seconds of each round, on the clock and of processor time."""

    wall_s: list[float] = field(default_factory=list)
    processor_s: list[float] = field(default_factory=list)


def take_turns(runs: Mapping[str, Run], *, rounds: int, rest_s: float = 0.0) -> dict[str, Times]:
    """Time every run in every round, after one round to warm up.

    ``rest_s`` is waited before every run: PyTorch's threads spin for a while after theirs, at the cost of the next.
    """
    times = {name: Times() for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            time.sleep(rest_s)
            start, used = time.perf_counter(), time.process_time()
            run()
            if turn:
                times[name].wall_s.append(time.perf_counter() - start)
                times[name].processor_s.append(time.process_time() - used)
    return times


def torch_run(config: ViTConfig, pixels: np.ndarray, threads: int) -> tuple[str, Run] | None:
    """Return transformers' Dinov2Model of the same shape, ready to be called; ``None`` if it is not installed."""
    try:
        import torch
        from transformers import Dinov2Config, Dinov2Model
    except ImportError:
        return None
    torch.set_num_threads(threads)
    model = Dinov2Model(
        Dinov2Config(
            hidden_size=config.embed_dim, num_hidden_layers=config.depth, num_attention_heads=config.num_heads,
            patch_size=config.patch_size, image_size=config.img_size[0], use_swiglu_ffn=config.mlp_layer == "swiglu",
            attn_implementation="sdpa",
        )
    ).eval()  # fmt: skip
    tensor = torch.from_numpy(pixels)

    def run() -> object:
        with torch.inference_mode():
            return model(tensor).last_hidden_state

    return f"torch {torch.__version__.partition('+')[0]}", run


def compare(config: ViTConfig, *, side_px: int, batches: list[int], threads: int, rounds: int) -> list[dict[str, str]]:
    """Print what each batch takes; return the same as rows."""
    rng = np.random.default_rng(0)
    engine = NumpyEngine(random_weights(config, rng), config, threads=threads)
    rows = []
    for batch in batches:
        pixels = rng.standard_normal((batch, 3, side_px, side_px), dtype=np.float32)
        runs: dict[str, Run] = {
            "vitseek, class token": lambda pixels=pixels: engine.embed_pixels(pixels),
            "vitseek, all tokens": lambda pixels=pixels: engine.forward(pixels),
        }
        if reference := torch_run(config, pixels, threads):
            runs[reference[0]] = reference[1]
        times = take_turns(runs, rounds=rounds)
        print(f"\nbatch {batch}, {side_px} px, {threads} threads, median of {rounds} rounds")
        for name, own in times.items():
            speed = batch / statistics.median(own.wall_s)
            processor_ms = statistics.median(own.processor_s) / batch * 1000
            line = f"  {name:22} {speed:6.2f} images/s   {processor_ms:5.0f} ms of processor time an image"
            row = {"batch": f"{batch}", "": name, "images/s": f"{speed:.2f}", "processor": f"{processor_ms:.0f} ms"}
            if reference and name != reference[0]:
                theirs = times[reference[0]].wall_s
                ratios = [other / mine for other, mine in zip(theirs, own.wall_s, strict=True)]
                row["ratio"] = f"{statistics.median(ratios):.2f}"
                line += f"   {row['ratio']} times {reference[0]}"
            print(line)
            rows.append(row)
    return rows


def operations(config: ViTConfig, side_px: int) -> tuple[float, float]:
    """Return the GFLOP of one image for all tokens, and for the class token alone."""
    width, hidden = config.embed_dim, config.mlp_dim
    patches = (side_px // config.patch_size) ** 2
    tokens = config.num_prefix_tokens + patches
    feed_forward = (3 if config.mlp_layer == "swiglu" else 2) * width * hidden
    block = 2 * tokens * (4 * width**2 + feed_forward) + 4 * tokens**2 * width
    everything = 2 * patches * 3 * config.patch_size**2 * width + config.depth * block
    # Of the last block: the weights once each for one token (those of the keys and values turned round), and every
    # head's look at all tokens and average of them.
    last = 2 * (5 * width**2 + feed_forward) + 4 * config.num_heads * tokens * width
    return everything / 1e9, (everything - block + last) / 1e9


def matrix_products(config: ViTConfig, *, threads: int) -> None:
    """Print the speed of the engine's matrix products, for both layouts of the weight."""
    rng = np.random.default_rng(0)
    width, hidden = config.embed_dim, config.mlp_dim
    print("GFLOP/s, best of 9. kn: x @ W with W (in, out), one thread. nk: x @ W.T with W (out, in), one thread.")
    print(f"BLAS: as kn, with BLAS's own {threads} threads.")
    print(f"  {'':27} {'kn':>6}  {'nk':>6}  {'BLAS':>6}")
    for rows in (128, 257, 514, 1028):
        for inner, outer in ((width, 3 * width), (width, hidden), (hidden, width)):
            x = rng.standard_normal((rows, inner), dtype=np.float32)
            weight = rng.standard_normal((inner, outer), dtype=np.float32)
            turned = np.ascontiguousarray(weight.T)
            out = np.empty((rows, outer), dtype=np.float32)
            runs: dict[str, Run] = {
                "kn": lambda x=x, weight=weight, out=out: np.matmul(x, weight, out=out),
                "nk": lambda x=x, turned=turned, out=out: np.matmul(x, turned.T, out=out),
            }
            with BLAS.single_threaded():
                best = [min(times.wall_s) for times in take_turns(runs, rounds=9).values()]
            best.append(min(take_turns({"kn": runs["kn"]}, rounds=9)["kn"].wall_s))
            speeds = "  ".join(f"{2 * rows * inner * outer / seconds / 1e9:6.0f}" for seconds in best)
            print(f"  {rows:5} x {inner:4} @ {inner:4} x {outer:4}   {speeds}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 rounds instead of 15")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--model", choices=list(VARIANTS), default="vit_base")
    parser.add_argument("--patch", type=int, default=14)
    parser.add_argument("--side", type=int, default=224, help="pixels")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--gemm", action="store_true", help="time the matrix products instead")
    add_csv_option(parser)
    options = parser.parse_args()
    config = ViTConfig(
        **VARIANTS[options.model], patch_size=options.patch, img_size=(options.side, options.side), layer_scale=True
    )
    print(f"{options.model}, patch {options.patch} px, random weights, float32, NumPy {np.__version__}")
    if options.gemm:
        matrix_products(config, threads=options.threads)
        return
    everything, class_token = operations(config, options.side)
    print(f"an image takes {everything:.1f} GFLOP for all tokens, {class_token:.1f} for the class token alone")
    rounds = options.rounds or (3 if options.quick else 15)
    rows = compare(config, side_px=options.side, batches=options.batches, threads=options.threads, rounds=rounds)
    Report("forward", options.csv_dir, quick=options.quick).keep(
        f"{options.model}/{options.patch} at {options.side} px, {options.threads} threads, {rounds} rounds",
        rows,
        versions=installed(["torch", "transformers"]),
    )


if __name__ == "__main__":
    main()
