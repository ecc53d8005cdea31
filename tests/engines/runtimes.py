"""The runtimes for graphs, for tests that need one; a test is skipped where its runtime is not installed."""

import pytest

from vitseek.engines.graph_engine import Runtime

RUNTIMES = ("onnx", "openvino")


def runtime_of(name: str, threads: int = 1) -> Runtime:
    pytest.importorskip("onnx", reason="onnx is not installed: pip install 'vitseek[onnx]'")
    if name == "onnx":
        pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'vitseek[onnx]'")
        from vitseek.engines.onnx_engine import OnnxRuntime

        return OnnxRuntime(threads)
    pytest.importorskip("openvino", reason="openvino is not installed: pip install 'vitseek[openvino]'")
    from vitseek.engines.openvino_engine import OpenVino

    return OpenVino(threads)
