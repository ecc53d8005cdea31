"""What the workers of `benchmarks.engines` make: one model, ready to run on the same pictures, in one runtime.

Every function loads files that are there already and imports its own runtime alone, so that the peak of the process is
what a program with that runtime needs.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.exports import class_token, dinov2_config
from benchmarks.forward import operations
from benchmarks.report import installed
from benchmarks.worker import Prepared, Unavailable

PACK_ROWS = 514  # what the NumPy engine multiplies at once: two pictures of DINOv2


def pictures(batch: int, side_px: int) -> np.ndarray:
    """Normalised pictures with coarse and fine structure, the same for everyone, shape (batch, 3, side, side)."""
    rng = np.random.default_rng(1)
    coarse = rng.standard_normal((batch, 3, 7, 7), dtype=np.float32)
    cells = np.arange(side_px) * 7 // side_px
    fine = rng.standard_normal((batch, 3, side_px, side_px), dtype=np.float32)
    return coarse[:, :, cells[:, None], cells] + fine * np.float32(0.5)


def vitseek(
    model: str,
    patch: int,
    side_px: int,
    batch: int,
    threads: int,
    file: str,
    engine: str,
    precision: str,
    calibration: str = "",
) -> Prepared:
    """An engine of our own, from a checkpoint; for int8-static with the file of a calibration."""
    from vitseek.engines.available import PACKAGES
    from vitseek.engines.build import build_engine
    from vitseek.engines.calibration import Calibration
    from vitseek.errors import VitseekError
    from vitseek.weights.loader import load_weights

    config = dinov2_config(model, patch, side_px)
    replaced: list[str] = []
    try:
        built = build_engine(
            load_weights(file, config=config).params,
            config,
            "cls",
            threads,
            engine=engine,
            precision=precision,
            calibration=Calibration.from_bytes(Path(calibration).read_bytes()) if calibration else None,
            report=replaced.append,
        )
    except VitseekError as error:
        raise Unavailable(str(error)) from None
    pixels = pictures(batch, side_px)

    def run() -> np.ndarray:
        features = built.embed_pixels(pixels)
        if replaced:  # NumPy computed instead: its time would stand under another name
            raise Unavailable(replaced[0])
        return np.asarray(features, np.float32)

    return Prepared({"": run}, installed(PACKAGES.get(engine, ())))


def torch(folder: str, side_px: int, batch: int, threads: int, precision: str) -> Prepared:
    """transformers' model in PyTorch: inference mode, scaled-dot-product attention."""
    import torch

    torch.set_num_threads(threads)
    peer = class_token(folder, "bfloat16" if precision == "bfloat16" else "float32")
    if precision == "int8":
        from benchmarks.exports import quiet

        with quiet():
            peer = torch.ao.quantization.quantize_dynamic(peer, {torch.nn.Linear}, dtype=torch.qint8)
    pixels = torch.from_numpy(pictures(batch, side_px))

    def run() -> Any:
        with torch.inference_mode():
            return peer(pixels.to(torch.bfloat16) if precision == "bfloat16" else pixels).float().numpy()

    return Prepared({"": run}, installed(["torch", "transformers"]))


def onnxruntime(file: str, side_px: int, batch: int, threads: int) -> Prepared:
    """ONNX Runtime with its own defaults, the number of pictures fixed."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_free_dimension_override_by_name("batch", batch)
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    pixels = pictures(batch, side_px)
    return Prepared({"": lambda: session.run(None, {"pixels": pixels})[0]}, installed(["onnxruntime"]))


def openvino(file: str, side_px: int, batch: int, threads: int, hint: str) -> Prepared:
    """OpenVINO with its own defaults, the number of pictures fixed, in the precision that it is told to keep to."""
    import openvino

    core = openvino.Core()
    model = core.read_model(file)
    model.reshape([batch, 3, side_px, side_px])
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": hint}
    if hint not in (offered := {kind.lower() for kind in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")}) and (
        hint != "f32"
    ):
        raise Unavailable(f"OpenVINO offers {', '.join(sorted(offered))} on this processor, and no {hint}")
    request, pixels = core.compile_model(model, "CPU", settings).create_infer_request(), pictures(batch, side_px)
    return Prepared({"": lambda: np.array(request.infer({0: pixels})[0])}, installed(["openvino", "nncf"]))


def products(model: str, patch: int, side_px: int, batch: int, threads: int) -> Prepared:
    """The model's products with weights and nothing between them, on all cores: what BLAS allows an engine."""
    from vitseek.engines.threads import BLAS

    config = dinov2_config(model, patch, side_px)
    rng = np.random.default_rng(0)
    layers = [rng.standard_normal(shape, dtype=np.float32) for shape in product_shapes(model, patch, side_px)]
    rows = batch * (config.num_prefix_tokens + (side_px // patch) ** 2)
    packs = np.array_split(np.arange(rows), max(threads, -(-rows // PACK_ROWS) // threads * threads))
    widest = max(max(layer.shape) for layer in layers)
    inputs = [rng.standard_normal((len(pack), widest), dtype=np.float32) for pack in packs]
    spaces = [np.empty_like(pack) for pack in inputs]

    def multiply(mine: slice) -> None:
        for layer in layers:
            for pack, space in zip(inputs[mine], spaces[mine], strict=True):
                np.matmul(pack[:, : layer.shape[0]], layer, out=space[:, : layer.shape[1]])

    def run() -> None:
        with BLAS.single_threaded():
            crew = [threading.Thread(target=multiply, args=(slice(one, None, threads),)) for one in range(threads)]
            for thread in crew:
                thread.start()
            for thread in crew:
                thread.join()

    return Prepared({"": run}, installed(["numpy"]))


def product_shapes(model: str, patch: int, side_px: int) -> list[tuple[int, int]]:
    """(in, out) of every layer that all tokens go through."""
    config = dinov2_config(model, patch, side_px)
    width, hidden = config.embed_dim, config.mlp_dim
    return [(width, 3 * width), (width, width), (width, hidden), (hidden, width)] * config.depth


def gflop(model: str, patch: int, side_px: int, counted: str) -> float:
    """What an image takes: with "all" tokens, with the "class" token alone in the last block, or the "products"."""
    config = dinov2_config(model, patch, side_px)
    if counted == "products":
        tokens = config.num_prefix_tokens + (side_px // patch) ** 2
        return sum(2 * tokens * inner * outer for inner, outer in product_shapes(model, patch, side_px)) / 1e9
    everything, class_alone = operations(config, side_px)
    return everything if counted == "all" else class_alone
