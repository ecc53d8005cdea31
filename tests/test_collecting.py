"""The suite starts with what `make test` installs: the extra `test`, and nothing of the others."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OF_OTHER_EXTRAS = (
    "playwright",
    "torch",
    "transformers",
    "accelerate",
    "tensorboard",
    "onnx",
    "onnxruntime",
    "openvino",
)
COLLECT = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[1:]))  # as if they were not installed
import pytest
sys.exit(pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", "tests"]))
"""


def test_every_test_file_is_collected_without_the_packages_of_other_extras():
    ran = subprocess.run([sys.executable, "-c", COLLECT, *OF_OTHER_EXTRAS], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
