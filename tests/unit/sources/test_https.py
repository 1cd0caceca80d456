"""`HttpsSource` against a real https server on loopback, which only these tests let it reach."""

import asyncio
import gzip
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from handler.contract.addresses import HttpsUrl, IPAddress
from handler.errors import ImageUnreachable, InvalidImage
from handler.sources.https import HttpsSource
from tests.fakes.https_site import Certificate, FixedResolver, HttpsSite, answer

HOST = "pictures.example"
SECRET = "signature-that-must-not-show"
BODY = bytes(range(256)) * 1000
LIMIT = 300_000
LOCAL = {HOST: [["127.0.0.1"]]}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("certificate"), HOST)


@pytest.fixture
def site(certificate: Certificate) -> HttpsSite:
    return HttpsSite(certificate)


@pytest.fixture
def resolvers() -> list[FixedResolver]:
    """Those that were used."""
    return []


Get = Callable[..., bytes]


@pytest.fixture
def get(site: HttpsSite, certificate: Certificate, resolvers: list[FixedResolver]) -> Get:
    """Fetches from the running site, where 127.0.0.1 is public and 127.0.0.2 is not."""

    def get_sync(
        url: str = f"https://{HOST}/cat.png",
        names: dict[str, list[list[str]]] = LOCAL,
        ssl_context: ssl.SSLContext | None = None,
    ) -> bytes:
        def make_resolver() -> FixedResolver:
            resolvers.append(FixedResolver(names, site.port))
            return resolvers[-1]

        async def run() -> bytes:
            async with site:
                source = HttpsSource(
                    is_allowed=is_first_loopback,
                    make_resolver=make_resolver,
                    ssl_context=ssl_context or certificate.client_context(),
                )
                return await source.get(HttpsUrl.parse(url), limit_bytes=LIMIT)

        return asyncio.run(within_seconds(run()))

    return get_sync


def is_first_loopback(address: IPAddress) -> bool:
    return str(address) == "127.0.0.1"


async def within_seconds(run: Coroutine[Any, Any, bytes]) -> bytes:
    """A guard for the tests: the source itself has no time limit."""
    async with asyncio.timeout(30):
        return await run


def refused(get: Get, **options: Any) -> InvalidImage:
    return fault_of(InvalidImage, get, **options)


def unreachable(get: Get, **options: Any) -> ImageUnreachable:
    return fault_of(ImageUnreachable, get, **options)


def fault_of(expected: type[Any], get: Get, path: str = "/cat.png", **options: Any) -> Any:
    with pytest.raises((InvalidImage, ImageUnreachable)) as caught:
        get(f"https://{HOST}{path}?X-Amz-Signature={SECRET}", **options)
    assert type(caught.value) is expected, caught.value.message
    assert SECRET not in f"{caught.value} {caught.value.message} {caught.value.details}"
    return caught.value


def test_the_bytes_come_as_they_are(site: HttpsSite, get: Get) -> None:
    site.answers["/cat.png"] = answer(BODY)
    assert get() == BODY


def test_a_body_in_chunks_comes_whole(site: HttpsSite, get: Get) -> None:
    chunked = b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
    head = answer(transfer_encoding="chunked").replace(b"content-length: 0\r\n", b"")
    site.answers["/cat.png"] = head + chunked
    assert get() == b"hello world"


def test_the_address_is_sent_exactly_as_it_came(site: HttpsSite, get: Get) -> None:
    """A signature may be over the very spelling."""
    target = "/a%7Eb%2f(1)/cat.png?sig=%2Fab%3D%3d&x=a+b&y=%20~%2B&empty"
    site.answers["/a%7Eb%2f(1)/cat.png"] = answer(BODY)
    get(f"https://{HOST}{target}#fragment")
    assert site.requests[0].target == target


