"""The files that peers load: transformers' own model with vitseek's weights, and what each runtime makes of it.

Every function writes one file or folder and returns its path; :class:`Exports` calls them in processes of their own,
each once, so that the workers load nothing but their runtime. All are what the documentation of the runtimes advises:
``save_pretrained``; ``torch.onnx.export``; ONNX Runtime's dynamic and static (QDQ) int8; ``openvino.convert_model``;
nncf's post-training int8 for transformers.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contest import WorkerFailed, call
from benchmarks.forward import random_weights
from vitseek.engines.checked import probes
from vitseek.models.config import VARIANTS, ViTConfig

SAMPLES = 12
MADE_FROM = {
    "calibration": "weights",
    "transformers": "weights",
    "onnx": "transformers",
    "onnx-int8-dynamic": "onnx",
    "onnx-int8-dynamic-channel": "onnx",
    "onnx-int8-static": "onnx",
    "openvino": "transformers",
    "openvino-int8": "openvino",
}


def dinov2_config(model: str, patch: int, side_px: int) -> ViTConfig:
    """The architecture of DINOv2 in a named size, with positions for pictures of that side."""
    return ViTConfig(**VARIANTS[model], patch_size=patch, img_size=(side_px, side_px), layer_scale=True)


@dataclass
class Exports:
    """What was exported so far of one model, in a folder; each file is made when it is first asked for."""

    model: str
    patch: int
    side_px: int
    folder: Path
    limit_s: float = 1800.0
    say: Callable[[str], None] = print
    _made: dict[str, str | WorkerFailed] = field(default_factory=dict)

    def obtain(self, kind: str) -> str:
        """The path of an export.

        Raises
        ------
        WorkerFailed
            If it, or what it is made from, could not be made; the message is the reason.
        """
        if kind not in self._made:
            try:
                self._made[kind] = self._make(kind)
            except WorkerFailed as failure:
                self._made[kind] = failure
        made = self._made[kind]
        if isinstance(made, WorkerFailed):
            raise made
        return made

    def _make(self, kind: str) -> str:
        arguments: dict[str, Any] = {"model": self.model, "patch": self.patch, "side_px": self.side_px}
        arguments["folder"] = str(self.folder)
        if kind in MADE_FROM:
            arguments["source"] = self.obtain(MADE_FROM[kind])
        self.say(f"exporting {kind}")
        function = kind.replace("-", "_")
        try:
            return str(call(f"{__name__}:{function}", arguments, limit_s=self.limit_s))
        except WorkerFailed as failure:
            raise WorkerFailed(f"export to {kind} failed: {failure}") from None


def weights(model: str, patch: int, side_px: int, folder: str) -> str:
    """Random weights, the same every time, under timm's names."""
    from safetensors.numpy import save_file

    file = Path(folder) / "weights.safetensors"
    save_file(random_weights(dinov2_config(model, patch, side_px), np.random.default_rng(0)), file)
    return str(file)


def calibration(model: str, patch: int, side_px: int, folder: str, source: str) -> str:
    """What vitseek's int8-static needs to know of the numbers between the layers."""
    from safetensors.numpy import load_file

    from vitseek.engines.calibration import calibrate
    from vitseek.engines.numpy_engine import NumpyEngine

    engine = NumpyEngine(load_file(source), dinov2_config(model, patch, side_px))
    file = Path(folder) / "calibration.safetensors"
    file.write_bytes(calibrate(engine, (side_px, side_px), samples(side_px)).to_bytes())
    return str(file)


def transformers(model: str, patch: int, side_px: int, folder: str, source: str) -> str:
    """Dinov2Model as save_pretrained leaves it."""
    import torch
    from safetensors.numpy import load_file
    from transformers import Dinov2Config, Dinov2Model

    config = dinov2_config(model, patch, side_px)
    settings = Dinov2Config(
        hidden_size=config.embed_dim, num_hidden_layers=config.depth, num_attention_heads=config.num_heads,
        patch_size=config.patch_size, image_size=config.img_size[0], layer_norm_eps=config.norm_eps,
    )  # fmt: skip
    peer = Dinov2Model(settings).eval()
    peer.load_state_dict({name: torch.from_numpy(value) for name, value in renamed(load_file(source), config).items()})
    peer.save_pretrained(Path(folder) / "transformers")
    return str(Path(folder) / "transformers")


