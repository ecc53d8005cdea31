"""A picture from an address: only from where it may come, in time, of bounded size, and only if it is an image."""

import ipaddress
import shutil
import socket
import ssl
import subprocess
import threading
import time
import tracemalloc

import httpcore
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.download.picture_server import picture, serve
from vitseek.download import network
from vitseek.download.fetch import fetch_picture
from vitseek.download.network import not_public
from vitseek.errors import AddressError, ImageTooLargeError, PrivateAddressError

on_a_server = pytest.mark.server


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("127.0.0.1", "this machine"),
        ("127.255.255.254", "this machine"),
        ("0.0.0.0", "this machine"),
        ("::1", "this machine"),
        ("::", "this machine"),
        ("10.1.2.3", "private"),
        ("172.31.0.1", "private"),
        ("192.168.1.1", "private"),
        ("100.100.100.200", "private"),  # Alibaba's metadata lie in the range of carriers
        ("192.0.0.192", "metadata"),
        ("168.63.129.16", "metadata"),
        ("169.254.169.254", "metadata"),
        ("224.0.0.1", "multicast"),
        ("240.0.0.1", "private"),
        ("255.255.255.255", "private"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("fd00:ec2::254", "private"),
        ("fec0::1", "private"),
        ("ff02::1", "multicast"),
        ("2001:db8::1", "private"),
        ("::ffff:127.0.0.1", "this machine"),
        ("::ffff:a9fe:a9fe", "metadata"),
        ("::127.0.0.1", "this machine"),
        ("64:ff9b::10.0.0.1", "private"),
        ("2002:7f00:1::", "this machine"),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "private"),  # Teredo of 192.0.2.45
    ],
)
def test_addresses_of_the_own_network_are_told(address, what):
    assert what in not_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"])
def test_addresses_of_the_internet_pass(address):
    assert not_public(address) is None


@settings(deadline=None)
@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_judged_alike_in_every_wrapping(address):
    number = int(address)
    wrapped = [0xFFFF << 32 | number, 0x64FF9B << 96 | number, 0x2002 << 112 | number << 80]
    assert len({not_public(str(address)), *(not_public(str(ipaddress.IPv6Address(one))) for one in wrapped)}) == 1
    if address.is_private:
        assert not_public(str(address))


@pytest.fixture
def names(monkeypatch):
    """A name server that answers as a test says, once per list, and a network that notes where it is asked to go."""
    answers, went = [], []

    def getaddrinfo(host, port, **_):
        if not answers:
            raise socket.gaierror(-2, "Name or service not known")
        return [(0, 0, 0, "", (address, port)) for address in answers.pop(0)]

    class Nowhere:
        def connect_tcp(self, host, port, **_):
            went.append((host, port))
            raise httpcore.ConnectError("refused by the test")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(network.httpcore, "SyncBackend", Nowhere)
    return answers, went


def test_a_name_that_leads_inside_is_not_connected_to(names):
    answers, went = names
    answers.append(["93.184.216.34", "10.0.0.7"])
    with pytest.raises(PrivateAddressError, match=r"10\.0\.0\.7.*--allow-private-addresses"):
        fetch_picture("http://both.example/cat.jpg")
    assert went == []


def test_the_connection_goes_to_the_address_that_was_checked(names):
    answers, went = names
    answers += [["93.184.216.34", "2606:4700::1111"], ["127.0.0.1"]]  # a second question would get another answer
    with pytest.raises(AddressError, match="cannot be reached"):
        fetch_picture("https://rebinding.example:8443/cat.jpg")
    assert went == [("93.184.216.34", 8443), ("2606:4700::1111", 8443)]
    assert len(answers) == 1


def test_allowing_private_addresses_connects_to_them(names):
    answers, went = names
    answers.append(["10.0.0.7"])
    with pytest.raises(AddressError, match="cannot be reached"):
        fetch_picture("http://nas/cat.jpg", allow_private=True)
    assert went == [("10.0.0.7", 80)]


def test_a_proxy_of_the_environment_is_named_when_nothing_is_reached(names, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    with pytest.raises(AddressError, match="The proxy of HTTPS_PROXY is not used"):
        fetch_picture("https://example.org/cat.jpg")
    assert names[1] == []


def test_a_name_server_that_never_answers_is_not_waited_for(monkeypatch):
    answer = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [answer.wait(20)][1:])
    start = time.monotonic()
    with pytest.raises(AddressError, match=r"took more than 0\.3 s"):
        fetch_picture("http://slow.example/", deadline_s=0.3)
    assert time.monotonic() - start < 2
    answer.set()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://2130706433/", "127.0.0.1, this machine"),
        ("http://0x7f.1/", "127.0.0.1, this machine"),
        ("http://localhost:8000/", "this machine"),
        ("http://[::ffff:127.0.0.1]/", "this machine"),
        ("http://me:secret@example.org/", "user name or password"),
        ("ftp://example.org/cat.jpg", "only http"),
        ("file:///etc/passwd", "only http"),
        ("cat.jpg", "only http"),
        ("http:///cat.jpg", "names no server"),
        ("http://[::1", "no address"),
        ("http://example.org:99999/", "no port 99999"),
        ("http://exa mple.org/", "cannot be reached"),
        ("http://①②⑦.0.0.1/", "no address"),
        ("http://" + "a" * 70 + ".org/", "cannot be reached"),
    ],
)
def test_what_is_not_asked_is_refused_in_words(address, said):
    with pytest.raises(AddressError, match=said) as caught:
        fetch_picture(address, deadline_s=5)
    assert str(caught.value).startswith(address)
    assert caught.value.exit_status == 1


