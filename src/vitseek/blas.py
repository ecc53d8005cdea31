"""Choose OpenBLAS's kernels where its own choice is not the fastest. Must run before NumPy is imported.

AMD's Zen 4 knows AVX-512, so OpenBLAS takes its AVX-512 kernels; but Zen 4 executes them in two halves of 256 bits, and
the AVX2 kernels, which cut a product otherwise, multiply a Vision Transformer's matrices 3 to 9 % faster there
(`python -m benchmarks.forward --gemm`). OpenBLAS reads the choice from the environment when it is loaded, once, so only
a program can make it, not a library that is imported after NumPy: `vitseek` does, and docs/performance.md says how
others can.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

VARIABLE = "OPENBLAS_CORETYPE"
AVX2_KERNELS = "Haswell"  # OpenBLAS's name for them
CPUINFO = Path("/proc/cpuinfo")
CPUINFO_BYTES = 4096  # the first core's entry
ZEN_3_AND_4 = "25"  # AMD's family 19h; of the two, only Zen 4 has AVX-512


def prefer_faster_kernels() -> str | None:
    """Set OpenBLAS's kernels for this process and its children, unless the user has; return what was set."""
    if VARIABLE in os.environ or "numpy" in sys.modules:
        return None
    try:
        with CPUINFO.open("rb") as file:
            kernels = faster_kernels(file.read(CPUINFO_BYTES).decode("ascii", "replace"))
    except OSError:  # macOS, Windows: OpenBLAS's own choice stays
        return None
    if kernels is not None:
        os.environ[VARIABLE] = kernels
    return kernels


def faster_kernels(cpuinfo: str) -> str | None:
    """The kernels that beat OpenBLAS's own choice on the processor of a ``/proc/cpuinfo``; None if none are known."""
    first, _, _ = cpuinfo.partition("\n\n")
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
    is_zen_4 = (
        facts.get("vendor_id") == "AuthenticAMD"
        and facts.get("cpu family") == ZEN_3_AND_4
        and "avx512f" in facts.get("flags", "").split()
    )
    return AVX2_KERNELS if is_zen_4 else None