def test_nothing_of_the_worker_is_sent_along(
    site: HttpsSite, get: Get, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine {HOST} login me password {SECRET}")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    site.answers["/cat.png"] = answer(BODY)
    get()
    headers = site.requests[0].headers
    assert set(headers) == {"host", "accept", "accept-encoding", "user-agent"}
    assert headers["host"] == HOST
    assert headers["accept-encoding"] == "identity"


def test_each_connection_resolves_the_name_once(
    site: HttpsSite, get: Get, resolvers: list[FixedResolver]
) -> None:
    site.answers["/cat.png"] = answer(BODY)
    get()
    assert [resolver.asked for resolver in resolvers] == [[HOST]]


@pytest.mark.parametrize(
    "addresses", [["127.0.0.2"], ["127.0.0.1", "127.0.0.2"], ["127.0.0.2", "127.0.0.1"], ["::1"]]
)
def test_a_host_with_one_address_that_is_not_public_is_not_connected_to(
    site: HttpsSite, get: Get, addresses: list[str]
) -> None:
    fault = refused(get, names={HOST: [addresses]})
    assert fault.message == f"https://{HOST} is not public"
    assert site.connections == 0


def test_a_name_that_changes_its_address_after_the_first_answer_is_refused(
    site: HttpsSite, certificate: Certificate, get: Get
) -> None:
    site.answers["/cat.png"] = answer(status=302, location="/again.png")
    site.answers["/again.png"] = answer(BODY)
    fault = refused(get, names={HOST: [["127.0.0.1"], ["127.0.0.2"]]})
    assert "is not public" in fault.message
    assert [request.target.partition("?")[0] for request in site.requests] == ["/cat.png"]


@pytest.mark.parametrize("host", ["localhost", "localhost.", "LOCALHOST"])
def test_by_default_this_machine_is_not_public(host: str) -> None:
    async def get_by_default() -> bytes:
        return await HttpsSource().get(HttpsUrl.parse(f"https://{host}/"), limit_bytes=LIMIT)

    with pytest.raises(InvalidImage, match="is not public"):
        asyncio.run(within_seconds(get_by_default()))


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("https://intern.example/", "https://intern.example is not public"),
        ("//intern.example/", "https://intern.example is not public"),
        ("https://127.0.0.1/", "a host that is not public"),
        ("https://2130706433/", "no name and no plain IP address"),
        ("https://[::ffff:127.0.0.1]/", "a host that is not public"),
        ("https://169.254.169.254/latest/meta-data/", "a host that is not public"),
        (f"http://{HOST}/cat.png", "must begin with https://"),
        ("file:///etc/passwd", "must begin with https://"),
        (f"https://{HOST}:8188/", "a port other than 443"),
        (f"https://me:{SECRET}@{HOST}/", "a user name or a password"),
        ("https://[broken/", "is no URL"),
        ("/k\xc3\xa4tzchen.png", "percent-encoded"),
    ],
)
def test_a_redirect_is_checked_as_the_first_address(
    site: HttpsSite, get: Get, location: str, says: str
) -> None:
    site.answers["/cat.png"] = answer(status=302, location=location)
    names = {**LOCAL, "intern.example": [["127.0.0.2"]]}
    assert says in refused(get, names=names).message
    assert site.connections == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", [f"https://{HOST}/b/dog.png", "/b/dog.png", "b/dog.png"])
def test_a_redirect_is_followed(site: HttpsSite, get: Get, status: int, location: str) -> None:
    site.answers["/cat.png"] = answer(
        status=status, location=location, set_cookie="id=7; Domain=pictures.example"
    )
    site.answers["/b/dog.png"] = answer(BODY)
    assert get() == BODY
    assert not {"cookie", "referer"} & set(site.requests[1].headers)


def test_five_redirects_are_followed_and_no_more(site: HttpsSite, get: Get) -> None:
    for number in range(6):
        site.answers[f"/{number}"] = answer(status=302, location=f"/{number + 1}")
    site.answers["/6"] = answer(BODY)
    assert get(f"https://{HOST}/1") == BODY
    assert "redirects" in refused(get, path="/0").message


def test_a_redirect_to_itself_ends(site: HttpsSite, get: Get) -> None:
    site.answers["/cat.png"] = answer(status=302, location="/cat.png")
    assert "redirects" in refused(get).message
    assert site.connections == 6


