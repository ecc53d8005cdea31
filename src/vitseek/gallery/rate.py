"""How fast a run is now, and how long the rest will take."""

import time
from collections import deque

WINDOW_S = 30.0


class Rate:
    """Items per second over the last half minute, so that a slow start does not spoil the estimate."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._points = deque([(time.monotonic(), 0)])

    def update(self, done: int) -> tuple[float | None, float | None]:
        """(items per second, seconds left) after ``done`` items; None while there is nothing to measure."""
        now = time.monotonic()
        self._points.append((now, done))
        while len(self._points) > 2 and now - self._points[1][0] > WINDOW_S:
            self._points.popleft()
        start, before = self._points[0]
        if done == before or now <= start:
            return None, None
        rate = (done - before) / (now - start)
        return rate, (self._total - done) / rate
