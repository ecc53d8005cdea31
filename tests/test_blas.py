"""Which kernels OpenBLAS is told to take."""

import os
import subprocess
import sys

import pytest

from vitseek import blas
from vitseek.blas import faster_kernels, prefer_faster_kernels


def cpuinfo(vendor="AuthenticAMD", family="25", flags="fpu avx2 avx512f avx512_bf16"):
    core = f"processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: 17\nflags\t\t: {flags}\n"
    return f"{core}\n{core.replace(': 0', ': 1')}"


@pytest.mark.parametrize(
    ("text", "kernels"),
    [
        (cpuinfo(), "Haswell"),  # Zen 4
        (cpuinfo(flags="fpu avx2"), None),  # Zen 3: OpenBLAS takes AVX2 anyway
        (cpuinfo(family="26"), None),  # Zen 5 has full AVX-512
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


def test_the_program_chooses_before_it_imports_numpy():
    """In a fresh interpreter, since here NumPy is loaded."""
    code = (
        "import sys, vitseek.cli.app, vitseek.blas as blas\n"
        "blas.prefer_faster_kernels = lambda: print('numpy' in sys.modules)\n"
        "sys.argv = ['vitseek', '--version']\n"
        "vitseek.cli.app.main()"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert printed.splitlines()[0] == "False"
