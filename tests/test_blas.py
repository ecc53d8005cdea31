"""Which kernels OpenBLAS is told to take."""

import os
import subprocess
import sys

import pytest

from vitseek import blas
from vitseek.blas import faster_kernels, limit_threads, prefer_faster_kernels


def cpuinfo(vendor="AuthenticAMD", family="25", flags="fpu fma avx2 avx512f avx512_bf16"):
    core = f"processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: 17\nflags\t\t: {flags}\n"
    return f"{core}\n{core.replace(': 0', ': 1')}"


@pytest.mark.parametrize(
    ("text", "kernels"),
    [
        (cpuinfo(), "Haswell"),  # Zen 4
        (cpuinfo(flags="fpu avx2"), None),  # Zen 3: OpenBLAS takes AVX2 anyway
        (cpuinfo(family="26"), None),  # Zen 5 has full AVX-512: its kernels are the fastest
        (cpuinfo(family="26", flags="fpu avx2 avx512f avx512_bf16 avx512_vp2intersect avx_vnni"), None),
        (cpuinfo(flags="fpu sse4_2"), None),  # a hypervisor hides it all: Haswell's kernels would not run
        (cpuinfo(flags="fpu avx2 avx512f"), None),
        (cpuinfo(flags="fpu fma avx512f"), None),
        (cpuinfo(family="16", flags="fpu sse3 sse4a"), None),  # K10
        (cpuinfo(vendor="GenuineIntel", family="6"), None),
        ("", None),
        ("processor: 0\nBogoMIPS: 50.0\nFeatures: fp asimd\n", None),  # ARM
    ],
)
def test_only_zen_4_is_told_to_take_other_kernels(text, kernels):
    assert faster_kernels(text) == kernels


@pytest.fixture
def zen_4(tmp_path, monkeypatch):
    """A Zen 4 and a process that has not seen NumPy."""
    file = tmp_path / "cpuinfo"
    file.write_text(cpuinfo())
    monkeypatch.setattr(blas, "CPUINFO", file)
    monkeypatch.setenv(blas.VARIABLE, "")  # so that what a test sets is taken back
    monkeypatch.delenv(blas.VARIABLE)
    monkeypatch.delitem(sys.modules, "numpy", raising=False)
    return file


def test_the_choice_of_the_user_is_left_alone(zen_4, monkeypatch):
    monkeypatch.setenv(blas.VARIABLE, "Zen")

    assert prefer_faster_kernels() is None
    assert os.environ[blas.VARIABLE] == "Zen"


def test_nothing_is_set_when_numpy_is_there_already(zen_4, monkeypatch):
    monkeypatch.setitem(sys.modules, "numpy", object())

    assert prefer_faster_kernels() is None
    assert blas.VARIABLE not in os.environ


def test_a_machine_without_cpuinfo_keeps_its_kernels(zen_4):
    zen_4.unlink()

    assert prefer_faster_kernels() is None


def test_the_kernels_are_set_before_numpy_is_loaded(zen_4):
    assert prefer_faster_kernels() == "Haswell"
    assert os.environ[blas.VARIABLE] == "Haswell"


@pytest.fixture
def two_cores(monkeypatch):
    """A process that may run on two cores, has not seen NumPy, and was told nothing about threads."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    for name in blas.THREADS:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.delitem(sys.modules, "numpy", raising=False)


def test_a_container_s_limit_becomes_openblas_s(two_cores):
    assert limit_threads(1) == 1
    assert os.environ["OPENBLAS_NUM_THREADS"] == "1"


def test_without_a_limit_openblas_counts_the_cores_itself(two_cores):
    assert limit_threads(2) is None
    assert "OPENBLAS_NUM_THREADS" not in os.environ


@pytest.mark.parametrize("name", blas.THREADS)
def test_the_user_s_number_of_threads_is_left_alone(two_cores, monkeypatch, name):
    monkeypatch.setenv(name, "2")

    assert limit_threads(1) is None
    assert [os.environ.get(one) for one in blas.THREADS].count(None) == 2


def test_threads_are_not_limited_when_numpy_is_there_already(two_cores, monkeypatch):
    monkeypatch.setitem(sys.modules, "numpy", object())

    assert limit_threads(1) is None


def test_the_program_chooses_before_it_imports_numpy():
    """In a fresh interpreter, since here NumPy is loaded."""
    code = (
        "import sys, vitseek.cli.app, vitseek.blas as blas\n"
        "blas.prefer_faster_kernels = lambda: print('numpy' in sys.modules)\n"
        "blas.limit_threads = lambda cores: print('numpy' in sys.modules, cores >= 1)\n"
        "sys.argv = ['vitseek', '--version']\n"
        "vitseek.cli.app.main()"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert printed.splitlines()[:2] == ["False", "False True"]
