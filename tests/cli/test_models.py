"""`vitseek models` as a user calls it."""

import hashlib
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.weights.hub_server import Hub, serve
from vitseek.weights import transfer
from vitseek.weights.hub import folder
from vitseek.zoo import ZOO


@pytest.fixture
def run(run_command):
    return partial(run_command, "models")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, private_home: Path) -> Iterator[Hub]:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(private_home / "hf"))
    monkeypatch.setattr(transfer, "BACKOFF_S", 0.01)
    with serve() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


def test_the_list_names_every_model_with_size_licence_and_state(run) -> None:
    ran = run()
    assert ran.status == 0
    lines = ran.out.splitlines()
    assert lines[0].split() == ["name", "model", "width", "words", "size", "licence", "state"]
    assert len(lines) == len(ZOO) + 1
    [base] = [line for line in lines if line.startswith("dinov2-base ")]
    for part in ("DINOv2 ViT-B/14", "768", "346 MB", "Apache-2.0", "not downloaded"):
        assert part in base
    assert "vitseek models pull NAME" in ran.err


def test_the_list_says_which_models_read_words(run) -> None:
    ran = run()
    [clip] = [line for line in ran.out.splitlines() if line.startswith("clip-vit-b32 ")]
    [dino] = [line for line in ran.out.splitlines() if line.startswith("dinov3-base ")]
    assert " yes " in clip
    assert "512" in clip, "the length of what is compared with words"
    assert " yes " not in dino
    assert "DINOv3 License" in dino
    assert "searched by words" in ran.err


@pytest.mark.server
def test_pull_brings_the_tokenizer_of_a_model_that_reads_words(run, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    row = ZOO["siglip-large"]
    assert row.tokenizer is not None
    hub.files = {f"{row.source.repo}/{name}": name.encode() for name in ("model.safetensors", "tokenizer.json")}
    ran = run("pull", "google/siglip-large-patch16-256", "--json")
    assert ran.status == 0, ran.err
    pulled = json.loads(ran.out)
    assert pulled["name"] == "siglip-large"
    assert Path(pulled["tokenizer"]).read_bytes() == b"tokenizer.json"
    assert pulled["state"] == "here"
    (folder(row.tokenizer) / "tokenizer.json").unlink()
    [line] = [line for line in run().out.splitlines() if line.startswith("siglip-large ")]
    assert line.endswith("here, without tokenizer")


def test_json_has_every_fact(run) -> None:
    ran = run("--json")
    rows = {row["name"]: row for row in json.loads(ran.out)}
    assert rows.keys() == ZOO.keys()
    giant = rows["dinov2-giant"]
    assert giant["repo"] == "facebook/dinov2-giant"
    assert giant["revision"] == "611a9d42f2335e0f921f1e313ad3c1b7178d206d"
    assert giant["pinned"] is True
    assert giant["size_bytes"] == 4_546_005_432
    assert giant["parameters"] == 1_136_479_232
    assert giant["state"] == "not downloaded"
    assert rows["dino-vits8"]["pinned"] is False


def test_offline_an_absent_model_is_an_error_with_the_way_out(run) -> None:
    ran = run("pull", "dinov2-small", "--offline")
    assert ran.status == 1
    assert ran.out == ""
    assert "vitseek models pull" in ran.err
    assert "huggingface.co/facebook/dinov2-small" in ran.err


def test_an_unknown_name_lists_near_matches(run) -> None:
    ran = run("pull", "dinov2-smal")
    assert ran.status == 2
    assert "Did you mean dinov2-small" in ran.err


@pytest.mark.server
def test_a_model_is_pulled_listed_as_here_and_not_fetched_again(run, hub: Hub) -> None:
    content = b"weights" * 1000
    source = ZOO["dino-vits8"].source
    hub.files = {"timm/vit_small_patch8_224.dino/model.safetensors": content}
    ran = run("pull", "dino-vits8")
    assert ran.status == 0, ran.err
    assert Path(ran.out.strip()) == folder(source) / "model.safetensors"
    digest = hashlib.sha256(content).hexdigest()
    assert f"sha256 {digest}: vitseek has no checksum of its own for dino-vits8" in ran.err
    hub.requests.clear()
    again = run("pull", "dino-vits8", "--json")
    assert hub.requests == []
    document = json.loads(again.out)
    assert (document["state"], document["file_sha256"]) == ("here", digest)
    [listed] = [line for line in run().out.splitlines() if line.startswith("dino-vits8 ")]
    assert listed.split()[-1] == "here"


@pytest.mark.server
def test_a_model_that_is_not_the_pinned_one_is_an_error(run, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    revision = ZOO["vit-tiny"].source.revision
    monkeypatch.setattr("tests.weights.hub_server.COMMIT", revision)
    hub.files = {"timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k/model.safetensors": b"something else"}
    ran = run("pull", "vit-tiny")
    assert ran.status == 1
    assert "wanted fecf81b492bd13ee" in ran.err
    assert "Nothing was downloaded" in ran.err
    assert ran.err.count("\n") == 1
