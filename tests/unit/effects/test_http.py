"""`effects/http.py` against real servers on loopback."""

from __future__ import annotations

import gzip
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent_os.core.action import NetRequest
from agent_os.core.carried import Carried
from agent_os.core.errors import EffectError
from agent_os.core.ports import Permit
from agent_os.effects.http import Http
from tests.unit.effects.servers import Seen, certificate, http_server

HERE = Permit("n", "a", "f", "k", ("127.0.0.1",))


def echo(seen: Seen) -> tuple[int, dict[str, str], bytes]:
    return 200, {"content-type": "text/plain"}, seen.body or b"hello"


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    effector = Http(carried=Carried(), response_bytes_max=100_000, request_seconds_max=5.0)
    yield effector
    await effector.aclose()


def request(port: int, **more: object) -> NetRequest:
    given = {"host": "erp.corp.example", "method": "GET", "scheme": "http", **more}
    return NetRequest(port=port, **given)  # type: ignore[arg-type]


async def test_it_connects_to_the_judged_address_under_the_name(http: Http) -> None:
    """A name that no resolver knows is reached at the judged address, with the name in Host."""
    with http_server(echo) as server:
        value = (await http.execute(HERE, request(server.port, path="/a b/é", query={"q": ["1", "x&y"]}))).value
    assert (value["status"], value["content"], value["truncated"]) == (200, b"hello", False)
    assert server.seen[0].headers["host"] == f"erp.corp.example:{server.port}"
    assert server.seen[0].target == "/a%20b/%C3%A9?q=1&q=x%26y"


async def test_without_a_judged_address_nothing_is_connected(http: Http) -> None:
    """No address in the permit means no connection, whatever the name resolves to."""
    with http_server(echo) as server:
        with pytest.raises(EffectError, match="no address was judged"):
            await http.execute(Permit("n", "a", "f", "k"), request(server.port, host="localhost"))
        assert server.connections == 0


async def test_the_next_judged_address_is_tried_when_the_first_refuses(http: Http) -> None:
    """An address that refuses the connection is passed over."""
    with http_server(echo) as server:
        permit = Permit("n", "a", "f", "k", ("127.0.0.9", "127.0.0.1"))
        assert (await http.execute(permit, request(server.port))).value["status"] == 200


