"""PyTorch with a GPU that is the processor: streams and events keep order by themselves, a graph calls its step again.

What it shows: which pieces are computed, where their numbers come from and go to, what is let go. What it cannot show:
that streams wait for each other, and what a real recording allows.
"""

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
        self._recording: Graph | None = None

        @contextmanager
        def within(*_: Any) -> Iterator[None]:
            yield

        @contextmanager
        def graph(graph: Graph, **_: Any) -> Iterator[None]:
            self._recording = graph
            try:
                yield
            except torch.OutOfMemoryError:
                raise RuntimeError("a previous error during capture")  # noqa: B904 - as PyTorch does
            finally:
                self._recording = None

        self.cuda = SimpleNamespace(
            Stream=Stream, Event=Event, CUDAGraph=Graph, graph=graph, stream=within, device=within,
            graph_pool_handle=object, current_stream=Stream, synchronize=lambda device=None: None,
            empty_cache=lambda: None,
        )  # fmt: skip

    def __getattr__(self, name: str) -> Any:
        return getattr(self._torch, name)

    def empty(self, *shape: Any, pin_memory: bool = False, **options: Any) -> Any:
        """Rows of nothing are not a number, so that they are seen where they should not be."""
        return self._torch.full(*shape, float("nan"), **options)

    def step(self, compute: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Return ``compute`` as it behaves while it is recorded."""

        def step(pixels: Any) -> Any:
            if len(pixels) > self.rows_that_fit and bool(self._recording) == self.late:
                raise self.OutOfMemoryError(f"no room for {len(pixels)} pictures")
            out = compute(pixels)
            if self._recording is not None:
                self.recorded.append(len(pixels))
                self._recording.replay = lambda: out.copy_(compute(pixels))
            return out

        return step
