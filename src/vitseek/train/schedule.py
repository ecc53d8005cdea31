"""Numbers that change with the step: learning rate, momentum, temperature, weight decay.

Pure functions of the step, so that a resumed run needs no scheduler state.
"""

import math


def cosine(step: float, total: float, start: float, end: float) -> float:
    """Half a cosine from ``start`` at step 0 to ``end`` at step ``total``; constant outside."""
    part = 1.0 if total <= 0 else min(max(step / total, 0.0), 1.0)
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * part))


def linear(step: float, total: float, start: float, end: float) -> float:
    """A straight line from ``start`` at step 0 to ``end`` at step ``total``; constant outside."""
    part = 1.0 if total <= 0 else min(max(step / total, 0.0), 1.0)
    return start + (end - start) * part


def warmup_cosine(step: float, *, warmup: float, total: float, peak: float, end: float) -> float:
    """Linear warm-up to ``peak`` over ``warmup`` steps, then half a cosine down to ``end`` at ``total``.

    Step 0 already learns: it has ``peak / warmup``, not 0.
    """
    if step < warmup:
        return peak * min((step + 1) / warmup, 1.0)
    return cosine(step - warmup, total - 1 - warmup, peak, end)