def onnx(model: str, patch: int, side_px: int, folder: str, source: str) -> str:
    """Opset 17 by the tracer, any number of pictures."""
    import torch

    file = Path(folder) / "peer.onnx"
    pixels = torch.zeros(2, 3, side_px, side_px)
    with torch.inference_mode(), quiet():
        torch.onnx.export(
            class_token(source), (pixels,), str(file), dynamo=False, opset_version=17, input_names=["pixels"],
            output_names=["features"], dynamic_axes={"pixels": {0: "batch"}, "features": {0: "batch"}},
        )  # fmt: skip
    return str(file)


def onnx_int8_dynamic(model: str, patch: int, side_px: int, folder: str, source: str) -> str:
    """Weights in int8 with one scale a matrix, activations quantised as they come."""
    return _dynamic(source, Path(folder) / "peer-int8-dynamic.onnx", per_channel=False)


def onnx_int8_dynamic_channel(model: str, patch: int, side_px: int, folder: str, source: str) -> str:
    """The same with one scale a column."""
    return _dynamic(source, Path(folder) / "peer-int8-dynamic-channel.onnx", per_channel=True)


def _dynamic(source: str, file: Path, *, per_channel: bool) -> str:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with quiet():
        quantize_dynamic(source, file, per_channel=per_channel, weight_type=QuantType.QInt8)
    return str(file)


def onnx_int8_static(model: str, patch: int, side_px: int, folder: str, source: str) -> str:
    """Weights and activations with scales from a few pictures, as QuantizeLinear and DequantizeLinear."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Pictures(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = samples(side_px)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(({"pixels": pixels} for pixels in self.left), None)

    prepared, file = Path(folder) / "peer-prepared.onnx", Path(folder) / "peer-int8-static.onnx"
    with quiet():
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared, file, Pictures(), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip
    prepared.unlink()
    return str(file)


def openvino(model: str, patch: int, side_px: int, folder: str, source: str) -> str:
    """OpenVINO's own conversion of the PyTorch model, in float32."""
    import openvino as ov
    import torch

    file = Path(folder) / "peer.xml"
    with torch.inference_mode(), quiet():
        converted = ov.convert_model(class_token(source), example_input=torch.zeros(2, 3, side_px, side_px))
    converted.reshape([-1, 3, side_px, side_px])
    ov.save_model(converted, file, compress_to_fp16=False)
    return str(file)


def openvino_int8(model: str, patch: int, side_px: int, folder: str, source: str) -> str:
    """Post-training quantisation by nncf with its settings for transformers."""
    import nncf
    import openvino as ov

    file = Path(folder) / "peer-int8.xml"
    pictures = nncf.Dataset(list(samples(side_px)))
    with quiet():
        smaller = nncf.quantize(
            ov.Core().read_model(source), pictures, model_type=nncf.ModelType.TRANSFORMER,
            subset_size=SAMPLES,
        )  # fmt: skip
    ov.save_model(smaller, file, compress_to_fp16=False)
    return str(file)


def class_token(folder: str, dtype: str = "float32") -> Any:
    """The saved model in PyTorch, ready to run, with the class token after the last norm as its output."""
    import torch
    from transformers import Dinov2Model

    class ClassToken(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = Dinov2Model.from_pretrained(
                folder, attn_implementation="sdpa", dtype=getattr(torch, dtype)
            ).eval()

        def forward(self, pixels: Any) -> Any:
            return self.model(pixels).last_hidden_state[:, 0]

    return ClassToken().eval()


def samples(side_px: int) -> Iterator[np.ndarray]:
    """Pictures one by one, shape (1, 3, side, side): the structure of those that outputs are compared on, shifted."""
    for number in range(SAMPLES):
        picture = probes(side_px, side_px)[number % 3]
        yield np.roll(picture, (17 * number, 29 * number), axis=(1, 2))[None]


class quiet(warnings.catch_warnings):
    """Without the warnings of tracers and quantisers, which say that sizes become constants."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)


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
