"""Hosts, addresses, URLs and request parts: one spelling each, or refused."""

from __future__ import annotations

import pytest

from agent_os.core import canonical
from agent_os.core.action import Action
from agent_os.core.canonical import addresses
from agent_os.core.errors import ActionError

SAME_HOST = {
    "example.com": ["example.com", "EXAMPLE.com", "example.com.", "example。com", "Ｅxample.com"],
    "127.0.0.1": [
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "0177.0.0.1",
        "2130706433",
        "0x7f000001",
        "１２７.0.0.1",
        "127.0.0.1.",
        "[::ffff:127.0.0.1]",
        "::ffff:7f00:1",
        "127.0.1",
        "017700000001",
    ],
    "::1": ["::1", "[::1]", "0:0:0:0:0:0:0:1", "[0::1]"],
    "2001:db8::1": ["2001:DB8::1", "[2001:0db8:0:0::0001]"],
    "xn--bcher-kva.de": ["bücher.de", "BÜCHER.de", "xn--bcher-kva.de", "XN--BCHER-KVA.DE", "bu\u0308cher.de"],
}


@pytest.mark.parametrize(("expected", "spelling"), [(k, v) for k, vs in SAME_HOST.items() for v in vs])
def test_spellings_of_one_host_are_one_host(expected: str, spelling: str) -> None:
    """Every spelling of a host gives the same canonical host."""
    assert canonical.host(spelling) == expected


@pytest.mark.parametrize(
    "value",
    [
        "",
        ".",
        "a..b",
        ".a",
        "example.com..",
        "*.example.com",
        "ex%2eample.com",
        "user@host",
        "host:80",
        "[::1",
        "::1]",
        "[1.2.3.4]",
        "fe80::1%eth0",
        "fe80::1%25eth0",
        "1.2.3.4.5",
        "256.1.1.1",
        "0x100.1.1.1",
        "a.0x7f",
        "08.1.1.1",
        "sub\0.example.com",
        "a b",
        "a\tb",
        "a\nb",
        "ex\u00adample.com",
        "to\u200bol.com",
        "\u202ecom.example",
        "-a.com",
        "a-.com",
        "a" * 64 + ".com",
        ".".join(["a" * 60] * 5),
        "аpple.com",
        "аррӏе.com",
        "googlе.com",
        "xn--80ak6aa92e.com",
        "xn--a",
        "a/b",
        "a\\b",
        "a?b",
        "a#b",
        None,
        5,
        ["a"],
        "ɡoogle.com",
    ],
)
def test_what_is_no_single_host_is_refused(value: object) -> None:
    """Wildcards, ports, zone ids, control characters, malformed and look-alike names raise ActionError."""
    with pytest.raises(ActionError):
        canonical.host(value)


@pytest.mark.parametrize(
    "value",
    [
        "localhost",
        "a_b.example",
        "пример.рф",
        "日本語.jp",
        "r3---sn-x.googlevideo.com",
        "1e100.net",
        "münchen.de",
        "한국.kr",
        "ελλάδα.gr",
    ],
)
def test_ordinary_names_are_taken(value: str) -> None:
    """Names of one script, underscores and doubled hyphens are ordinary."""
    assert canonical.host(canonical.host(value)) == canonical.host(value)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("64:ff9b::7f00:1", "loopback"),
        ("2002:7f00:1::", "loopback"),
        ("::127.0.0.1", "loopback"),
        ("2001:0:0:0:0:0:80ff:fffe", "loopback"),
        ("10.1.2.3", "private"),
        ("fd12::1", "private"),
        ("169.254.1.1", "link-local"),
        ("fe80::1", "link-local"),
        ("febf::1", "link-local"),
        ("169.254.169.254", "metadata"),
        ("fd00:ec2::254", "metadata"),
        ("100.100.100.200", "metadata"),
        ("168.63.129.16", "metadata"),
        ("100.64.0.1", "cgnat"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("192.0.2.1", "documentation"),
        ("2001:db8::1", "documentation"),
        ("198.18.0.1", "benchmarking"),
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "broadcast"),
        ("64:ff9b::a9fe:a9fe", "metadata"),
        ("64:ff9b:1::a00:1", "private"),
        ("::ffff:0:127.0.0.1", "loopback"),
        ("0.1.2.3", "this-network"),
        ("192.0.0.8", "protocol"),
    ],
)
def test_special_addresses_are_classified(address: str, expected: str) -> None:
    """An address carries its class and the classes of what it embeds."""
    assert expected in canonical.ip_classes(address)
    assert addresses.is_internal_ip(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2001:4860:4860::8888", "11.0.0.1"]
)
def test_public_addresses_have_no_class(address: str) -> None:
    """Ordinary public addresses are neither internal nor forbidden."""
    assert canonical.ip_classes(address) == frozenset()
    assert not addresses.is_never_allowed_ip(address)


