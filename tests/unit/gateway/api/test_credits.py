"""Credits as callers see them; and that nothing is seen of them where edits are free."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gateway.ledger import PACKAGES, PRICES, START
from tests.gateways import (
    TestGateway,
    as_text,
    auth,
    edit,
    failure,
    picture,
    running_gateway,
    success,
)


@pytest.fixture
def paid(tmp_path: Path) -> Iterator[TestGateway]:
    with running_gateway(
        tmp_path, gateway_credits="test", gateway_api_keys="ann=key-of-ann,bob=key-of-bob"
    ) as found:
        yield found


def account(gateway: TestGateway, key: str = "key-of-ann") -> dict[str, Any]:
    answer = gateway.client.get("/api/credits", headers=auth(key))
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def buy(gateway: TestGateway, body: Any, key: str = "key-of-ann", **headers: str) -> Any:
    return gateway.client.post("/api/credits/buy", json=body, headers=auth(key) | headers)


def create(gateway: TestGateway, **more: Any) -> str:
    return gateway.create("key-of-ann", **more)


def test_an_account_says_that_it_is_a_test_what_there_is_and_what_edits_cost(
    paid: TestGateway,
) -> None:
    options = paid.client.get("/api/options", headers=auth("key-of-ann")).json()
    assert options["service"] == {"demo": False, "credits": "test"}
    found = account(paid)
    assert found["test"] is True
    assert set(found["notice"]) == {"th", "en"}
    assert (found["balance"], found["held"]) == (START, 0)
    assert found["cost"] == PRICES
    assert found["packages"] == [{"id": id_, "credits": n} for id_, n in PACKAGES.items()]


def test_an_edit_is_held_then_settled(paid: TestGateway) -> None:
    job_id = create(paid, speed="fine")
    assert paid.status(job_id, "key-of-ann")["credits"] == {"cost": 5, "state": "held"}
    assert (account(paid)["balance"], account(paid)["held"]) == (START - 5, 5)
    paid.take()
    assert paid.done(job_id, success(picture())) == 200
    assert paid.ended(job_id, "key-of-ann")["credits"] == {"cost": 5, "state": "settled"}
    assert (account(paid)["balance"], account(paid)["held"]) == (START - 5, 0)
    assert account(paid, "key-of-bob")["balance"] == START


def test_a_failed_and_a_cancelled_edit_cost_nothing(paid: TestGateway) -> None:
    failed, cancelled = create(paid), create(paid)
    paid.take()
    paid.done(failed, failure("node_failed", False))
    headers = auth("key-of-ann")
    paid.client.post(f"/api/queue/cancel/{cancelled}", headers=headers)
    for job_id in (failed, cancelled):
        assert paid.status(job_id, "key-of-ann")["credits"] == {"cost": 1, "state": "released"}
    paid.client.delete(f"/api/queue/{failed}", headers=headers)
    assert (account(paid)["balance"], account(paid)["held"]) == (START, 0)


@pytest.mark.parametrize(
    "refused",
    [{"prompt": ""}, {"images": [{"image": "no picture"}]}, {"unknown": 1}, {"steps": 0}],
    ids=str,
)
def test_a_create_that_is_refused_costs_nothing(paid: TestGateway, refused: Any) -> None:
    answer = paid.client.post("/api/queue/create", json=edit(**refused), headers=auth("key-of-ann"))
    assert answer.status_code == 400
    assert (account(paid)["balance"], account(paid)["held"]) == (START, 0)


def test_who_has_too_few_is_told_the_price_and_nothing_is_kept(
    paid: TestGateway, tmp_path: Path
) -> None:
    for _ in range(START // 5):
        create(paid, speed="fine")
    before = sorted(tmp_path.rglob("*"))
    body = edit(request_id="order-1")
    answer = paid.client.post("/api/queue/create", json=body, headers=auth("key-of-ann"))
    assert answer.status_code == 402
    assert answer.json()["code"] == "not_enough_credits"
    assert answer.json()["retryable"] is False
    assert "costs 1 credits and there are 0" in answer.json()["message"]
    assert sorted(tmp_path.rglob("*")) == before
    # The same request goes through once it is paid.
    assert buy(paid, {"package": "small"}).status_code == 200
    assert (
        paid.client.post("/api/queue/create", json=body, headers=auth("key-of-ann")).json()[
            "deduplicated"
        ]
        is False
    )


def test_at_once_no_more_edits_are_taken_than_are_paid(paid: TestGateway) -> None:
    body = edit(speed="fine", images=[{"image": as_text(picture(size=(8, 8)))}])

    def post(_: int) -> int:
        answer = paid.client.post("/api/queue/create", json=body, headers=auth("key-of-ann"))
        return int(answer.status_code)

    with ThreadPoolExecutor(6) as pool:
        codes = list(pool.map(post, range(START // 5 + 6)))
    assert (codes.count(200), codes.count(402)) == (START // 5, 6)
    assert (account(paid)["balance"], account(paid)["held"]) == (0, START)


def test_the_same_edit_sent_again_costs_once(paid: TestGateway) -> None:
    assert create(paid, request_id="order-1") == create(paid, request_id="order-1")
    assert (account(paid)["balance"], account(paid)["held"]) == (START - 1, 1)


def test_jobs_of_runpods_api_cost_as_a_fine_edit(paid: TestGateway) -> None:
    headers = auth("key-of-ann")
    answer = paid.client.post("/v2/own/run", json={"input": {"a": 1}}, headers=headers)
    assert answer.status_code == 200
    assert account(paid)["held"] == PRICES["fine"]
    assert paid.client.post("/v2/own/purge-queue", headers=headers).json()["removed"] == 1
    assert (account(paid)["balance"], account(paid)["held"]) == (START, 0)


def test_a_purchase_counts_once_for_its_id(paid: TestGateway) -> None:
    first = buy(paid, {"package": "medium", "request_id": "buy-1"}).json()
    assert first["test"] is True
    assert (first["package"], first["credits"]) == ("medium", PACKAGES["medium"])
    assert (first["balance"], first["deduplicated"]) == (START + 100, False)
    again = buy(paid, {"package": "medium"}, **{"Idempotency-Key": "buy-1"}).json()
    assert (again["balance"], again["deduplicated"]) == (START + 100, True)
    other = buy(paid, {"package": "small", "request_id": "buy-1"})
    assert (other.status_code, other.json()["code"]) == (409, "request_id_taken")
    assert account(paid)["balance"] == START + 100
    assert account(paid, "key-of-bob")["balance"] == START


@pytest.mark.parametrize(
    "body",
    [
        {}, {"package": "huge"}, {"package": 7}, {"package": None}, [], "small", None,
        {"package": "small", "credits": 9}, {"package": "small", "request_id": "\0"},
        {"package": "x" * 101},
    ],
    ids=repr,
)  # fmt: skip
def test_a_purchase_of_what_is_not_sold_is_refused(paid: TestGateway, body: Any) -> None:
    answer = buy(paid, body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert account(paid)["balance"] == START


def test_two_ids_that_differ_are_refused(paid: TestGateway) -> None:
    answer = buy(paid, {"package": "small", "request_id": "a1"}, **{"Idempotency-Key": "a2"})
    assert answer.json()["code"] == "invalid_request"


@pytest.mark.parametrize("path", ["/api/credits", "/api/credits/buy"])
def test_credits_are_their_owners(paid: TestGateway, path: str) -> None:
    method = "GET" if path.endswith("credits") else "POST"
    assert paid.client.request(method, path, json={"package": "small"}).status_code == 401


def test_nothing_is_seen_of_credits_where_edits_are_free(gateway: TestGateway) -> None:
    for method, path in (("GET", "/api/credits"), ("POST", "/api/credits/buy")):
        answer = gateway.client.request(method, path, json={"package": "small"})
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    job_id = gateway.create()
    assert "credits" not in gateway.status(job_id)
    assert "credits" not in gateway.client.get("/openapi.json").text
    assert gateway.client.get("/api/options").json()["service"] == {"demo": False}
    assert "credits" not in gateway.client.post("/api/queue/create", json=edit()).text
