"""Images per second of vitseek's engines, beside the same runtimes fed with transformers' own model.

    python -m benchmarks.engines [--quick] [--models vit_small vit_base] [--batches 1 8] [--threads 2] [--csv FILE]

Same random weights, same pixels, float32, same threads. vitseek's engines compute the class token from graphs that it
writes from its folded weights. The peers are what a user of transformers gets without further thought: the model in
PyTorch (inference mode, scaled-dot-product attention), ``torch.onnx.export`` of it in ONNX Runtime, and
``openvino.convert_model`` of it in OpenVINO, each with the class token of ``last_hidden_state`` as its output. All
outputs are compared with NumPy's first; then the contestants take turns, so that a busy machine slows them alike. Read
the ratios of one run. A contestant whose packages are missing is left out, with the reason.
"""

from __future__ import annotations

import argparse
import csv
import logging
import statistics
import tempfile
import warnings
from pathlib import Path

import numpy as np

from benchmarks.forward import Run, random_weights, take_turns
from benchmarks.report import machine, print_table
from vitseek.engines import checked
from vitseek.engines.build import build_engine, check_engine
from vitseek.engines.threads import default_threads
from vitseek.errors import MissingExtraError
from vitseek.models.config import VARIANTS, ViTConfig

PATCH_PX = 14
REST_S = 0.1  # threads of PyTorch and ONNX Runtime spin for a while after their turn
PEER_OF = {
    "vitseek numpy": "torch",
    "vitseek numba": "openvino",
    "vitseek onnx": "onnxruntime",
    "vitseek openvino": "openvino",
}


def own_engines(config: ViTConfig, weights: dict[str, np.ndarray], pixels: np.ndarray, threads: int) -> dict[str, Run]:
    runs: dict[str, Run] = {}
    for name in ("numpy", "numba", "onnx", "openvino"):
        try:
            check_engine(name, config)
        except MissingExtraError as error:
            print(f"  left out: {error}")
            continue
        engine = build_engine(weights, config, "cls", threads, engine=name, report=lambda said: print(f"  {said}"))
        runs[f"vitseek {name}"] = lambda engine=engine: engine.embed_pixels(pixels)
    return runs


