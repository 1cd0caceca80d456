import contextlib
import ipaddress
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from handler.contract.addresses import AddressFault, BucketKey, HttpsUrl, is_public, parse_address


def fault_of(text: str) -> str:
    with pytest.raises(AddressFault) as caught:
        parse_address(text)
    return str(caught.value)


def test_a_url_is_taken_apart() -> None:
    url = parse_address("https://Pictures.Example:443/a/cat.png?sig=x&y#part")
    assert url == HttpsUrl("pictures.example", "/a/cat.png", "sig=x&y")


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("HTTPS://a.example", "https://a.example/"),
        ("https://a.example.", "https://a.example/"),
        ("https://a.example:/x", "https://a.example/x"),
        ("https://xn--bcher-kva.example/x", "https://xn--bcher-kva.example/x"),
        ("https://a_b.example/%7E/../x", "https://a_b.example/%7E/../x"),
        ("https://8.8.8.8/x", "https://8.8.8.8/x"),
        ("https://[2001:4860:4860:0::8888]/", "https://[2001:4860:4860::8888]/"),
        ("https://a.example?x=1", "https://a.example/?x=1"),
    ],
)
def test_what_is_opened_is_put_together_from_the_checked_parts(text: str, whole: str) -> None:
    assert HttpsUrl.parse(text).whole == whole


def test_a_url_as_text_has_no_query() -> None:
    url = HttpsUrl.parse("https://a.example/cat.png?sig=secret")
    assert str(url) == "https://a.example/cat.png"
    assert "secret" not in repr(url)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("http://a.example/", "must begin with https://"),
        ("s3://pictures/cat.png", "must begin with https://"),
        ("file:///etc/passwd", "must begin with https://"),
        ("https:a.example/", "no valid host name"),
        ("https:///x", "no valid host name"),
        ("https://me@a.example/", "a user name or a password"),
        ("https://a.example:443@b.example/", "a user name or a password"),
        ("https://a.example:80/", "a port other than 443"),
        ("https://a.example:0443x/", "a port that is no number"),
        ("https://a.example:99999/", "a port that is no number"),
        ("https://a.example\\@b.example/", "a backslash"),
        ("https://a.example/ x", "a space"),
        ("https://a.example/\r\nHost: b", "a space"),
        ("https://b\u00fccher.example/", "percent-encoded"),
        ("https://\uff11\uff12\uff17.0.0.1/", "percent-encoded"),
        ("https://[::1/", "is no URL"),
        ("https://a..example/", "no valid host name"),
        ("https://-a.example/", "no valid host name"),
        ("https://%31%32%37.0.0.1/", "no plain IP address"),
        (f"https://{'a' * 64}.example/", "no valid host name"),
        (f"https://{'a.' * 130}example/", "no valid host name"),
        (f"https://a.example/{'x' * 8000}", "longer than 8000 characters"),
    ],
)
def test_what_is_no_plain_https_url_is_refused_with_the_reason(text: str, says: str) -> None:
    assert says in fault_of(text)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.0.0.1.", "10.1.2.3", "0.0.0.0", "169.254.169.254", "100.100.100.200",
        "[::1]", "[::]", "[fd00:ec2::254]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[::127.0.0.1]",
    ],
)  # fmt: skip
def test_an_ip_address_that_is_not_public_is_refused(host: str) -> None:
    assert fault_of(f"https://{host}/x") == "has a host that is not public"


@pytest.mark.parametrize(
    "host",
    [
        "2130706433", "017700000001", "0x7f000001", "0X7F000001", "127.1", "0177.0.0.1",
        "127.0.0.0x1", "0x7f.0x0.0x0.0x1", "127.0.0.01", "00.0.0.0", "1.2.3.4.5", "256.0.0.1",
        "[::1%25lo]", "[fe80::1%eth0]", "8.8.8.8.0x", "[127.0.0.1]", "[v1.a:b]",
    ],
)  # fmt: skip
def test_no_second_spelling_of_an_ip_address_is_taken(host: str) -> None:
    says = fault_of(f"https://{host}/x")
    assert "no plain IP address" in says or "is no URL" in says


@pytest.mark.parametrize(
    "location", ["https://b.example/y", "//b.example/y", "HTTPS://B.example/y"]
)
def test_a_redirect_leads_to_another_host(location: str) -> None:
    assert HttpsUrl.parse("https://a.example/x").join(location).whole == "https://b.example/y"


