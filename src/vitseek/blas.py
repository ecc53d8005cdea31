"""Choose OpenBLAS's kernels and threads where its own choice is not the best. Must run before NumPy is imported.

AMD's Zen 4 knows AVX-512, so OpenBLAS takes its AVX-512 kernels; but Zen 4 executes them in two halves of 256 bits, and
the AVX2 kernels, which cut a product otherwise, multiply a Vision Transformer's matrices 3 to 9 % faster there
(`python -m benchmarks.forward --gemm`). OpenBLAS reads the choice from the environment when it is loaded, once, so only
a program can make it, not a library that is imported after NumPy: `vitseek` does, and docs/performance.md says how
others can.

OpenBLAS starts a thread for every core that the process may run on, and knows nothing of a container's limit on
processor time: on 64 cores with a limit of two, each product would wake 64 threads that share two cores' time.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

VARIABLE = "OPENBLAS_CORETYPE"
THREADS = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS")  # what OpenBLAS reads, in this order
AVX2_KERNELS = "Haswell"  # OpenBLAS's name for them
CPUINFO = Path("/proc/cpuinfo")
CPUINFO_BYTES = 4096  # the first core's entry
ZEN_3_AND_4 = "25"  # AMD's family 19h; of the two, only Zen 4 has AVX-512
NEEDED = {"avx512f", "avx2", "fma"}  # and what the AVX2 kernels use, which a hypervisor may hide


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


def limit_threads(cores: int) -> int | None:
    """Have OpenBLAS start no more threads than ``cores``, unless the user has said how many; return what was set.

    Parameters
    ----------
    cores
        That this process may run on and may pay for: :func:`vitseek.engines.cores.usable_cores`.
    """
    runs_on = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores >= runs_on or "numpy" in sys.modules or any(name in os.environ for name in THREADS):
        return None
    os.environ[THREADS[0]] = str(cores)
    return cores


def faster_kernels(cpuinfo: str) -> str | None:
    """The kernels that beat OpenBLAS's own choice on the processor of a ``/proc/cpuinfo``; None if none are known."""
    first, _, _ = cpuinfo.partition("\n\n")
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
    is_zen_4 = (
        facts.get("vendor_id") == "AuthenticAMD"
        and facts.get("cpu family") == ZEN_3_AND_4
        and set(facts.get("flags", "").split()) >= NEEDED
    )
    return AVX2_KERNELS if is_zen_4 else None
