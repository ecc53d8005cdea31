"""A container's limit on processor time counts as cores, wherever it is written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vitseek.engines import cores
from vitseek.engines.cores import quota, usable_cores
from vitseek.engines.threads import default_threads


def laid_out(folder: Path, membership: str, files: dict[str, str]) -> tuple[Path, Path]:
    for name, text in files.items():
        (folder / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup" / name).write_text(text)
    (folder / "membership").write_text(membership)
    return folder / "cgroup", folder / "membership"


@pytest.mark.parametrize(
    ("membership", "files", "wanted"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "50000 100000\n"}, 0.5),
        ("0::/a/b\n", {"a/b/cpu.max": "200000 100000\n", "a/cpu.max": "300000 100000\n"}, 2),
        ("0::/of/the/host\n", {"cpu.max": "400000 100000\n"}, 4),
        ("4:memory:/x\n3:cpu,cpuacct:/x\n", {"cpu/x/cpu.cfs_quota_us": "25000\n", "cpu/x/cpu.cfs_period_us": "50000\n"},
         0.5),
        ("3:cpu,cpuacct:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ("3:cpuset:/\n", {"cpu.max": "100000 100000\n"}, None),
        ("0::/../..\n", {"cpu.max": "100000 100000\n"}, 1),
        ("nonsense\n\n", {"cpu.max": "100000 100000\n"}, None),
        ("0::/\n", {"cpu.max": "100000\n"}, None),
        ("0::/\n", {"cpu.max": "100000 0\n"}, None),
        ("0::/\n", {}, None),
    ],
)  # fmt: skip
def test_the_least_quota_on_the_way_up_counts(
    tmp_path: Path, membership: str, files: dict[str, str], wanted: float | None
) -> None:
    assert quota(*laid_out(tmp_path, membership, files)) == wanted


def test_without_control_groups_there_is_no_quota(tmp_path: Path) -> None:
    assert quota(tmp_path / "none", tmp_path / "neither") is None


@pytest.mark.parametrize(("limit", "wanted"), [("10000 100000", 1), ("110000 100000", 2), ("9900000 100000", 3)])
def test_part_of_a_core_is_one_and_a_quota_beyond_the_cores_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, wanted: int
) -> None:
    groups, membership = laid_out(tmp_path, "0::/\n", {"cpu.max": limit})
    monkeypatch.setattr(cores, "CGROUPS", groups)
    monkeypatch.setattr(cores, "MEMBERSHIP", membership)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    assert usable_cores() == wanted
    assert default_threads() <= wanted


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not bind processes to cores")
@pytest.mark.parametrize("variables", [{}, {"OMP_NUM_THREADS": "0"}, {"OMP_NUM_THREADS": "abc"},
                                       {"OMP_NUM_THREADS": "4,2"}, {"OPENBLAS_NUM_THREADS": "-3"}])  # fmt: skip
def test_one_core_and_strange_thread_counts_work(variables: dict[str, str]) -> None:
    program = """
import os, numpy as np
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import vitseek
model = vitseek.load()
pixels = np.random.default_rng(0).standard_normal((3, 3, 192, 192), dtype=np.float32)
batch, single = model.embed_pixels(pixels), model.embed_pixels(pixels[:1])
assert np.allclose(batch[:1], single, atol=1e-4), abs(batch[:1] - single).max()
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **variables}, capture_output=True, text=True, check=False,
        timeout=120,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr


def test_a_processor_without_avx_gives_the_same_features(tmp_path: Path) -> None:
    """NumPy and OpenBLAS as they are on such a processor, in processes of their own."""
    program = """
import sys, numpy as np, vitseek
pixels = np.random.default_rng(0).standard_normal((2, 3, 192, 192), dtype=np.float32)
np.save(sys.argv[1], vitseek.load().embed_pixels(pixels))
"""
    old = {"OPENBLAS_CORETYPE": "Nehalem", "NPY_DISABLE_CPU_FEATURES": old_features()}
    for name, variables in (("usual", {}), ("old", old)):
        subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / name)], env={**os.environ, **variables}, check=True,
            capture_output=True, timeout=120,
        )  # fmt: skip
    from numpy import linalg, load

    usual, found = load(tmp_path / "usual.npy"), load(tmp_path / "old.npy")
    assert linalg.norm(found - usual, axis=1).max() < 1e-5 * linalg.norm(usual, axis=1).min()


def old_features() -> str:
    """What NumPy found here beyond its least, which it is asked to do without."""
    from numpy._core import _multiarray_umath as inner

    return " ".join(name for name in inner.__cpu_dispatch__ if inner.__cpu_features__.get(name))