@pytest.mark.parametrize(
    ("location", "whole"),
    [
        ("y", "https://a.example/b/y"),
        ("/y?z", "https://a.example/y?z"),
        ("../../y", "https://a.example/y"),
        ("?z", "https://a.example/b/c?z"),
        ("", "https://a.example/b/c?q"),
    ],
)
def test_a_redirect_leads_to_another_path(location: str, whole: str) -> None:
    assert HttpsUrl.parse("https://a.example/b/c?q").join(location).whole == whole


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1",
        "127.255.255.254", "168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255",
        "192.0.0.1", "192.0.0.9", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1",
        "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1",
        "255.255.255.255", "::", "::1", "::127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:8.8.8.8",
        "64:ff9b::8.8.8.8", "64:ff9b:1::1", "100::1", "2001::1", "2001:1::1", "2001:20::1",
        "2001:db8::1", "2002:808:808::", "3fff::1", "4000::1", "5f00::1", "fc00::1",
        "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1",
    ],
)  # fmt: skip
def test_only_what_anybody_can_reach_is_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.1", "172.32.0.1", "192.1.0.1",
     "223.255.255.255", "2001:4860:4860::8888", "2606:4700::1111", "2a00:1450::1"],
)  # fmt: skip
def test_what_anybody_can_reach_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("text", ["bucket:inputs/cat.png", "BUCKET:inputs/cat.png"])
def test_a_key_of_the_bucket_is_an_address(text: str) -> None:
    assert parse_address(text) == BucketKey("inputs/cat.png")


@pytest.mark.parametrize(
    "key", ["cat.png", "a/b c/K\u00e4tzchen+~=&%20.png", "a/...", "a:b", "%zz"]
)
def test_a_key_is_kept_letter_for_letter(key: str) -> None:
    assert BucketKey.parse(key).key == key


@pytest.mark.parametrize(
    "key",
    ["", "/", "/cat.png", "inputs/", "inputs//cat.png", "inputs/../cat.png", "..", "inputs/./x",
     "inputs/%2e%2e/cat.png", "inputs/..%2Fcat.png", "%2finputs/cat.png", "inputs\\..\\cat.png",
     "inputs/cat\n.png", "inputs/\0", "inputs/\ud800", "x" * 1025, "\u00e9" * 513],
)  # fmt: skip
def test_a_key_that_may_be_taken_for_another_is_refused(key: str) -> None:
    assert fault_of(f"bucket:{key}").startswith("must be a key")


@pytest.mark.parametrize(
    "text", ["iVBORw0KGgo", "data:image/png;base64,iVBO", "", "x:y", "C:\\cat.png", "https"]
)
def test_what_names_no_place_is_no_address(text: str) -> None:
    assert parse_address(text) is None


HOSTS = st.one_of(
    st.ip_addresses().map(lambda ip: f"[{ip}]" if ip.version == 6 else str(ip)),
    st.text("0123456789abcdefxX.:[]%-", max_size=24),
    st.from_regex(r"[a-z0-9.-]{1,20}", fullmatch=True),
)
URLS = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["https://", "HTTPS://", "https:", "https:/", "http://", "//"]),
    st.sampled_from(["", "a@", "a:b@", "a.example\\@"]),
    HOSTS,
    st.sampled_from(["", "/", ":443/", ":80", "/a?b=c", "#@a.example/", "?@a.example", "\\"]),
)
TEXTS = st.text(alphabet=st.characters(exclude_categories=()), max_size=40)


@given(URLS | TEXTS | TEXTS.map("https://".__add__) | TEXTS.map("bucket:".__add__))
def test_any_text_is_an_address_or_none_or_a_fault(text: str) -> None:
    with contextlib.suppress(AddressFault):
        address = parse_address(text)
        if isinstance(address, HttpsUrl):
            assert_all_read_alike(address)


@given(URLS | TEXTS)
def test_any_redirect_is_an_address_or_a_fault(location: str) -> None:
    with contextlib.suppress(AddressFault):
        assert_all_read_alike(HttpsUrl.parse("https://a.example/b/c?d").join(location))


def assert_all_read_alike(url: HttpsUrl) -> None:
    """Both parsers that stand between the check and the connection, and the C library."""
    opened = URL(url.whole, encoded=True)
    assert (opened.scheme, opened.port, opened.user) == ("https", 443, None)
    assert opened.raw_host == urlsplit(url.whole).hostname == url.host.strip("[]")
    assert "#" not in url.whole
    numeric = numeric_address(url.host.strip("[]"))
    assert numeric is None or is_public(ipaddress.ip_address(numeric))


def numeric_address(host: str) -> Any:
    """What the C library reads a host as, without asking anybody."""
    try:
        return socket.getaddrinfo(host, 443, flags=socket.AI_NUMERICHOST)[0][4][0]
    except (OSError, UnicodeError):
        return None