def test_public_address_in_an_embedding_stays_public() -> None:
    """NAT64 of a public address is public: DNS64 networks give such answers for every name."""
    assert not addresses.is_internal_ip("64:ff9b::808:808")


@pytest.mark.parametrize("value", ["", "x", "1.2.3", "fe80::1%eth0", "[::1]", "10.0.0.0/8", "0x7f.1"])
def test_only_plain_literals_are_addresses(value: str) -> None:
    """Facts give addresses in plain form; anything else is refused, not taken for public."""
    with pytest.raises(ActionError):
        canonical.ip(value)
    with pytest.raises(ActionError):
        canonical.ip_classes(value)


SAME_PATH = {
    "/": ["", "/", "//", "/a/..", "/./", "/;x"],
    "/secret": [
        "/secret",
        "/public/../secret",
        "/public/%2e%2e/secret",
        "//public//../secret",
        "/public/..;/secret",
        "/public/%2E%2E;x/secret",
        "/public;x=1/../secret",
        "/./secret",
        "/%73ecret",
        "/public/..%3b/secret",
    ],
    "/a/b/": ["/a/b/.", "/a/b/", "/a//b/", "/a/b/c/.."],
    "/caf%C3%A9": ["/caf%c3%a9", "/caf%C3%A9", "/café"],
    "/a%2Fb": ["/a%2fb", "/a%2Fb"],
    "/a%20b%3F": ["/a b%3f", "/a%20b%3F"],
}


@pytest.mark.parametrize(("expected", "spelling"), [(k, v) for k, vs in SAME_PATH.items() for v in vs])
def test_spellings_of_one_request_path_are_one_path(expected: str, spelling: str) -> None:
    """Dot segments, doubled slashes, path parameters and needless encoding leave one path."""
    assert canonical.request_path(spelling) == expected
    assert canonical.request_path(expected) == expected


@pytest.mark.parametrize(
    "value",
    [
        "a",
        "/..",
        "/a/../..",
        "/..;",
        "/a%00b",
        "/a%0Ab",
        "/a%7f",
        "/a\nb",
        "/a\\b",
        "/a%5cb",
        "/a#b",
        "/a?b",
        "/%",
        "/%zz",
        "/%C0%AF",
        "/%ff",
        "/a/..%2fb",
        "/.%2fb",
        "/" + "a" * 4096,
        7,
        "/\ud800",
    ],
)
def test_ambiguous_request_paths_are_refused(value: object) -> None:
    """What one server reads one way and another one otherwise is refused."""
    with pytest.raises(ActionError):
        canonical.request_path(value)


def test_targets_off_the_wire_are_stricter() -> None:
    """On the wire an encoded slash needs leave, and raw bytes beyond ASCII are refused."""
    assert canonical.request_target("http://h:1/a/../b?x=/../y") == ("/b", "x=/../y", "h:1")
    assert canonical.request_target("/fetch/http://x?y").path == "/fetch/http:/x"
    assert canonical.request_target("/a%2fb", allow_encoded_slash=True).path == "/a%2Fb"
    for target in ("/a%2fb", "/é", "/a b", "*", "a", "/a#b"):
        with pytest.raises(ActionError):
            canonical.request_target(target)