@pytest.fixture(scope="module")
def server():
    with serve() as served:
        yield served


@on_a_server
@pytest.mark.parametrize("path", ["cat", "unnamed", "packed", "deflated"])
def test_a_picture_comes_as_it_is(server, path):
    fetched = fetch_picture(f"{server[0]}/{path}", allow_private=True)
    assert fetched.data == picture()
    assert fetched.address == f"{server[0]}/{path}"


@on_a_server
def test_the_request_carries_nothing_of_the_user(server, monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text("default login me password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    fetch_picture(f"{server[0]}/cat?x=1#part", allow_private=True)
    path, headers = server[1][-1]
    assert path == "/cat?x=1"
    assert set(headers) == {"host", "user-agent", "accept", "accept-encoding", "connection"}
    assert headers["host"] == server[0].removeprefix("http://")


@on_a_server
def test_redirects_are_followed_up_to_five(server):
    assert fetch_picture(f"{server[0]}/once", allow_private=True).address == f"{server[0]}/cat?from=once"
    assert fetch_picture(f"{server[0]}/hops/4", allow_private=True).data == picture()
    with pytest.raises(AddressError, match="more than 5 redirects"):
        fetch_picture(f"{server[0]}/hops/5", allow_private=True)
    with pytest.raises(AddressError, match="more than 5 redirects"):
        fetch_picture(f"{server[0]}/loop", allow_private=True)


@on_a_server
def test_every_hop_is_looked_at(server, monkeypatch):
    port = server[0].rpartition(":")[2]
    real = network.not_public
    monkeypatch.setattr(network, "not_public", lambda address: None if address == "127.0.0.1" else real(address))
    with pytest.raises(PrivateAddressError, match=r"redirected to .*leads to .*10\.0\.0\.1.*private network"):
        fetch_picture(f"http://127.0.0.1:{port}/inside")


@on_a_server
@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("page", "not an image but a web page; open it"),
        ("empty", "the answer is empty"),
        ("short", "not an image but text"),
        ("cut", "cut off"),
        ("hung-up", "hung up early"),
        ("announced-large", "its 60.0 MB are more than 50.0 MB"),
        ("brotli", r"not read \(br\)"),
        ("not-packed", "compressed answer is damaged"),
        ("elsewhere", "redirected|only http"),
        ("password", "user name or password"),
        ("nowhere", "answered 302 instead"),
        ("missing", r"nothing at this address \(404\)"),
        ("forbidden", "download it with a browser"),
        ("broken", "try again later"),
        ("teapot", "answered 418"),
        ("noise", "proper HTTP"),
    ],
)
def test_what_is_no_picture_is_said(server, path, said):
    with pytest.raises(AddressError, match=said) as caught:
        fetch_picture(f"{server[0]}/{path}", allow_private=True)
    assert str(caught.value).startswith(f"{server[0]}/{path}: ")


@on_a_server
def test_a_stream_without_an_end_is_stopped_at_the_limit(server):
    with pytest.raises(AddressError, match=r"more than 1\.0 MB"):
        fetch_picture(f"{server[0]}/large", allow_private=True, limit_bytes=1_000_000)


@on_a_server
def test_a_compressed_bomb_is_measured_and_not_unpacked(server):
    tracemalloc.start()
    try:
        with pytest.raises(AddressError, match=r"more than 1\.0 MB"):
            fetch_picture(f"{server[0]}/bomb", allow_private=True, limit_bytes=1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


@on_a_server
def test_a_picture_of_too_many_pixels_is_refused_by_its_header(server, monkeypatch):
    monkeypatch.setenv("VITSEEK_LIMIT_PIXELS", "100")
    with pytest.raises(ImageTooLargeError, match="31 × 37") as caught:
        fetch_picture(f"{server[0]}/cat", allow_private=True)
    assert caught.value.name == f"{server[0]}/cat"


@on_a_server
def test_the_caller_may_allow_fewer_pixels_than_for_files(server):
    assert fetch_picture(f"{server[0]}/cat", allow_private=True, limit_pixels=31 * 37).data == picture()
    with pytest.raises(ImageTooLargeError, match="31 × 37"):
        fetch_picture(f"{server[0]}/cat", allow_private=True, limit_pixels=31 * 37 - 1)


@on_a_server
@pytest.mark.parametrize("path", ["drip", "drip-headers", "silent"])
def test_a_server_that_drips_is_left_after_the_deadline(server, path):
    start = time.monotonic()
    with pytest.raises(AddressError, match=r"took more than 0.5 s"):
        fetch_picture(f"{server[0]}/{path}", allow_private=True, deadline_s=0.5)
    assert time.monotonic() - start < 2


@pytest.fixture
def certificate(tmp_path):
    """A certificate of localhost that nobody has signed, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate of the server, and is not installed")
    made, key = tmp_path / "localhost.pem", tmp_path / "localhost.key"
    asked = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(made)]
    subprocess.run(["openssl", *asked.split(), *names], check=True, capture_output=True)
    return made, key


@on_a_server
def test_a_certificate_is_checked_against_the_name_and_not_the_address(certificate, monkeypatch):
    made, key = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    with serve(context) as (server, _):
        with pytest.raises(AddressError, match="certificate of localhost cannot be trusted"):
            fetch_picture(f"{server}/cat", allow_private=True)
        monkeypatch.setenv("SSL_CERT_FILE", str(made))
        assert fetch_picture(f"{server}/cat", allow_private=True).data == picture()
        other_name = server.replace("localhost", "127.0.0.1")
        with pytest.raises(AddressError, match=r"certificate of 127\.0\.0\.1 cannot be trusted"):
            fetch_picture(f"{other_name}/cat", allow_private=True)
