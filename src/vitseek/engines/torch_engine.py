"""PyTorch on a GPU, on Apple's MPS, or on the processor; the only engine that imports torch.

On a GPU the pass is recorded once for each size of pictures and each of a few batch sizes (CUDA graphs): replaying it
costs the processor one call, and nothing has to be compiled. A batch is filled up with rows of nothing to the next
recorded size (:mod:`vitseek.engines.chunks`). Pictures go through memory that the GPU reads by itself, on a stream of
their own, so that the next piece arrives while this one is computed; features come back in one copy.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitseek.engines.beside_numpy import BesideNumpy, grid_of
from vitseek.engines.checked import Run
from vitseek.engines.chunks import Chunk, Ladder
from vitseek.engines.torch_pass import VERSION, Tensor, TorchPass, TorchWeights
from vitseek.errors import ConfigError, MissingExtraError
from vitseek.models.config import ViTConfig

Array = NDArray[np.floating]

DEVICE_VARIABLE = "VITSEEK_TORCH_DEVICE"
RECORDED = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # batch sizes on a GPU, each recorded when it is first needed
LARGEST_EAGER = 32  # elsewhere; more needs memory and is no faster
SLOTS = 3  # one is filled, one is on its way, one is read
WARM_UPS = 2  # before a recording: libraries choose their kernels and get their memory
# What PyTorch says in an ordinary RuntimeError when the processor's memory, or MPS's, does not suffice.
OUT_OF_MEMORY = ("DefaultCPUAllocator: ", "MPS backend out of memory", "Invalid buffer size: ")
SWITCHES = threading.RLock()  # PyTorch's number of threads and its kind of float32 are the whole process's


class TorchEngine(BesideNumpy):
    """Features and tokens computed by PyTorch.

    Parameters
    ----------
    precision
        ``"float32"`` or ``"bfloat16"``; see :mod:`vitseek.engines.torch_pass`.
    device
        As PyTorch calls it; by default what the environment's ``VITSEEK_TORCH_DEVICE`` says, or the first there is of a
        GPU, MPS and the processor.
    threads
        Cores that a call may use.

    Raises
    ------
    ConfigError
        If the device is not there.
    MissingExtraError
        If torch is not installed, or cannot be loaded.
    """

    name = "torch"
    version = ""  # with the device
    runs_kept = 8  # they share the weights

    def __init__(
        self,
        params: Mapping[str, Array],
        config: ViTConfig,
        pooling: str,
        threads: int | None = None,
        *,
        precision: str = "float32",
        device: str | None = None,
        weights_sha256: str | None = None,
        report: Callable[[str], None] | None = None,
    ) -> None:
        try:
            import torch
        except (ImportError, OSError) as error:  # OSError: a library of it that the system cannot load
            raise MissingExtraError(f"engine 'torch' needs PyTorch: pip install 'vitseek[torch]' ({error})") from error
        self._torch: Any = torch
        self.device = choose_device(torch, device or os.environ.get(DEVICE_VARIABLE))
        self.version = f"PyTorch {torch.__version__} on {_device_name(torch, self.device)}"
        super().__init__(
            params, config, pooling, threads, precision=precision, weights_sha256=weights_sha256, report=report
        )
        self._weights: TorchWeights | None = None
        self._recorder = _Recorder(torch, self.device) if self.device.type == "cuda" else None

    def _compile(self, size_px: tuple[int, int], pooling: str | None) -> Run:
        grid = grid_of(self.config, size_px)
        if self._weights is None:
            self._weights = TorchWeights(self._torch, self.numpy.weights, self.config, self.device, self._asked)
        compute = TorchPass(self._weights, grid, *self.numpy.places(*grid), pooling=pooling)
        if self._recorder is None:
            return EagerRun(compute, self.numpy.threads, report=self._report)
        return RecordedRun(compute, size_px, self._recorder, report=self._report)

    def _made_with(self) -> dict[str, Any]:
        return {"pass": VERSION}


class EagerRun:
    """Computes batches in the calling thread, step by step; one call of the process at a time."""

    def __init__(self, compute: TorchPass, threads: int, *, report: Callable[[str], None] | None = None) -> None:
        self._compute, self._threads, self._torch = compute, threads, compute.torch
        self.ladder = Ladder(range(1, LARGEST_EAGER + 1), self._torch.OutOfMemoryError, report=report)

    def __call__(self, pixels: Array) -> Array:
        """Return features or tokens of pixels (B, 3, height, width)."""
        parts: list[Array] = []
        self.ladder.run(len(pixels), lambda chunk: parts.append(self._part(pixels[chunk.start : chunk.stop])))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _part(self, pixels: Array) -> Array:
        weights = self._compute.weights
        with limited_threads(self._torch, self._threads), exact_float32(self._torch), self._torch.inference_mode():
            try:
                found = self._compute(_tensor(self._torch, pixels).to(weights.device, weights.dtype))
                features: Array = found.cpu().numpy()
            except RuntimeError as error:
                if any(words in str(error) for words in OUT_OF_MEMORY):
                    raise self._torch.OutOfMemoryError(str(error)) from error
                raise
            return features


class _Recorder:
    """What the recordings of an engine share: three streams, the memory between their steps, and one lock for all.

    Whatever comes to a stream while it is recorded becomes part of the recording, or spoils it, from any thread. Other
    threads read features from ``compute`` meanwhile, without the lock: nothing is recorded there.
    """

    def __init__(self, torch: Any, device: Any) -> None:
        self.torch, self.device = torch, device
        self.compute = torch.cuda.Stream(device)
        self.copy = torch.cuda.Stream(device)
        self.capture = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()
        self.lock = threading.RLock()

    def record(self, step: Callable[[Tensor], Tensor], pixels: Tensor) -> _Recording:
        """Record ``step`` for pixels of this shape, made on ``capture``, which become where its input lies."""
        torch = self.torch
        with torch.cuda.device(self.device), SWITCHES, exact_float32(torch):
            self.capture.wait_stream(torch.cuda.current_stream())  # which the weights came by
            with torch.cuda.stream(self.capture):
                for _ in range(WARM_UPS):
                    step(pixels)
            graph = torch.cuda.CUDAGraph()
            try:
                # Other threads of the process may allocate meanwhile: only what this one does is recorded and judged.
                with torch.cuda.graph(graph, pool=self.pool, stream=self.capture, capture_error_mode="thread_local"):
                    out = step(pixels)
            except RuntimeError as error:  # leaving the recording fails too, and hides why
                if isinstance(error.__context__, torch.OutOfMemoryError):
                    raise error.__context__ from None
                raise
        return _Recording(graph, pixels, out)

    def forget(self) -> None:
        """Give memory between the steps back, after all recordings were let go."""
        with self.torch.cuda.device(self.device), SWITCHES:  # another engine may record
            self.torch.cuda.synchronize()
            self.pool = self.torch.cuda.graph_pool_handle()
            self.torch.cuda.empty_cache()


class _Recording:
    """A recorded pass: where its input and its output lie."""

    def __init__(self, graph: Any, pixels: Tensor, out: Tensor) -> None:
        self.graph, self.pixels, self.out = graph, pixels, out


class _Slot:
    """Room for a piece on the processor's side, in pages that the GPU reads by itself, and on the GPU's."""

    def __init__(self, torch: Any, shape: tuple[int, ...], dtype: Any, device: Any) -> None:
        self.host = torch.empty(shape, dtype=dtype, pin_memory=True)
        self.device = torch.empty(shape, dtype=dtype, device=device)
        self.arrived, self.read = torch.cuda.Event(), torch.cuda.Event()


class RecordedRun:
    """Computes batches on a GPU by recordings of a few batch sizes."""

    def __init__(
        self,
        compute: TorchPass,
        size_px: tuple[int, int],
        recorder: _Recorder,
        *,
        report: Callable[[str], None] | None = None,
    ) -> None:
        self._compute, self._size_px, self._recorder, self._torch = compute, size_px, recorder, compute.torch
        self.ladder = Ladder(RECORDED, self._torch.OutOfMemoryError, on_shrink=self._forget, report=report)
        self._recordings: dict[int, _Recording] = {}
        self._slots: queue.SimpleQueue[_Slot | None] = queue.SimpleQueue()  # None: not made yet, or too small
        for _ in range(SLOTS):
            self._slots.put(None)

    def __call__(self, pixels: Array) -> Array:
        """Return features or tokens of pixels (B, 3, height, width)."""
        torch, recorder = self._torch, self._recorder
        found: list[Tensor] = []  # one for the batch, made when the first piece tells its shape
        with torch.inference_mode(), torch.cuda.device(recorder.device):
            self.ladder.run(len(pixels), lambda chunk: self._launch(pixels, chunk, found))
            with torch.cuda.stream(recorder.compute):
                features: Array = found[0].cpu().numpy()  # waits, and lets other threads run meanwhile
        return features

    def _launch(self, pixels: Array, chunk: Chunk, found: list[Tensor]) -> None:
        """Have a piece computed, without waiting for it; the result goes to its place in ``found``."""
        torch, recorder = self._torch, self._recorder
        images = chunk.stop - chunk.start
        slot = self._slots.get()
        try:
            if slot is None or len(slot.host) < images:
                if slot is not None:
                    slot.read.synchronize()
                slot = None  # its memory goes before new is asked for
                with torch.cuda.stream(recorder.copy):  # memory let go elsewhere may still be written to there
                    slot = _Slot(torch, self._shape(chunk.rows), self._compute.weights.dtype, recorder.device)
            slot.arrived.synchronize()  # its last piece has left the host's side
            slot.host[:images].copy_(_tensor(torch, pixels[chunk.start : chunk.stop]))
            with recorder.lock:
                recording = self._recording(chunk.rows)
                with torch.cuda.stream(recorder.copy):
                    recorder.copy.wait_event(slot.read)
                    slot.device[:images].copy_(slot.host[:images], non_blocking=True)
                    slot.arrived.record(recorder.copy)
                with torch.cuda.stream(recorder.compute):
                    if not found:
                        found.append(recording.out.new_empty(len(pixels), *recording.out.shape[1:]))
                    recorder.compute.wait_event(slot.arrived)
                    recording.pixels[:images].copy_(slot.device[:images])
                    slot.read.record(recorder.compute)
                    recording.graph.replay()
                    found[0][chunk.start : chunk.stop].copy_(recording.out[:images])
        finally:
            self._slots.put(slot)

    def _recording(self, rows: int) -> _Recording:
        if rows not in self._recordings:
            weights = self._compute.weights
            with self._torch.cuda.stream(self._recorder.capture):
                pixels = self._torch.zeros(self._shape(rows), dtype=weights.dtype, device=weights.device)
            self._recordings[rows] = self._recorder.record(self._compute, pixels)
        return self._recordings[rows]

    def _shape(self, rows: int) -> tuple[int, ...]:
        return rows, 3, *self._size_px

    def _forget(self, largest: int) -> None:
        """Let go of all recordings: the memory between their steps is one, as large as the largest needs."""
        with self._recorder.lock, SWITCHES:  # waiting for the whole GPU spoils what another engine records
            self._torch.cuda.synchronize(self._recorder.device)
            self._recordings.clear()
            self._recorder.forget()


def choose_device(torch: Any, wanted: str | None = None) -> Any:
    """Return the ``torch.device`` wanted, or the first there is of a GPU, MPS and the processor.

    Raises
    ------
    ConfigError
        If it is not there.
    """
    there = [f"cuda:{index}" for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0)]
    if torch.backends.mps.is_available():
        there.append("mps")
    there.append("cpu")
    if not wanted:
        return torch.device(there[0])
    if (name := "cuda:0" if wanted == "cuda" else wanted) not in there:
        raise ConfigError(
            f"PyTorch {torch.__version__} has no device {wanted!r} here: there is {', '.join(there)}; "
            f"set {DEVICE_VARIABLE} to one of them, or to nothing"
        )
    return torch.device(name)


@contextmanager
def limited_threads(torch: Any, threads: int) -> Iterator[None]:
    """Enter with PyTorch's number of threads, which is the process's, and put it back as it was."""
    with SWITCHES:
        usual = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(usual)


@contextmanager
def exact_float32(torch: Any) -> Iterator[None]:
    """Enter with products of float32 in float32, not TF32 or bfloat16; put back what the process had allowed."""
    with SWITCHES:
        if hasattr(torch.backends.cuda.matmul, "fp32_precision"):  # since PyTorch 2.9
            # Of a switch that says nothing itself one reads what stands above it: it goes back to saying nothing.
            backends = torch.backends
            usual = [
                (switch, "none" if was == above.fp32_precision else was)
                for switch, above in ((backends.cuda.matmul, backends), (backends.mkldnn.matmul, backends.mkldnn))
                if (was := switch.fp32_precision) not in ("none", "ieee")
            ]
            for switch, _ in usual:
                switch.fp32_precision = "ieee"
            try:
                yield
            finally:
                for switch, was in usual:
                    switch.fp32_precision = was
            return
        allowed = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(allowed)


def _tensor(torch: Any, pixels: Array) -> Tensor:
    """The same memory as a tensor; a copy where it is read-only or not in order."""
    return torch.from_numpy(np.require(pixels, np.float32, ["C", "W"]))


def _device_name(torch: Any, device: Any) -> str:
    return str(torch.cuda.get_device_name(device)) if device.type == "cuda" else str(device)
