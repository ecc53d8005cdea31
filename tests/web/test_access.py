"""Who gets an answer: the owner at this machine, not other web sites, and nobody gets files that are not images."""

import re

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from tests.web.conftest import draw, png
from vitseek.web.options import WebOptions
from vitseek.web.settings import allowed_hosts, build_settings


def picture() -> SimpleUploadedFile:
    return SimpleUploadedFile("query.png", png(draw((40, 80, 190), 5)))


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "localhost", "[::1]:8000"])
def test_this_machines_names_are_answered(client, host):
    assert client.get("/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/healthz", "/api/v1/openapi.json", "/images/1/thumbnail", "STATIC"])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "sub.localhost", "", "a b"]
)
def test_a_foreign_host_name_gets_nothing(client, host, path):
    if path == "STATIC":
        from django.conf import settings

        path = f"{settings.STATIC_URL}vitseek/style.css"
        known = client.get(path)
        known.close()
        assert known.status_code == 200
    response = client.get(path, headers={"host": host})
    assert response.status_code == 400
    assert b"Holiday" not in response.content
    assert response["Content-Security-Policy"]


def test_an_api_client_with_a_foreign_host_name_gets_json(client):
    response = client.get("/api/v1/images/1", headers={"host": "evil.example"})
    assert response.json()["error"].startswith("This server does not answer")


def test_a_form_without_its_token_is_refused(careful_client):
    response = careful_client.post("/search", {"image": picture()})
    assert response.status_code == 403
    assert "The page is out of date" in response.content.decode()


def test_a_form_with_its_token_is_taken(careful_client):
    page = careful_client.get("/").content.decode()
    token = re.search(r'csrfmiddlewaretoken" value="([^"]+)"', page)[1]
    response = careful_client.post("/search", {"image": picture(), "csrfmiddlewaretoken": token})
    assert response.status_code == 303


def test_the_token_cookie_is_of_this_port_and_not_for_scripts_or_other_sites(careful_client):
    careful_client.get("/")
    cookie = careful_client.cookies["vitseek_csrf_8000"]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Strict"


@pytest.mark.parametrize("path", ["/search", "/api/v1/search", "/language"])
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "http://localhost:8000"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"},
        {"sec-fetch-site": "cross-site", "origin": "http://127.0.0.1:8000"},
    ],
)
def test_other_origins_cannot_post(client, path, headers):
    response = client.post(path, {"image": picture()}, headers=headers)
    assert response.status_code == 403
    assert "another web site" in response.content.decode()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://127.0.0.1:8000"},
        {"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"},
        {"sec-fetch-site": "none"},
    ],
)
def test_programs_and_the_own_origin_can_post_to_the_api(careful_client, headers):
    assert careful_client.post("/api/v1/search", {"image": picture()}, headers=headers).status_code == 200


def test_other_sites_may_link_here_but_load_and_frame_nothing(client):
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert client.get("/?image=1", headers=link).status_code == 200
    for mode, dest in (("no-cors", "image"), ("cors", "empty"), ("navigate", "iframe"), ("no-cors", "script")):
        headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": mode, "sec-fetch-dest": dest}
        assert client.get("/images/1/original", headers=headers).status_code == 403, (mode, dest)


@pytest.mark.parametrize(
    "path", ["/", "/?image=1", "/images/1", "/images/1/thumbnail", "/healthz", "/nothing", "/?image=x"]
)
def test_every_answer_carries_the_security_headers(client, path):
    response = client.get(path)
    policy = response["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
    assert "frame-ancestors 'none'" in policy
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["X-Frame-Options"] == "DENY"
    assert response["Referrer-Policy"] == "same-origin"
    assert response["Cross-Origin-Resource-Policy"] == "same-origin"


def test_pages_hold_no_inline_script_or_style(client):
    for path in ("/", "/?image=1", "/images/1"):
        page = client.get(path).content.decode()
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=", page)
        for attributes, body in re.findall(r"<script([^>]*)>(.*?)</script>", page, re.DOTALL):
            assert "application/json" in attributes or not body.strip()


@pytest.mark.parametrize(
    "path",
    [
        "/images/..%2f..%2fetc%2fpasswd/original",
        "/images/1/../../../etc/passwd",
        "/images/%2Fetc%2Fpasswd/original",
        "/images/1%00/original",
        "/images/sea%2Fsea-1.jpg/original",
        "/images/-1/original",
        "/images/0/original",
        "/images/1e3/thumbnail",
        "/images/99999999999999999999999/preview",
        "/images/١/original",
        "/queries/../../etc/passwd/preview",
        "/static/../settings.py",
        "/static/x/vitseek/style.css",
        "/api/v1/images/..%2f1",
        "/api/v1/images/99999999999999999999",
    ],
)
def test_nothing_but_ids_of_images_leads_to_a_file(client, path):
    response = client.get(path)
    assert response.status_code in (404, 410)
    assert b"root:" not in b"".join(response) if response.streaming else response.content


def test_static_paths_do_not_climb(client):
    from django.conf import settings

    for climb in ("../settings.py", "..%2fsettings.py", "vitseek/../../settings.py", "vitseek/"):
        assert client.get(settings.STATIC_URL + climb).status_code == 404


def test_static_files_are_kept_for_good_and_named_by_content(client):
    from django.conf import settings

    response = client.get(f"{settings.STATIC_URL}vitseek/main.js")
    assert response["Content-Type"].startswith("text/javascript")
    assert "immutable" in response["Cache-Control"]
    response.close()
    assert re.fullmatch(r"/static/[0-9a-f]{12}/", settings.STATIC_URL)


@pytest.mark.parametrize("method", ["put", "delete", "patch", "options", "trace"])
def test_other_methods_are_refused(client, method):
    for path in ("/", "/images/1", "/images/1/original", "/search"):
        assert getattr(client, method)(path).status_code == 405


def test_an_oversized_announcement_is_refused_before_the_body_is_read(client):
    class Unreadable:
        def read(self, *args):
            raise AssertionError("the body was read")

        readline = read

    response = client.generic(
        "POST",
        "/api/v1/search",
        content_type="multipart/form-data; boundary=x",
        **{"wsgi.input": Unreadable(), "CONTENT_LENGTH": str(10**12)},
    )
    assert response.status_code == 413
    assert "too large" in response.json()["error"]


def test_many_fields_and_files_are_refused(client):
    response = client.post("/search", {f"field{number}": "x" for number in range(40)})
    assert response.status_code == 400
    files = {f"file{number}": picture() for number in range(3)}
    assert client.post("/search", files).status_code == 400


def test_hosts_are_loopback_names_the_given_one_and_the_extra_ones():
    assert allowed_hosts(WebOptions()) == ["127.0.0.1", "localhost", "[::1]"]
    assert allowed_hosts(WebOptions(host="192.168.7.5", extra_names=("photos.lan",))) == [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "photos.lan",
        "192.168.7.5",
    ]
    assert "[fd00::7]" in allowed_hosts(WebOptions(host="fd00::7"))


def test_all_addresses_mean_this_machines_own_not_any_name():
    hosts = allowed_hosts(WebOptions(host="0.0.0.0"))
    assert "0.0.0.0" not in hosts
    assert "*" not in hosts
    assert len(hosts) > 3


def test_settings_are_those_of_production():
    settings = build_settings(WebOptions(port=8123), secret_key="k")
    assert settings["DEBUG"] is False
    assert settings["CSRF_COOKIE_NAME"] == "vitseek_csrf_8123"
    assert "*" not in settings["ALLOWED_HOSTS"]
