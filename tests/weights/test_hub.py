"""Downloads against a real server: pins, resuming, faults, and no network where none is allowed."""

import hashlib
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.weights.checkpoints import SMALL, random_params, save_safetensors
from tests.weights.hub_server import COMMIT, Hub, serve
from vitseek.errors import ChecksumError, DownloadError, OfflineError, WeightsError
from vitseek.weights import transfer
from vitseek.weights.hub import folder, held, is_offline, obtain, pull
from vitseek.weights.loader import load_weights
from vitseek.weights.sources import Embedded, HubSource

REPO = "someone/vit"
CONTENT = np.random.default_rng(5).bytes(300_007)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
CONFIG = b'{"model_type": "vit"}\n'
PINNED = HubSource(repo=REPO, revision=COMMIT, sha256=SHA256)
LOOSE = HubSource(repo=REPO)

server = pytest.mark.server


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, private_home: Path) -> Iterator[Hub]:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(private_home / "hf"))
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    monkeypatch.setattr(transfer, "BACKOFF_S", 0.01)
    with serve() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        running.files = {f"{REPO}/model.safetensors": CONTENT, f"{REPO}/config.json": CONFIG}
        yield running


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@server
def test_a_pull_brings_weights_config_and_a_record(hub: Hub) -> None:
    seen = []
    path = pull(PINNED, progress=lambda name, done, total: seen.append((name, done, total)))
    assert path.read_bytes() == CONTENT
    assert path == folder(PINNED) / "model.safetensors"
    assert path.with_name("config.json").read_bytes() == CONFIG
    record = json.loads(path.with_name("source.json").read_bytes())
    assert record == {
        "repo": REPO,
        "file": "model.safetensors",
        "commit": COMMIT,
        "sha256": SHA256,
        "size_bytes": len(CONTENT),
        "pinned": True,
    }
    assert seen[-1] == ("model.safetensors", len(CONTENT), len(CONTENT))
    assert not list(path.parent.glob("*.partial"))