@pytest.mark.parametrize("status", [204, 206, 300, 302, 304, 400, 401, 403, 404, 410])
def test_an_answer_without_a_picture_is_the_callers_fault(
    site: HttpsSite, get: Get, status: int
) -> None:
    site.answers["/cat.png"] = answer(status=status)
    fault = refused(get)
    assert fault.message == f"https://{HOST}/cat.png answers {status}"
    assert fault.details == {"http_status": status}


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_fault_that_may_pass_may_be_tried_again(site: HttpsSite, get: Get, status: int) -> None:
    site.answers["/cat.png"] = answer(status=status)
    fault = unreachable(get)
    assert fault.message == f"https://{HOST}/cat.png answers {status}"
    assert fault.retryable


def test_a_body_of_just_the_limit_is_taken_and_of_one_more_refused(
    site: HttpsSite, get: Get
) -> None:
    site.answers["/cat.png"] = answer(b"x" * LIMIT)
    assert len(get()) == LIMIT
    site.answers["/cat.png"] = answer(b"x" * (LIMIT + 1))
    assert f"is over the limit of {LIMIT} bytes" in refused(get).message


def test_a_large_content_length_is_refused_before_the_body(site: HttpsSite, get: Get) -> None:
    async def only_the_head(writer: asyncio.StreamWriter) -> None:
        writer.write(answer(content_length="99999999999"))
        await asyncio.Event().wait()

    site.answers["/cat.png"] = only_the_head
    assert "is over the limit" in refused(get).message


def test_an_endless_body_is_cut_off(site: HttpsSite, get: Get) -> None:
    sent = 0

    async def endless(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            sent += 65536
            await writer.drain()

    site.answers["/cat.png"] = endless
    assert "is over the limit" in refused(get).message
    # What lies in the buffers of two sockets is on its way in any case.
    assert sent < 50 * LIMIT


@pytest.mark.parametrize(
    "raw",
    [
        answer(BODY)[:-100],
        answer(transfer_encoding="chunked").replace(b"content-length: 0\r\n", b"") + b"ff\r\nshort",
    ],
    ids=["by length", "by chunks"],
)
def test_a_body_that_breaks_off_is_no_picture(site: HttpsSite, get: Get, raw: bytes) -> None:
    site.answers["/cat.png"] = raw
    assert "broke off before its end" in unreachable(get).message


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip"])
def test_a_compressed_body_is_refused_unread(site: HttpsSite, get: Get, encoding: str) -> None:
    bomb = gzip.compress(bytes(10_000_000))
    site.answers["/cat.png"] = answer(bomb, content_encoding=encoding)
    assert f"content encoding {encoding!r}" in refused(get).message


@pytest.mark.parametrize("raw", [b"", b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 200 OK\r\nContent-"])
def test_what_is_no_http_does_not_answer(site: HttpsSite, get: Get, raw: bytes) -> None:
    site.answers["/cat.png"] = raw
    assert "does not answer" in unreachable(get).message


def test_a_host_without_a_server_does_not_answer(certificate: Certificate) -> None:
    site = HttpsSite(certificate)

    async def ask_when_gone() -> bytes:
        async with site:
            pass
        source = HttpsSource(
            is_allowed=is_first_loopback, make_resolver=lambda: FixedResolver(LOCAL, site.port)
        )
        return await source.get(HttpsUrl.parse(f"https://{HOST}/"), limit_bytes=LIMIT)

    with pytest.raises(ImageUnreachable, match="does not answer"):
        asyncio.run(within_seconds(ask_when_gone()))


def test_a_name_that_nobody_knows_may_be_known_later(get: Get) -> None:
    assert "its host name can't be resolved" in unreachable(get, names={}).message


def test_a_certificate_must_be_of_the_host_and_of_somebody_trusted(
    site: HttpsSite, get: Get
) -> None:
    site.answers["/cat.png"] = answer(BODY)
    fault = refused(get, ssl_context=ssl.create_default_context())
    assert "has no valid certificate" in fault.message
    with pytest.raises(InvalidImage, match="has no valid certificate"):
        get("https://other.example/cat.png", names={"other.example": [["127.0.0.1"]]})
    assert site.requests == []