def peers(config: ViTConfig, weights: dict[str, np.ndarray], pixels: np.ndarray, threads: int) -> dict[str, Run]:
    """transformers' Dinov2Model with the same weights, in PyTorch and as each runtime's own export of it."""
    try:
        import torch
        from transformers import Dinov2Config, Dinov2Model
    except ImportError as error:
        print(f"  peers left out: {error}. They need pip install 'vitseek[train]' transformers")
        return {}
    torch.set_num_threads(threads)
    settings = Dinov2Config(
        hidden_size=config.embed_dim, num_hidden_layers=config.depth, num_attention_heads=config.num_heads,
        patch_size=config.patch_size, image_size=config.img_size[0], layer_norm_eps=config.norm_eps,
        attn_implementation="sdpa",
    )  # fmt: skip
    model = Dinov2Model(settings).eval()
    model.load_state_dict({name: torch.from_numpy(value) for name, value in renamed(weights, config).items()})

    class ClassToken(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.model(pixels).last_hidden_state[:, 0]

    wrapped, tensor = ClassToken().eval(), torch.from_numpy(pixels)

    def in_torch() -> object:
        with torch.inference_mode():
            return wrapped(tensor).numpy()

    runs: dict[str, Run] = {"torch": in_torch}
    for name, export in (("onnxruntime", in_onnxruntime), ("openvino", in_openvino)):
        try:
            with torch.inference_mode(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the tracer, which says that sizes become constants
                runs[name] = export(wrapped, tensor, threads)
        except ImportError as error:
            print(f"  {name} left out: {error}")
    return runs


def in_onnxruntime(model: object, tensor: object, threads: int) -> Run:
    import onnxruntime
    import torch

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "peer.onnx"
        torch.onnx.export(model, (tensor,), str(file), dynamo=False, opset_version=17, input_names=["pixels"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    pixels = tensor.numpy()
    return lambda: session.run(None, {"pixels": pixels})[0]


def in_openvino(model: object, tensor: object, threads: int) -> Run:
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    compiled = openvino.Core().compile_model(openvino.convert_model(model, example_input=tensor), "CPU", settings)
    request, pixels = compiled.create_infer_request(), tensor.numpy()
    return lambda: request.infer({0: pixels})[0]


def renamed(weights: dict[str, np.ndarray], config: ViTConfig) -> dict[str, np.ndarray]:
    """timm's names to those of Dinov2Model in transformers 5."""
    found = {
        "embeddings.cls_token": weights["cls_token"],
        "embeddings.mask_token": np.zeros((1, config.embed_dim), np.float32),
        "embeddings.position_embeddings": weights["pos_embed"],
        "embeddings.patch_embeddings.projection.weight": weights["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.projection.bias": weights["patch_embed.proj.bias"],
        "layernorm.weight": weights["norm.weight"],
        "layernorm.bias": weights["norm.bias"],
    }
    straight = {
        "norm1": "norm1", "norm2": "norm2", "attn.proj": "attention.o_proj", "mlp.fc1": "mlp.fc1",
        "mlp.fc2": "mlp.fc2",
    }  # fmt: skip
    for index in range(config.depth):
        ours, theirs = f"blocks.{index}", f"encoder.layer.{index}"
        for kind in ("weight", "bias"):
            for name, other in straight.items():
                found[f"{theirs}.{other}.{kind}"] = weights[f"{ours}.{name}.{kind}"]
            parts = np.split(weights[f"{ours}.attn.qkv.{kind}"], 3)
            for name, part in zip("qkv", parts, strict=True):
                found[f"{theirs}.attention.{name}_proj.{kind}"] = part
        for number in (1, 2):
            found[f"{theirs}.layer_scale{number}.lambda1"] = weights[f"{ours}.ls{number}.gamma"]
    return found


def compare(name: str, batch: int, *, side_px: int, threads: int, rounds: int) -> list[dict[str, str]]:
    """Time all contestants for one model and batch size; return one row each."""
    config = ViTConfig(**VARIANTS[name], patch_size=PATCH_PX, img_size=(side_px, side_px), layer_scale=True)
    rng = np.random.default_rng(0)
    weights = random_weights(config, rng)
    pixels = rng.standard_normal((batch, 3, side_px, side_px), dtype=np.float32)
    runs = own_engines(config, weights, pixels, threads) | peers(config, weights, pixels, threads)
    wanted = np.asarray(runs["vitseek numpy"]())
    apart = {label: checked.distance(np.asarray(run()), wanted) for label, run in runs.items()}
    for label, distance in apart.items():
        if not distance <= checked.TOLERANCES["float32"]:
            raise SystemExit(f"{label} computes something else: features {distance:.2g} of their length away")
    times = {label: own.wall_s for label, own in take_turns(runs, rounds=rounds, rest_s=REST_S).items()}
    rows = []
    for label, seconds in times.items():
        row = {
            "model": name,
            "batch": str(batch),
            "engine": label,
            "images/s": f"{batch / statistics.median(seconds):.2f}",
            "best": f"{batch / min(seconds):.2f}",
            "from NumPy": f"{apart[label]:.1e}",
            "to its peer": "",
        }
        if (peer := PEER_OF.get(label)) in times:
            ratios = [theirs / ours for theirs, ours in zip(times[peer], seconds, strict=True)]
            row["to its peer"] = f"{statistics.median(ratios):.2f} x {peer}"
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 rounds of the small model instead of 9 of each")
    parser.add_argument("--models", choices=list(VARIANTS), nargs="+")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--side", type=int, default=224, help="pixels")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--csv", type=Path, help="also write the rows to this file")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    print(machine())
    rows: list[dict[str, str]] = []
    rounds = options.rounds or (3 if options.quick else 9)
    for name in options.models or (["vit_small"] if options.quick else ["vit_small", "vit_base"]):
        for batch in options.batches:
            rows += compare(name, batch, side_px=options.side, threads=options.threads, rounds=rounds)
            print_table(f"{name}, batch {batch}, {options.side} px, {options.threads} threads, {rounds} rounds",
                        [{key: value for key, value in row.items() if key not in ("model", "batch")}
                         for row in rows if (row["model"], row["batch"]) == (name, str(batch))])  # fmt: skip
    if options.csv:
        with options.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