async def test_proxies_of_the_environment_are_ignored(http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP_PROXY and ALL_PROXY change nothing."""
    with http_server(echo) as proxy, http_server(echo) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        await http.execute(HERE, request(server.port))
        assert (len(server.seen), len(proxy.seen)) == (1, 0)


async def test_redirects_are_returned_not_followed(http: Http) -> None:
    """The effector sends one request; where it points to is for the tool to ask."""
    with http_server(lambda _: (302, {"location": "http://evil.example/"}, b"")) as server:
        value = (await http.execute(HERE, request(server.port))).value
    assert (value["status"], value["headers"]["location"]) == (302, "http://evil.example/")
    assert len(server.seen) == 1


async def test_cookies_are_not_kept(http: Http) -> None:
    """What a server sets is neither shown nor sent back."""
    with http_server(lambda _: (200, {"set-cookie": "id=1"}, b"x")) as server:
        value = (await http.execute(HERE, request(server.port))).value
        await http.execute(HERE, request(server.port))
    assert "set-cookie" not in value["headers"]
    assert "cookie" not in server.seen[1].headers


async def test_long_responses_are_cut(http: Http) -> None:
    """A response over the cap comes back cut and says so; one at the cap is whole."""
    with http_server(lambda seen: (200, {}, b"x" * int(seen.target[1:]))) as server:
        value = (await http.execute(HERE, request(server.port, path="/250000"))).value
        exact = (await http.execute(HERE, request(server.port, path="/100000"))).value
    assert (len(value["content"]), value["truncated"]) == (100_000, True)
    assert (len(exact["content"]), exact["truncated"]) == (100_000, False)


async def test_compressed_responses_are_unpacked_up_to_the_cap(http: Http) -> None:
    """A bomb of 50 MB in 50 kB unpacks to the cap and no further; an honest gzip body is whole."""
    bodies = {"/bomb": gzip.compress(bytes(50_000_000)), "/fine": gzip.compress(b"fine")}
    with http_server(lambda seen: (200, {"content-encoding": "gzip"}, bodies[seen.target])) as server:
        bomb = (await http.execute(HERE, request(server.port, path="/bomb"))).value
        fine = (await http.execute(HERE, request(server.port, path="/fine"))).value
    assert (len(bomb["content"]), bomb["truncated"]) == (100_000, True)
    assert (fine["content"], fine["truncated"]) == (b"fine", False)


async def test_an_unasked_content_coding_is_an_error(http: Http) -> None:
    """A coding that was not offered is not guessed at."""
    with (
        http_server(lambda _: (200, {"content-encoding": "br"}, b"x")) as server,
        pytest.raises(EffectError, match="not asked for"),
    ):
        await http.execute(HERE, request(server.port))


@pytest.mark.parametrize(
    "headers",
    [{"Host": "other.example"}, {"x": "a\r\nhost: b"}, {"a b": "c"}, {"Transfer-Encoding": "chunked"},
     {"content-length": "0"}, {"x": "\0"}],
)  # fmt: skip
async def test_headers_of_the_runtime_and_malformed_ones_are_refused(http: Http, headers: dict[str, str]) -> None:
    """Nothing is sent with a header that would smuggle or contradict."""
    with http_server(echo) as server:
        with pytest.raises(EffectError, match="header"):
            await http.execute(HERE, request(server.port, headers=headers))
        assert server.seen == []


async def test_the_body_sent_is_the_body_judged(http: Http) -> None:
    """Text and JSON bodies are sent as judged; a digest that says otherwise stops the request."""
    with http_server(echo) as server:
        sent = (await http.execute(HERE, request(server.port, method="POST", body={"b": 1, "a": 2}))).value
        assert sent["content"] == b'{"a":2,"b":1}'
        with pytest.raises(EffectError, match="digest"):
            await http.execute(HERE, request(server.port, method="POST", body="x", body_digest="sha256:0"))
        assert len(server.seen) == 1


async def test_tls_is_verified_against_the_name(tmp_path: Path) -> None:
    """The right name is served; another name, or an unknown issuer, is refused before anything is sent."""
    context, trust = certificate(tmp_path, "erp.corp.example")
    with http_server(echo, tls=context) as server:
        http = Http(carried=Carried(), trust=trust)
        value = (await http.execute(HERE, request(server.port, scheme="https"))).value
        assert value["status"] == 200
        with pytest.raises(EffectError, match="certificate"):
            await http.execute(HERE, request(server.port, scheme="https", host="bank.example"))
        untrusting = Http(carried=Carried())
        with pytest.raises(EffectError, match="certificate"):
            await untrusting.execute(HERE, request(server.port, scheme="https"))
        assert len(server.seen) == 1
        await http.aclose()
        await untrusting.aclose()


async def test_connections_are_kept_for_one_name_only(http: Http) -> None:
    """Two requests to one name share a connection; another name at the same address gets its own."""
    with http_server(echo) as server:
        await http.execute(HERE, request(server.port))
        await http.execute(HERE, request(server.port))
        assert server.connections == 1
        await http.execute(HERE, request(server.port, host="other.example"))
        assert server.connections == 2


async def test_a_silent_server_ends_at_the_deadline() -> None:
    """A server that never answers costs the time limit and no more."""
    gate = threading.Event()

    def hang(_: Seen) -> tuple[int, dict[str, str], bytes]:
        gate.wait(10)
        return 200, {}, b""

    http = Http(carried=Carried(), request_seconds_max=0.2)
    with http_server(hang) as server:
        with pytest.raises(EffectError, match=r"0\.2 s"):
            await http.execute(HERE, request(server.port))
        gate.set()
    await http.aclose()
