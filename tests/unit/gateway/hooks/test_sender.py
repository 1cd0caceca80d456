"""One hook over real HTTP and TLS: to whom, signed how, and what counts as taken."""

import asyncio
import ipaddress
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from gateway.hooks.address import check_address
from gateway.hooks.sender import Answer, HookSender
from tests.fakes.hook_receiver import HookReceiver
from tests.fakes.https_site import Certificate, HttpsSite
from tests.fakes.https_site import answer as https_answer

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"type":"job.succeeded"}'


def send(url: str, hosts: tuple[str, ...] = (), body: bytes = BODY, **how: Any) -> Answer:
    async def run() -> Answer:
        sender = HookSender(SECRET, hosts, **how)
        try:
            return await sender.send(url, "msg_1", body)
        finally:
            await sender.aclose()

    return asyncio.run(run())


def test_the_receiver_verifies_it_with_the_public_library() -> None:
    with HookReceiver() as receiver:
        assert send(receiver.url, (receiver.host,)) == Answer(True, "200")
        [hook] = receiver.hooks
    assert Webhook(SECRET).verify(hook.body, dict(hook.headers)) == json.loads(BODY)
    assert hook.headers["webhook-id"] == "msg_1"
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(hook.body + b" ", dict(hook.headers))


def test_a_secret_that_is_no_base64_is_the_key_as_it_stands() -> None:
    async def run(url: str, host: str) -> None:
        sender = HookSender("value-of-secret", [host])
        await sender.send(url, "msg_1", BODY)
        await sender.aclose()

    with HookReceiver() as receiver:
        asyncio.run(run(receiver.url, receiver.host))
        [hook] = receiver.hooks
    assert Webhook(b"value-of-secret").verify(hook.body, dict(hook.headers))


@pytest.mark.parametrize("status", [199, 301, 302, 307, 400, 404, 500, 503])
def test_only_2xx_is_taken_and_no_redirect_is_followed(status: int) -> None:
    with HookReceiver() as receiver, HookReceiver() as elsewhere:
        receiver.answer_next(status, location=elsewhere.url)
        answer = send(receiver.url, (receiver.host, elsewhere.host))
        assert not answer.is_taken
        assert not answer.is_over
        assert elsewhere.hooks == []


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_any_2xx_is_taken(status: int) -> None:
    with HookReceiver() as receiver:
        receiver.answer_next(status)
        assert send(receiver.url, (receiver.host,)).is_taken


def test_410_is_the_last_word() -> None:
    with HookReceiver() as receiver:
        receiver.answer_next(410)
        assert send(receiver.url, (receiver.host,)) == Answer(False, "410", is_over=True)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7.0), ("0", 0.0), ("99999999999", 86_400.0), ("soon", None), ("-1", None)],
)
def test_retry_after_counts_in_seconds(value: str, seconds: float | None) -> None:
    with HookReceiver() as receiver:
        receiver.answer_next(503, retry_after=value)
        assert send(receiver.url, (receiver.host,)).retry_after_s == seconds


def test_retry_after_may_be_a_date_of_the_past() -> None:
    with HookReceiver() as receiver:
        receiver.answer_next(429, retry_after="Wed, 21 Oct 2015 07:28:00 GMT")
        assert send(receiver.url, (receiver.host,)).retry_after_s == 0.0


def test_nobody_there_and_a_cut_connection_are_answers_too() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{nobody.getsockname()[1]}"
        assert send(f"http://{host}/", (host,)) == Answer(False, "no answer (ConnectError)")
    with HookReceiver() as receiver:
        receiver.answer_next(0)
        assert "no answer" in send(receiver.url, (receiver.host,)).text


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"], ["10.1.2.3"], ["169.254.169.254"], ["::1"], ["93.184.216.34", "127.0.0.1"],
        [],
    ],
)  # fmt: skip
def test_a_name_that_leads_inside_gets_nothing(addresses: list[str]) -> None:
    found = [ipaddress.ip_address(one) for one in addresses]
    answer = send("https://hooks.example/x", resolve=lambda _host: found)
    assert answer == Answer(False, "the address is not public")


def test_a_name_that_can_not_be_resolved_is_an_answer() -> None:
    def resolve(_host: str) -> list[Any]:
        raise socket.gaierror("no such name")

    assert send("https://hooks.example/", resolve=resolve) == Answer(False, "no answer (gaierror)")


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example/", "https://127.0.0.1/", "https://0x7f.1/", "https://[::1]/",
        "https://hooks.example:8080/", "https://user@hooks.example/", "ftp://hooks.example/",
        "https://[::ffff:10.0.0.1]/", "", "https://hooks.example/\n",
    ],
)  # fmt: skip
def test_an_address_of_another_form_is_refused_before_and_gets_nothing(url: str) -> None:
    with pytest.raises(ValueError, match="the address"):
        check_address(url)
    assert not send(url, resolve=lambda _host: [ipaddress.ip_address("127.0.0.1")]).is_taken


def test_the_named_host_is_that_one_only() -> None:
    hosts = ("127.0.0.1:9000",)
    assert check_address("http://127.0.0.1:9000/x", hosts)
    for url in (
        "http://127.0.0.1:9001/", "http://127.0.0.1:9000@evil.example/", "http://127.0.0.1/",
        "http://127.0.0.1:9000.evil.example/", "http://x@127.0.0.1:9000/",
    ):  # fmt: skip
        with pytest.raises(ValueError, match="the address"):
            check_address(url, hosts)


def test_the_address_that_was_checked_is_dialled_under_its_name(tmp_path: Path) -> None:
    """One look-up; the certificate is checked for the name, and another's is refused."""
    certificate = Certificate(tmp_path, "hooks.example")
    asked: list[str] = []

    def resolve(host: str) -> list[Any]:
        asked.append(host)
        return [ipaddress.ip_address("127.0.0.1")]

    async def run(url: str) -> tuple[Answer, list[Any]]:
        async with HttpsSite(certificate) as site:
            site.answers["/in"] = https_answer(b"thanks")
            sender = HookSender(
                SECRET, resolve=resolve, is_allowed=lambda _address: True,
                verify=certificate.client_context(), port=site.port,
            )  # fmt: skip
            told = await sender.send(url, "msg_1", BODY)
            await sender.aclose()
            return told, site.requests

    answer, requests = asyncio.run(run("https://hooks.example/in?key=1"))
    assert answer == Answer(True, "200")
    assert asked == ["hooks.example"]
    assert requests[0].target == "/in?key=1"
    assert requests[0].headers["host"] == "hooks.example"
    answer, requests = asyncio.run(run("https://other.example/in"))
    assert (answer.is_taken, requests) == (False, [])
