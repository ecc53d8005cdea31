"""The secret key of an installation."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from vitseek.errors import StorageError, UsageError
from vitseek.web.application import configure
from vitseek.web.options import WebOptions
from vitseek.web.secret import FILE_NAME, secret_key


def test_a_key_is_made_once_and_is_for_its_owner_only(tmp_path):
    key = secret_key(tmp_path / "state")
    path = tmp_path / "state" / FILE_NAME
    assert len(key) >= 50
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert secret_key(tmp_path / "state") == key
    assert [entry.name for entry in path.parent.iterdir()] == [FILE_NAME]


def test_two_installations_have_two_keys(tmp_path):
    assert secret_key(tmp_path / "one") != secret_key(tmp_path / "two")


@pytest.mark.parametrize("damage", ["readable by others", "empty"])
def test_a_key_that_is_not_secret_any_more_is_replaced(tmp_path, damage):
    old = secret_key(tmp_path)
    path = tmp_path / FILE_NAME
    if damage == "empty":
        path.write_text("")
    else:
        path.chmod(0o644)
    assert secret_key(tmp_path) != old
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_servers_that_start_at_the_same_time_share_one_key(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: secret_key(tmp_path), range(16)))
    assert len(keys) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == [FILE_NAME]


def test_a_place_that_cannot_hold_the_key_is_named(tmp_path):
    blocked = tmp_path / "state"
    blocked.write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="VITSEEK_STATE"):
        secret_key(blocked)


def test_the_key_lies_in_the_users_state(private_home):
    secret_key()
    assert (private_home / "state" / FILE_NAME).is_file()
    assert os.environ["VITSEEK_STATE"] == str(private_home / "state")


def test_one_process_is_one_server():
    with pytest.raises(UsageError, match="process of its own"):
        configure(WebOptions(port=1))
