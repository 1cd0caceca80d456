"""The page as it is served: its files, its policy, and the key that it keeps."""

from pathlib import Path

import pytest

from gateway.api.page import ADDRESS
from gateway.page_files import page_files
from tests.gateways import TestGateway, running_gateway


def test_the_root_leads_to_the_page(gateway: TestGateway) -> None:
    answer = gateway.client.get("/")
    assert answer.url.path == ADDRESS
    assert "<!doctype html>" in answer.text


@pytest.mark.parametrize("name", [*page_files()])
def test_every_file_is_served_with_its_type_and_the_policy(gateway: TestGateway, name: str) -> None:
    answer = gateway.client.get(f"{ADDRESS}/{name}")
    assert answer.status_code == 200
    assert answer.content == page_files()[name].body
    assert answer.headers["content-type"] == page_files()[name].media_type
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    again = gateway.client.get(
        f"{ADDRESS}/{name}", headers={"If-None-Match": answer.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("name", ["nothing.js", "..%2fpage_files.py", "%2e%2e/settings.py"])
def test_nothing_else_of_the_disk_is_served(gateway: TestGateway, name: str) -> None:
    answer = gateway.client.get(f"{ADDRESS}/{name}")
    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"


def test_a_known_key_becomes_a_cookie_that_opens_the_api(keyed: TestGateway) -> None:
    assert keyed.client.get(ADDRESS).status_code == 200
    assert keyed.client.get("/api/options").status_code == 401
    wrong = keyed.client.post(f"{ADDRESS}/key", json={"key": "guess"})
    assert (wrong.status_code, wrong.json()["code"]) == (401, "unauthorized")
    right = keyed.client.post(f"{ADDRESS}/key", json={"key": "key-of-ann"})
    assert right.status_code == 200
    cookie = right.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert keyed.client.get("/api/options").status_code == 200


@pytest.mark.parametrize("body", [{}, [], {"key": 5}, "key-of-ann"])
def test_a_key_that_is_no_text_is_refused(keyed: TestGateway, body: object) -> None:
    answer = keyed.client.post(f"{ADDRESS}/key", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


def test_a_page_that_is_off_is_not_there(tmp_path: Path) -> None:
    with running_gateway(tmp_path, gateway_page="off") as gateway:
        for route in ("/", ADDRESS, f"{ADDRESS}/main.js"):
            assert gateway.client.get(route).status_code == 404
        assert gateway.client.get("/api/options").status_code == 200


def test_the_pictures_of_a_bucket_may_be_shown(tmp_path: Path) -> None:
    bucket = {
        "bucket_endpoint_url": "https://store.example", "bucket_name": "pictures",
        "bucket_access_key_id": "id", "bucket_secret_access_key": "secret",
    }  # fmt: skip
    with running_gateway(tmp_path, **bucket) as gateway:
        policy = gateway.client.get(ADDRESS).headers["content-security-policy"]
    assert "store.example" in policy.partition("img-src")[2].partition(";")[0]


def test_options_and_prompts_come_from_the_engine(gateway: TestGateway) -> None:
    found = gateway.client.get("/api/options").json()
    assert found["ok"]
    assert {"id", "label", "fields"} <= set(found["categories"][0])
    assert found["attributes"]["face"]["th"]
    edit = {"edits": [{"category": "outfit_colour", "fields": {"colour": "red"}}], "masked": True}
    made = gateway.client.post("/api/prompt/compile", json=edit).json()
    assert "red" in made["prompt"]
    assert "face" in made["keeps"]
    refused = gateway.client.post("/api/prompt/compile", json={"edits": [{"category": "hat"}]})
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_options")
