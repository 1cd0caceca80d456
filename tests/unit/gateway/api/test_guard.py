"""Who may call, from where, and how often; and what every answer holds."""

from pathlib import Path
from typing import Any

import pytest
import structlog

from gateway.api.guard import hash_key
from gateway.app import make_app, open_parts
from gateway.errors import InvalidSettings
from gateway.settings import Settings
from gateway.store.keys import Keys
from tests.gateways import TestGateway, auth, edit, running_gateway, worker_auth

STATUS = "/api/queue/status/01a20de0-dd8c-759f-95e2-d908d1701fa1"


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_without_a_key_that_is_known_nothing_is_answered(keyed: TestGateway) -> None:
    for key in (None, "wrong", "key-of-ann "[:-2]):
        answer = keyed.client.get(STATUS, headers=auth(key))
        assert code(answer) == (401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert (
            keyed.client.post("/v2/own/run", json={"input": {}}, headers=auth(key)).status_code
            == 401
        )
    assert code(keyed.client.get(STATUS, headers=auth("key-of-ann"))) == (404, "not_found")
    assert code(keyed.client.get(STATUS, headers={"Authorization": "key-of-ann"}))[0] == 404


def test_the_pages_cookie_is_a_key_for_its_own_origin_only(keyed: TestGateway) -> None:
    keyed.client.cookies.set("gateway_key", "key-of-ann")
    assert keyed.client.get(STATUS).status_code == 404
    own = keyed.client.get(STATUS, headers={"Origin": "http://127.0.0.1:8787"})
    assert own.status_code == 404
    other = keyed.client.get(STATUS, headers={"Origin": "https://evil.example"})
    assert code(other) == (403, "forbidden")


def test_a_gateway_without_keys_answers_no_foreign_page(gateway: TestGateway) -> None:
    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
        answer = gateway.client.post("/api/queue/create", json=edit(), headers=headers)
        assert code(answer) == (403, "forbidden")


def test_pages_that_are_named_may_call(tmp_path: Path) -> None:
    with running_gateway(tmp_path, gateway_origins="https://app.example") as gateway:
        headers = {"Origin": "https://app.example"}
        answer = gateway.client.post("/api/queue/create", json=edit(), headers=headers)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        asked = gateway.client.options(
            "/api/queue/create",
            headers=headers | {"Access-Control-Request-Method": "POST",
                               "Access-Control-Request-Headers": "authorization"},
        )  # fmt: skip
        assert asked.status_code == 200


def test_keys_that_were_added_work_and_are_kept_as_hashes(keyed: TestGateway) -> None:
    keys = Keys(keyed.context.store.database)
    keys.add("eve", hash_key("key-of-eve"), 0)
    keyed.context.guard._known_until = 0
    assert keyed.client.get(STATUS, headers=auth("key-of-eve")).status_code == 404
    assert keys.all() == {hash_key("key-of-eve"): "eve"}
    assert keys.remove("eve")
    keyed.context.guard._known_until = 0
    assert keyed.client.get(STATUS, headers=auth("key-of-eve")).status_code == 401


def test_a_gateway_that_is_open_to_others_needs_keys(tmp_path: Path) -> None:
    settings = Settings(gateway_data_dir=tmp_path, gateway_listen="0.0.0.0:8787")
    with open_parts(settings) as parts:
        from gateway.store.migrate import migrate

        migrate(parts.database)
        with pytest.raises(InvalidSettings, match="GATEWAY_API_KEYS"):
            make_app(parts)


def test_too_many_requests_are_refused_for_each_key(tmp_path: Path) -> None:
    with running_gateway(
        tmp_path, gateway_api_keys="ann=key-of-ann,bob=key-of-bob", gateway_rate_limit="2/minute"
    ) as gateway:
        for _ in range(2):
            gateway.create("key-of-ann")
        answer = gateway.client.post("/api/queue/create", json=edit(), headers=auth("key-of-ann"))
        assert code(answer) == (429, "rate_limited")
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert answer.json()["retryable"] is True
        gateway.create("key-of-bob")


@pytest.mark.parametrize("route", ["job-take/w", "job-take-batch/w", "job-stop/w", "ping/w"])
def test_workers_need_their_key(keyed: TestGateway, route: str) -> None:
    for headers in ({}, auth("key-of-ann"), auth("admin-key")):
        assert keyed.client.get(f"/v2/own/{route}", headers=headers).status_code == 401
    posted = keyed.client.post("/v2/own/job-done/w/x", headers=auth("key-of-ann"))
    assert posted.status_code == 401
    assert keyed.client.get("/v2/own/ping/w", headers=worker_auth()).status_code == 200


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"x-request-id": "abc-1"}, "abc-1"),
        ({"cf-ray": "8f3a-BKK"}, "8f3a-BKK"),
        ({"x-request-id": "abc-1", "cf-ray": "8f3a-BKK"}, "abc-1"),
        ({"x-request-id": "a b\tc"}, None),
        ({"x-request-id": "x" * 500}, None),
    ],
)
def test_every_answer_has_its_request_id(
    gateway: TestGateway, sent: dict[str, str], said: str | None
) -> None:
    for path in (STATUS, "/nowhere", "/api/queue/create", "/ready"):
        answer = gateway.client.get(path, headers=sent)
        found = answer.json()["request_id"]
        assert found == answer.headers["x-request-id"]
        assert said is None or found == said
        assert found


def test_the_frameworks_errors_have_the_same_shape(gateway: TestGateway) -> None:
    assert code(gateway.client.get("/nowhere")) == (404, "not_found")
    answer = gateway.client.get("/api/queue/create")
    assert code(answer) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


def test_ready_says_why_not_until_a_worker_has_asked(gateway: TestGateway) -> None:
    waiting = gateway.client.get("/ready")
    assert waiting.status_code == 503
    assert [reason["code"] for reason in waiting.json()["reasons"]] == ["no_workers"]
    gateway.ping()
    assert gateway.client.get("/ready").status_code == 200
    assert gateway.client.get("/health").json()["ok"] is True


def test_debug_env_tells_what_is_set_and_no_value(keyed: TestGateway) -> None:
    assert keyed.client.get("/debug/env", headers=auth("key-of-ann")).status_code == 401
    answer = keyed.client.get("/debug/env", headers=auth("admin-key"))
    found = answer.json()
    assert (found["hasApiKeys"], found["hasRunpodKey"], found["hasR2Binding"]) == (
        True, False, False,
    )  # fmt: skip
    assert "key-of-ann" not in answer.text
    assert {"version", "ts"} <= set(found)


def test_what_goes_wrong_inside_is_told_without_its_inside(gateway: TestGateway) -> None:
    def broken(*_: Any) -> None:
        raise ValueError("secret detail")

    gateway.context.store.get = broken
    with structlog.testing.capture_logs() as logs:
        answer = gateway.client.get(STATUS)
    assert code(answer) == (500, "internal_error")
    assert [str(entry["exc_info"]) for entry in logs] == ["secret detail"]
    assert "secret detail" not in answer.text


def test_the_api_is_documented(gateway: TestGateway) -> None:
    paths = gateway.client.get("/openapi.json").json()["paths"]
    assert {"/api/queue/create", "/api/queue/status/{job_id}", "/api/uploads"} <= set(paths)
    assert gateway.client.get("/docs").status_code == 200
    assert not any("job-take" in path for path in paths)
