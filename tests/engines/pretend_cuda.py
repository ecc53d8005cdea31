"""PyTorch with a GPU that is the processor: streams and events keep order by themselves, a graph calls its step again.

What it shows: which pieces are computed, where their numbers come from and go to, what is let go; that no thread works
on a stream, or waits for the whole GPU, while another records there. What it cannot show: that streams wait for each
other, and what else a real recording allows.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any


class Event:
    """Has always happened."""

    def record(self, stream: Any) -> None:
        pass

    def synchronize(self) -> None:
        pass


class Stream:
    """Runs at once."""

    def __init__(self, device: Any = None) -> None:
        pass

    def wait_event(self, event: Event) -> None:
        pass

    def wait_stream(self, stream: Any) -> None:
        pass


class Graph:
    """Runs again what was run while it was recorded."""

    def __init__(self) -> None:
        self.replay: Callable[[], Any] = lambda: None


class PretendTorch:
    """The package, with ``cuda`` replaced.

    Parameters
    ----------
    rows_that_fit
        Recording more rows than this is out of memory: when warming up, or only while recording (``late``).
    """

    def __init__(self, torch: Any, *, rows_that_fit: int = 1 << 30, late: bool = False) -> None:
        self._torch = torch
        self.rows_that_fit, self.late = rows_that_fit, late
        self.recorded: list[int] = []
        self.while_recording: Callable[[], None] = lambda: None  # called in the middle of each recording
        self.made_on: list[Any] = []  # the streams that memory was asked for on
        self._recording: Graph | None = None
        self._recorder: tuple[threading.Thread, Any] | None = None  # who records, and on which stream
        self._here = threading.local()

        @contextmanager
        def within(device: Any) -> Iterator[None]:
            yield

        @contextmanager
        def stream(stream: Any) -> Iterator[None]:
            self._refuse_while_recording(stream)
            usual, self._here.stream = self._stream(), stream
            try:
                yield
            finally:
                self._here.stream = usual

        @contextmanager
        def graph(graph: Graph, *, stream: Any, **_: Any) -> Iterator[None]:
            self._recording, self._recorder = graph, (threading.current_thread(), stream)
            try:
                yield
            except torch.OutOfMemoryError:
                raise RuntimeError("a previous error during capture")  # noqa: B904 - as PyTorch does
            finally:
                self._recording = self._recorder = None

        self.cuda = SimpleNamespace(
            Stream=Stream, Event=Event, CUDAGraph=Graph, graph=graph, stream=stream, device=within,
            graph_pool_handle=object, current_stream=Stream,
            synchronize=lambda device=None: self._refuse_while_recording(None),
            empty_cache=lambda: None,
        )  # fmt: skip

    def __getattr__(self, name: str) -> Any:
        return getattr(self._torch, name)

    def empty(self, *shape: Any, pin_memory: bool = False, **options: Any) -> Any:
        """Rows of nothing are not a number, so that they are seen where they should not be."""
        if not pin_memory:
            self.made_on.append(self._stream())
        return self._torch.full(*shape, float("nan"), **options)

    def step(self, compute: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Return ``compute`` as it behaves while it is recorded."""

        def step(pixels: Any) -> Any:
            if len(pixels) > self.rows_that_fit and bool(self._recording) == self.late:
                raise self.OutOfMemoryError(f"no room for {len(pixels)} pictures")
            out = compute(pixels)
            if self._recording is not None:
                self.while_recording()
                self.recorded.append(len(pixels))
                self._recording.replay = lambda: out.copy_(compute(pixels))
            return out

        return step

    def _stream(self) -> Any:
        """The stream of this thread, or ``None``: the one that everybody has."""
        return getattr(self._here, "stream", None)

    def _refuse_while_recording(self, stream: Any) -> None:
        """As CUDA does: what another thread does on the stream, or (``None``) to the GPU, spoils a recording."""
        if self._recorder is None:
            return
        thread, recorded = self._recorder
        if threading.current_thread() is not thread and stream in (None, recorded):
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