def test_queries_decode_once_and_keep_order() -> None:
    """`+` is a space, `%2B` a plus, repeated names keep their values, what cannot be decoded is refused."""
    assert canonical.parse_query("q=a%2Bb&q=c+d&flag&e=&x=%25%32%35") == {
        "q": ["a+b", "c d"],
        "flag": [""],
        "e": [""],
        "x": ["%25"],
    }
    for raw in ("a=%", "a=%f", "%zz=1", "a=%C0%AF", "a=%00"):
        with pytest.raises(ActionError):
            canonical.parse_query(raw)


@pytest.mark.parametrize(
    "value",
    [
        "https://api.example.com:x@evil/",
        "https://good\\@evil/",
        "https:evil",
        "//evil",
        "https://u@h/",
        "http://h:0/",
        "http://h:65536/",
        "http://h:/",
        "http://a b/",
        "http://a\tb/",
        "http://h\n/",
        "file:///etc/passwd",
        "gopher://h/",
        "http:///x",
        "http://*.x/",
        "http://h/%2e%2e/x",
        "http://[fe80::1%25eth0]/",
        "",
        "h/x",
        5,
        "javascript://h/%0a",
        "http://h/?a=%zz",
    ],
)
def test_urls_that_parsers_read_differently_are_refused(value: object) -> None:
    """User information, backslashes, white space, odd ports and foreign schemes raise ActionError."""
    with pytest.raises(ActionError):
        canonical.url(value)


def test_spellings_of_one_url_are_one_url() -> None:
    """Scheme, host, port, path each in canonical form; the fragment goes."""
    spellings = [
        "http://example.com/b",
        "HTTP://EXAMPLE.com:80/a/../b#x",
        "http://example.com./%62",
        "http://example。com//b",
    ]
    assert {canonical.url(item) for item in spellings} == {canonical.Url("http", "example.com", 80, "/b")}
    assert str(canonical.url("https://[::1]:8443/a;b?x=1")) == "https://[::1]:8443/a?x=1"
    assert str(canonical.url("wss://h")) == "wss://h/"


def test_headers_are_lower_case_and_single() -> None:
    """Names differing in case only are one header given twice."""
    assert canonical.headers({"Accept": " x\t"}) == {"accept": "x"}
    for bad in ({"A": "1", "a": "2"}, {"a b": "1"}, {"a": "1\r\nb: 2"}, {"a": "\0"}, {"": "1"}, {"a": 1}, [1]):
        with pytest.raises(ActionError):
            canonical.headers(bad)


@pytest.mark.parametrize("value", ["", "GE T", "GET\r", "G(ET", "é", 5, "A" * 65])
def test_methods_are_tokens(value: object) -> None:
    """A method is a token of RFC 9110."""
    with pytest.raises(ActionError):
        canonical.method(value)


@pytest.mark.parametrize(
    "value",
    [
        "/proc/self/root/etc/shadow",
        "/proc/1/root",
        "/proc/self/fd/3",
        "/dev/fd/3",
        "/dev/stdin",
        "/proc/self/cwd/x",
        "/proc/../proc/self/exe",
        "//proc/7/task/7/root/x",
        "/proc/self/ns/net",
    ],
)
def test_magic_links_are_refused(value: str) -> None:
    """Names that reach past the tree they stand in are no paths."""
    with pytest.raises(ActionError):
        canonical.path(value, root="/w")
    assert canonical.path("/proc/cpuinfo", root="/w") == "/proc/cpuinfo"


def test_two_spellings_give_one_action() -> None:
    """The digest an approval binds to does not depend on the spelling."""
    forms = [
        {"kind": "net.request", "host": "0x7f.1", "port": 80, "method": "GET", "path": "/a/%2e%2e/b"},
        {"kind": "net.request", "host": "[::ffff:127.0.0.1]", "port": 80, "method": "GET", "path": "//b", "query": {}},
    ]
    assert len({Action.parse(form).digest for form in forms}) == 1
