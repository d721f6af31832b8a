"""Laws of the canonicaliser over random input: total, idempotent, and blind to spelling."""

from __future__ import annotations

import ipaddress
from urllib.parse import quote

from hypothesis import given, settings
from hypothesis import strategies as st

from agent_os.core import canonical
from agent_os.core.canonical.addresses import embedded_ipv4, parse_ip
from agent_os.core.errors import ActionError

RUNS = settings(max_examples=150, deadline=None)
LETTERS = st.characters(
    min_codepoint=0x21, max_codepoint=0x2FF, exclude_characters="/;\\?#%\x7f", exclude_categories=("Cc", "Cs")
)
ODD = st.text(alphabet=st.sampled_from("abzAZ019.-_:[]%/\\@#?*;&=+ \t\n\0éаß。１xn"), max_size=24)


@RUNS
@given(ODD)
def test_host_is_total_and_idempotent(text: str) -> None:
    """Any text gives a host that is its own canonical form, or ActionError; nothing else is ever raised."""
    try:
        once = canonical.host(text)
    except ActionError:
        return
    assert canonical.host(once) == once
    assert once.isascii()
    assert once == once.lower()


@RUNS
@given(st.integers(0, 2**32 - 1))
def test_ipv4_forms_agree(number: int) -> None:
    """Decimal, hexadecimal, octal and mapped spellings of an address are one host."""
    plain = str(ipaddress.IPv4Address(number))
    first, rest = divmod(number, 2**24)
    forms = [str(number), hex(number), f"0{number:o}", f"{first}.{rest}", f"[::ffff:{plain}]", plain + "."]
    assert {canonical.host(form) for form in forms} == {plain}


@RUNS
@given(st.integers(0, 2**32 - 1), st.sampled_from(["::ffff:{}", "64:ff9b::{}"]))
def test_embedded_addresses_keep_their_classes(number: int, form: str) -> None:
    """What an address is called inside IPv6 does not change what it is."""
    inner = ipaddress.IPv4Address(number)
    outer = parse_ip(form.format(inner))
    assert outer is not None
    assert embedded_ipv4(outer) == inner
    assert canonical.ip_classes(str(inner)) <= canonical.ip_classes(str(outer))


@RUNS
@given(st.text(alphabet=st.sampled_from("ab/.%2eEfF;\\?#é \n0"), max_size=24))
def test_request_path_is_total_and_idempotent(text: str) -> None:
    """Any text gives a path free of dot segments and doubled slashes, or ActionError."""
    try:
        once = canonical.request_path("/" + text)
    except ActionError:
        return
    assert canonical.request_path(once) == once
    assert not {".", ".."} & set(once.split("/"))
    assert "//" not in once


@RUNS
@given(st.lists(st.text(alphabet=LETTERS, min_size=1, max_size=6), max_size=4))
def test_percent_encoding_is_no_difference(segments: list[str]) -> None:
    """A path and the same path with every byte encoded are one path."""
    if any(segment in (".", "..") for segment in segments):
        return
    plain = "/" + "/".join(segments)
    encoded = "/" + "/".join("".join(f"%{byte:02x}" for byte in segment.encode()) for segment in segments)
    assert canonical.request_path(plain) == canonical.request_path(encoded)


@RUNS
@given(st.dictionaries(st.text(max_size=5), st.lists(st.text(max_size=5), min_size=1, max_size=3), max_size=4))
def test_queries_round_trip(values: dict[str, list[str]]) -> None:
    """Encoding and decoding parameters gives them back, for all text that can be sent."""
    flat = [(name, item) for name, items in values.items() for item in items]
    if any("\0" in part or not part.isprintable() or (not name) for name, item in flat for part in (name, item)):
        return
    raw = "&".join(f"{quote(name, safe='')}={quote(item, safe='')}" for name, item in flat)
    assert canonical.parse_query(raw) == values


@RUNS
@given(st.text(max_size=30))
def test_url_is_total(text: str) -> None:
    """Any text gives a URL whose text is the same URL again, or ActionError."""
    try:
        once = canonical.url("http://" + text)
    except ActionError:
        return
    assert canonical.url(str(once)) == once
