"""A container's limit on processor time counts as cores, wherever it is written."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info

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


@pytest.mark.hostile
def test_the_limit_of_a_real_control_group_counts() -> None:
    """A process in a group with half a core; needs the rights to make one (root, or a delegated one)."""
    mount = cores.CGROUPS / "cpu" if (cores.CGROUPS / "cpu").is_dir() else cores.CGROUPS
    group = mount / f"vitseek-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        try:
            if (group / "cpu.max").exists():
                (group / "cpu.max").write_text("50000 100000")
            else:
                (group / "cpu.cfs_quota_us").write_text("50000")
        except OSError as error:
            pytest.skip(f"control groups do not limit processor time here: {error}")
        program = f"""
from pathlib import Path
Path({str(group / "cgroup.procs")!r}).write_text("0")
from vitseek.engines import cores
from vitseek.engines.threads import default_threads
print(cores.quota(cores.CGROUPS, cores.MEMBERSHIP), cores.usable_cores(), default_threads())
"""
        ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert (ran.stdout.split(), ran.stderr) == (["0.5", "1", "1"], "")
    finally:
        group.rmdir()


FEATURES = """
import sys, numpy as np, vitseek
from numpy._core import _multiarray_umath as inner
from threadpoolctl import threadpool_info
print(*{library["architecture"] for library in threadpool_info()})
print(*(name for name in inner.__cpu_dispatch__ if inner.__cpu_features__[name]))
pixels = np.random.default_rng(0).standard_normal((3, 3, 192, 192), dtype=np.float32)
np.save(sys.argv[1], vitseek.load().embed_pixels(pixels))
"""
WITHOUT_AVX512 = ("X86_V3", "AVX2", "FMA3", "AVX", "F16C")  # older NumPys name the parts


@pytest.mark.parametrize(
    ("kernels", "left"), [("Haswell", WITHOUT_AVX512), ("Nehalem", ()), ("Prescott", ())], ids=lambda value: str(value)
)
def test_an_older_processor_gives_the_same_features(tmp_path: Path, kernels: str, left: tuple[str, ...]) -> None:
    """NumPy and OpenBLAS as they are on such a processor, in processes of their own."""
    there, _ = features_with(tmp_path / "usual.npy", {})
    if "openblas" not in blas_libraries() or platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("only OpenBLAS on x86 can be told to be older than the processor")
    known = [name for name in there if name in left]
    old = {"OPENBLAS_CORETYPE": kernels, "NPY_DISABLE_CPU_FEATURES": " ".join(set(there) - set(known))}
    features, architectures = features_with(tmp_path / "old.npy", old)
    assert features == known, "NumPy does without"
    assert not {"SkylakeX", "Cooperlake", "Sapphirerapids"} & set(architectures), "and so does OpenBLAS"
    assert left or "Haswell" not in architectures
    usual, found = np.load(tmp_path / "usual.npy"), np.load(tmp_path / "old.npy")
    assert np.linalg.norm(found - usual, axis=1).max() < 1e-5 * np.linalg.norm(usual, axis=1).min()


@pytest.mark.slow
def test_the_engine_s_own_tests_pass_on_a_processor_without_avx(tmp_path: Path) -> None:
    there, _ = features_with(tmp_path / "usual.npy", {})
    old = {"OPENBLAS_CORETYPE": "Nehalem", "NPY_DISABLE_CPU_FEATURES": " ".join(there)}
    here = Path(__file__).parent
    files = [here / f"test_{name}.py" for name in ("numpy_engine", "swin_engine", "text_engine", "model", "chunks")]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, files)],
        env={**os.environ, **old}, capture_output=True, text=True, check=False, cwd=here.parents[1],
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-3000:]


def features_with(file: Path, variables: dict[str, str]) -> tuple[list[str], list[str]]:
    """Save features of the embedded model; return NumPy's optional features in use, and OpenBLAS's kernels."""
    usual = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
    ran = subprocess.run(
        [sys.executable, "-c", FEATURES, str(file)], env={**usual, **variables}, check=True, capture_output=True,
        text=True, timeout=120,
    )  # fmt: skip
    kernels, features = ran.stdout.splitlines()
    return features.split(), kernels.split()


def blas_libraries() -> set[str]:
    return {library["internal_api"] for library in threadpool_info() if library["user_api"] == "blas"}