@server
def test_a_second_pull_asks_nobody(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    first = pull(PINNED)
    hub.requests.clear()
    assert pull(PINNED) == first
    assert pull(PINNED, offline=True) == first
    assert hub.requests == []


@server
def test_only_safetensors_and_json_are_asked_for(hub: Hub) -> None:
    hub.files[f"{REPO}/pytorch_model.bin"] = b"\x80\x02"
    pull(PINNED)
    assert {path.rpartition("/")[2] for _, path, _ in hub.requests} == {"model.safetensors", "config.json"}


@server
def test_a_missing_config_is_no_error(hub: Hub) -> None:
    del hub.files[f"{REPO}/config.json"]
    assert pull(PINNED).is_file()


@server
def test_a_cut_connection_is_resumed_where_it_broke(hub: Hub) -> None:
    del hub.files[f"{REPO}/config.json"]
    hub.cut_after = [100_003, 50_021]
    assert pull(PINNED).read_bytes() == CONTENT
    assert hub.asked("GET", "/storage/") == [None, "bytes=100003-", "bytes=150024-"]


@server
def test_a_download_that_gave_up_goes_on_at_the_next_pull(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    del hub.files[f"{REPO}/config.json"]
    monkeypatch.setattr(transfer, "ATTEMPTS", 1)
    hub.cut_after = [200_003]
    with pytest.raises(DownloadError, match=r"200,003 of 300,007 bytes are kept; the next try goes on from there"):
        pull(PINNED)
    hub.requests.clear()
    assert pull(PINNED).read_bytes() == CONTENT
    assert hub.asked("GET", "/storage/") == ["bytes=200003-"]


@server
def test_a_server_without_ranges_sends_the_whole_file_again(hub: Hub) -> None:
    hub.ignore_ranges = True
    del hub.files[f"{REPO}/config.json"]
    hub.cut_after = [100_003]
    assert pull(PINNED).read_bytes() == CONTENT


@server
def test_tampered_content_is_refused_and_not_kept(hub: Hub) -> None:
    hub.tamper = True
    del hub.files[f"{REPO}/config.json"]
    with pytest.raises(ChecksumError, match=f"wanted {SHA256}"):
        pull(PINNED)
    assert held(PINNED) is None
    assert not list(folder(PINNED).glob("model.safetensors*"))


@server
def test_the_hubs_own_checksum_protects_a_model_without_a_pin(hub: Hub) -> None:
    hub.tamper = True
    del hub.files[f"{REPO}/config.json"]
    with pytest.raises(ChecksumError, match=f"wanted {SHA256}"):
        pull(LOOSE)


@server
def test_a_tampered_config_is_refused(hub: Hub) -> None:
    hub.tamper = True
    with pytest.raises(ChecksumError, match=r"config\.json .* does not have the hub's checksum"):
        pull(LOOSE)


@server
def test_a_file_that_was_replaced_on_the_hub_is_not_even_downloaded(hub: Hub) -> None:
    hub.files[f"{REPO}/model.safetensors"] = CONTENT[::-1]
    with pytest.raises(ChecksumError, match=r"was replaced there.*Nothing was downloaded"):
        pull(PINNED)
    assert hub.asked("GET", "/") == []


@server
def test_without_a_pin_the_first_download_is_remembered(hub: Hub) -> None:
    path = pull(LOOSE)
    record = json.loads(path.with_name("source.json").read_bytes())
    assert (record["sha256"], record["commit"], record["pinned"]) == (SHA256, COMMIT, False)
    path.write_bytes(CONTENT[::-1])
    with pytest.raises(ChecksumError, match=r"damaged or not this model. Delete it"):
        pull(LOOSE)


@server
def test_everything_comes_from_the_commit_of_the_first_answer(hub: Hub) -> None:
    pull(LOOSE)
    assert any(f"/resolve/{COMMIT}/config.json" in path for _, path, _ in hub.requests)


@server
def test_a_model_that_does_not_exist_is_named(hub: Hub) -> None:
    with pytest.raises(DownloadError, match=r"someone/none/model\.safetensors at main does not exist"):
        pull(HubSource(repo="someone/none"))


@server
def test_a_renamed_repository_is_followed(hub: Hub) -> None:
    hub.moved = {"old/name": f"/{REPO}"}
    renamed = HubSource(repo="old/name", revision=COMMIT, sha256=SHA256)
    assert pull(renamed).read_bytes() == CONTENT
    assert json.loads((folder(renamed) / "source.json").read_bytes())["commit"] == COMMIT


@server
def test_the_hub_may_not_send_elsewhere_without_a_checksum(hub: Hub) -> None:
    hub.moved = {REPO: "http://storage.invalid/x"}
    with pytest.raises(DownloadError, match=r"sends elsewhere \(storage\.invalid\) without a checksum"):
        pull(PINNED)


@server
def test_going_in_circles_ends(hub: Hub) -> None:
    hub.moved = {REPO: f"/{REPO}"}
    with pytest.raises(DownloadError, match="more than 5 redirects; check HF_ENDPOINT"):
        pull(PINNED)


@server
def test_a_refusal_says_how_to_log_in(hub: Hub) -> None:
    hub.refuse = [401]
    with pytest.raises(DownloadError, match="hf auth login"):
        pull(PINNED)


@server
def test_a_busy_hub_is_asked_again(hub: Hub) -> None:
    hub.refuse = [503, 429]
    assert pull(PINNED).read_bytes() == CONTENT


@server
def test_a_hub_that_stays_down_is_an_error_in_the_end(hub: Hub) -> None:
    hub.refuse = [500] * transfer.ATTEMPTS
    with pytest.raises(DownloadError, match="given up after 4 attempts, the last: HTTP 500"):
        pull(PINNED)


@server
def test_a_server_that_hangs_meets_the_deadline(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "0.2")
    monkeypatch.setattr(transfer, "ATTEMPTS", 2)
    hub.hang.set()
    with pytest.raises(DownloadError, match="given up after 2 attempts, the last: timed out"):
        pull(PINNED)


@server
def test_nobody_listening_is_an_error_with_the_reason(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{reserved.getsockname()[1]}")
        with pytest.raises(DownloadError, match="Connection refused"):
            pull(PINNED)


@server
def test_a_connection_that_only_drips_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 61))
    monkeypatch.setattr(transfer.time, "monotonic", lambda: next(clock))
    with pytest.raises(transfer.httpx.ReadTimeout, match="only 1 bytes in 60 s"):
        list(transfer._not_too_slow(iter([b"a", b"b"])))


@server
def test_the_token_goes_to_the_hub_but_not_to_the_storage(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_secret")
    with serve() as storage:
        storage.files = hub.files
        hub.storage_url = storage.url
        assert pull(PINNED).read_bytes() == CONTENT
        assert {token for _, token in storage.authorised} == {None}
    assert {token for _, token in hub.authorised} == {"Bearer hf_secret"}


@server
def test_a_full_disk_is_said_before_the_download(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(DownloadError, match=r"needs 300,007 more bytes.*1,000 free.*VITSEEK_CACHE"):
        pull(HubSource(repo=REPO, extra_files=()))


@server
def test_a_pulled_model_loads(hub: Hub, tmp_path: Path, rng: np.random.Generator) -> None:
    made = save_safetensors(tmp_path / "made.safetensors", random_params(SMALL, rng))
    hub.files = {f"{REPO}/model.safetensors": made.read_bytes()}
    loaded = load_weights(pull(LOOSE), config=SMALL)
    assert loaded.sha256 == hashlib.sha256(made.read_bytes()).hexdigest()


@pytest.mark.usefixtures("no_network")
def test_offline_an_absent_model_says_how_to_get_it() -> None:
    with pytest.raises(OfflineError) as caught:
        pull(PINNED, offline=True)
    message = str(caught.value)
    assert "someone/vit" in message
    assert str(folder(PINNED)) in message
    assert "https://huggingface.co/someone/vit" in message


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(("variable", "value"), [("HF_HUB_OFFLINE", "1"), ("TRANSFORMERS_OFFLINE", "yes")])
def test_the_environment_can_forbid_the_network(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert not is_offline()
    monkeypatch.setenv(variable, value)
    assert is_offline()
    with pytest.raises(OfflineError):
        pull(PINNED)


@pytest.mark.usefixtures("no_network")
def test_a_copied_folder_serves_without_a_network() -> None:
    folder(PINNED).mkdir(parents=True)
    (folder(PINNED) / "model.safetensors").write_bytes(CONTENT)
    assert pull(PINNED, offline=True).read_bytes() == CONTENT


@pytest.mark.usefixtures("no_network")
def test_a_copied_file_that_is_not_the_pinned_one_is_refused() -> None:
    folder(PINNED).mkdir(parents=True)
    (folder(PINNED) / "model.safetensors").write_bytes(b"something else")
    with pytest.raises(ChecksumError, match=f"wanted {SHA256}"):
        held(PINNED)


@pytest.mark.usefixtures("no_network")
def test_what_the_hugging_face_cache_has_is_used_in_place(private_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = private_home / "hf" / "models--someone--vit" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(CONTENT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(private_home / "hf"))
    assert pull(PINNED, offline=True) == snapshot / "model.safetensors"


@pytest.mark.usefixtures("no_network")
def test_a_file_and_a_folder_need_no_network(tmp_path: Path, rng: np.random.Generator) -> None:
    params = random_params(SMALL, rng)
    file = save_safetensors(tmp_path / "folder" / "model.safetensors", params)
    for path in (file, file.parent):
        np.testing.assert_array_equal(load_weights(path).params["norm.bias"], params["norm.bias"])


def test_an_embedded_model_that_is_missing_says_so() -> None:
    with pytest.raises(WeightsError, match=r"the embedded model is not in this installation .*install vitseek again"):
        obtain(Embedded("no-such-model.safetensors"))


def test_an_embedded_model_that_was_changed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitseek.weights.sources.DATA", tmp_path)
    (tmp_path / "a.safetensors").write_bytes(b"weights")
    (tmp_path / "a.json").write_text(json.dumps({"sha256": hashlib.sha256(b"weights").hexdigest()}))
    assert obtain(Embedded("a.safetensors")).read_bytes() == b"weights"
    (tmp_path / "a.safetensors").write_bytes(b"other")
    with pytest.raises(ChecksumError, match="install vitseek again"):
        obtain(Embedded("a.safetensors"))


@server
def test_of_two_pulls_at_once_only_one_downloads(hub: Hub) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: pull(PINNED), range(2))
    assert first == second
    assert first.read_bytes() == CONTENT
    assert len(hub.asked("GET", "/storage/someone/vit/model.safetensors")) == 1


@server
def test_a_download_brings_the_tokenizer_along(hub: Hub) -> None:
    words = HubSource(repo="someone/words", file="tokenizer.json", extra_files=())
    hub.files["someone/words/tokenizer.json"] = b"{}"
    obtain(PINNED, tokenizer=words)
    assert pull(words, offline=True).read_bytes() == b"{}"


@server
def test_pictures_do_without_a_tokenizer_that_is_not_there(hub: Hub) -> None:
    words = HubSource(repo="someone/words", file="tokenizer.json", extra_files=())
    assert obtain(PINNED, tokenizer=words).is_file()
    assert held(words) is None


@server
@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_model_says_whose_terms_to_accept_and_where(hub: Hub, status: int) -> None:
    hub.refuse = [status]
    gated = HubSource(repo=REPO, gated="DINOv3 License")
    with pytest.raises(DownloadError, match=r"accept the DINOv3 License: do so at https://huggingface.co/someone/vit"):
        pull(gated)


@server
def test_weights_and_tokenizer_of_one_repository_are_remembered_apart(hub: Hub) -> None:
    words = HubSource(repo=REPO, file="tokenizer.json", extra_files=())
    hub.files[f"{REPO}/tokenizer.json"] = b"{}"
    weights = obtain(LOOSE, tokenizer=words)
    hub.requests.clear()
    assert pull(LOOSE) == weights
    assert pull(words).read_bytes() == b"{}"
    assert hub.requests == []
    pull(words).write_bytes(b"{ }")
    with pytest.raises(ChecksumError, match=r"tokenizer\.json has sha256"):
        held(words)
    assert held(LOOSE) == weights
