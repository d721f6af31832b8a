"""Who calls a served gateway: tokens and OpenID Connect bound to tenants, metrics behind a right, usage by caller."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agent_os.core.errors import EffectError
from agent_os.effects import oidc
from agent_os.runtime.metering import usage_rows
from agent_os.runtime.serving.callers import digest, load_callers, new_token
from tests.e2e.models.providers import openai_reply, provider
from tests.e2e.models.serving import records, serving

POLICY = """
version: 1
data: {{teams: {{values: {{ana: blue, bo: red}}}}}}
models: {{providers: {{p: {{kind: vllm, base_url: "{url}/v1", models: ["m*"], retries: 0, tier: high}}}}, max_tokens: 100}}
privacy: {{names: lists, rules: [{{find: [EMAIL_ADDRESS], to: any, do: pseudonymise}}]}}
{more}
"""
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CURVE = ec.generate_private_key(ec.SECP256R1())


def public(key: Any, kid: str, alg: str) -> dict[str, Any]:
    algorithm = jwt.algorithms.RSAAlgorithm if alg.startswith("RS") else jwt.algorithms.ECAlgorithm
    return {**json.loads(algorithm.to_jwk(key.public_key())), "kid": kid, "alg": alg, "use": "sig"}


@contextmanager
def identity_provider(keys: list[dict[str, Any]] | None = None) -> Iterator[Any]:
    """Run an issuer on loopback: discovery and keys. `answers` counts fetches of keys; `down` makes it fail."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server: Any = self.server
            if server.down:
                self.send_error(500)
                return
            if self.path == "/keys":
                server.answers += 1
                body: Any = {"keys": server.keys}
            else:
                body = {"issuer": server.issuer, "jwks_uri": server.issuer + "/keys"}
            content = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            return

    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.issuer = f"http://127.0.0.1:{server.server_address[1]}"
    server.keys = keys if keys is not None else [public(KEY, "one", "RS256"), public(CURVE, "two", "ES256")]
    server.answers, server.down = 0, False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def claims(issuer: str, **changes: Any) -> dict[str, Any]:
    now = int(time.time())
    said = {"iss": issuer, "aud": "agentos", "sub": "ana", "tid": "acme", "iat": now, "exp": now + 300, **changes}
    return {name: value for name, value in said.items() if value is not None}


def signed(issuer: str, **changes: Any) -> str:
    return jwt.encode(claims(issuer, **changes), KEY, algorithm="RS256", headers={"kid": "one"})


def oidc_file(folder: Path, issuer: str, more: str = "") -> Path:
    path = folder / "callers.toml"
    path.write_text(f'[oidc]\nissuer = "{issuer}"\naudience = "agentos"\ntenant_claim = "tid"\n{more}')
    return path


def ask(url: str, token: str, text: str = "hi", **more: Any) -> httpx.Response:
    body = {"model": "m", "messages": [{"role": "user", "content": text}], **more}
    return httpx.post(url + "/v1/chat/completions", json=body, headers={"authorization": f"Bearer {token}"}, timeout=20)


def unsigned(head: dict[str, Any], said: dict[str, Any], signature: bytes = b"") -> str:
    def part(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).decode().rstrip("=")

    return ".".join([part(json.dumps(head).encode()), part(json.dumps(said).encode()), part(signature)])


def test_tokens_of_two_tenants_are_two_principals_with_pseudonyms_and_usage_of_their_own(tmp_path: Path) -> None:
    """Each token is its own principal: audit, usage, metrics and pseudonyms are kept apart, whatever a request's fields say."""
    ana, row_a = new_token("ana", "acme")
    bo, row_b = new_token("bo", "other")
    path = tmp_path / "callers.toml"
    rights = f'[[token]]\nsha256 = "{digest("meter")}"\nuser = "m"\ntenant = "acme"\nmay = ["all-metrics"]\n'
    path.write_text(row_a + 'may = ["models", "metrics"]\n' + row_b + rights)
    seen: list[str] = []
    spend = "budgets: [{per: user, window: day, tokens: 100000}]"

    def script(asked: Any) -> Any:
        seen.append(asked.body["messages"][-1]["content"])
        return openai_reply(seen[0], asked)  # what the first caller sent comes back to everybody

    with (
        provider(script) as near,
        serving(tmp_path, POLICY.format(url=near.url, more=spend), callers=load_callers(path)) as served,
    ):
        first = ask(served.url, ana, "mail ada@corp.example", user="bo", metadata={"tenant": "other"})
        assert first.json()["choices"][0]["message"]["content"] == "mail ada@corp.example"
        second = ask(served.url, bo, "what is [EMAIL_ADDRESS_1]?").json()["choices"][0]["message"]["content"]
        assert "ada@corp.example" not in seen[0]
        assert second == seen[0], "another tenant's placeholder is not restored"
        for stream in (False, True):
            assert ask(served.url, bo, stream=stream).status_code == 200
        assert ask(served.url, "wrong").status_code == 401
        own = httpx.get(served.url + "/metrics", headers={"authorization": f"Bearer {ana}"})
        assert own.status_code == 200
        assert 'tenant="acme"' in own.text
        assert 'for="user=acme/ana"' in own.text
        hidden = ("other", "/bo", "red", "agentos_http")
        assert not [word for word in hidden if word in own.text], "a tenant sees its own figures alone"
        page = httpx.get(served.url + "/metrics", headers={"authorization": "Bearer meter"})
        assert page.status_code == 200
        tokens = 'agentos_model_tokens_total{direction="input",model="m",provider="p",team="red",tenant="other",tier="high"} 30.0'
        assert tokens in page.text
        assert 'agentos_http_requests_total{path="/v1/chat/completions",status="401"} 1.0' in page.text
        assert httpx.get(served.url + "/metrics", headers={"authorization": f"Bearer {bo}"}).status_code == 403
        assert httpx.get(served.url + "/metrics").status_code == 401
    assert {(record["tenant"], record["user"]) for record in records(tmp_path, "intent")} == {
        ("acme", "ana"),
        ("other", "bo"),
    }
    environment = {"AGENTOS_STATE": str(tmp_path / "state")}
    by_user = {row["user"]: row for row in usage_rows("user", "total", environment=environment)}
    assert (by_user["ana"]["calls"], by_user["bo"]["calls"]) == (1, 3)
    assert by_user["ana"]["usd"] == pytest.approx((10 + by_user["ana"]["output"]) * 6 / 1e6)
    assert [row["team"] for row in usage_rows("team", "day", environment=environment)] == ["blue", "red"]


def test_a_token_expires_and_a_metrics_token_is_no_model_token(tmp_path: Path) -> None:
    """A row's dates begin and end it (the model is unavailable to one that is let in); one for metrics cannot call models."""
    path = tmp_path / "callers.toml"
    path.write_text(
        f'[[token]]\nsha256 = "{digest("old")}"\nuser = "a"\ntenant = "t"\nexpires = 2020-01-01\n'
        f'[[token]]\nsha256 = "{digest("new")}"\nuser = "a"\ntenant = "t"\nstarts = 2999-01-01\n'
        f'[[token]]\nsha256 = "{digest("now")}"\nuser = "a"\ntenant = "t"\nstarts = 2020-01-01\nexpires = 2999-01-01\n'
        f'[[token]]\nsha256 = "{digest("meter")}"\nuser = "m"\ntenant = "t"\nmay = ["metrics"]\n'
    )
    with serving(tmp_path, POLICY.format(url="http://127.0.0.1:9", more=""), callers=load_callers(path)) as served:
        assert [ask(served.url, token).status_code for token in ("old", "new", "now")] == [401, 401, 503]
        assert ask(served.url, "meter").status_code == 403
        assert httpx.get(served.url + "/metrics", headers={"x-api-key": "meter"}).status_code == 200


def test_openid_connect_callers_are_who_the_issuer_says(tmp_path: Path) -> None:
    """A valid token's tenant and subject are the principal; both key kinds work; keys are fetched once."""
    with identity_provider() as issuer, provider(lambda asked: openai_reply("fine", asked)) as near:
        callers = load_callers(oidc_file(tmp_path, issuer.issuer))
        with serving(tmp_path, POLICY.format(url=near.url, more=""), callers=callers) as served:
            assert ask(served.url, signed(issuer.issuer)).status_code == 200
            curved = jwt.encode(claims(issuer.issuer, sub="eva"), CURVE, algorithm="ES256", headers={"kid": "two"})
            assert ask(served.url, curved).status_code == 200
            assert issuer.answers == 1
    who = {(record["tenant"], record["user"]) for record in records(tmp_path, "intent")}
    assert who == {("acme", "ana"), ("acme", "eva")}


def test_forged_and_foreign_tokens_do_not_get_in(tmp_path: Path) -> None:
    """Algorithm confusion, no algorithm, foreign keys, audience, issuer, time, missing claims and tricks in the header: 401."""
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with identity_provider() as issuer, provider(lambda asked: openai_reply("fine", asked)) as near:
        name, now = issuer.issuer, int(time.time())
        pem = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        head = {"alg": "HS256", "typ": "JWT", "kid": "one"}
        unfinished = unsigned(head, claims(name)).rpartition(".")[0]
        confused = (
            unfinished
            + "."
            + base64.urlsafe_b64encode(hmac.digest(pem, unfinished.encode(), hashlib.sha256)).decode().rstrip("=")
        )
        attacks = {
            "the public key as an HMAC secret": confused,
            "no algorithm": unsigned({"alg": "none", "kid": "one"}, claims(name)),
            "no algorithm, odd case": unsigned({"alg": "nOnE", "kid": "one"}, claims(name)),
            "signed by a stranger": jwt.encode(claims(name), stranger, algorithm="RS256", headers={"kid": "one"}),
            "its own key in the header": jwt.encode(
                claims(name), stranger, algorithm="RS256", headers={"kid": "one", "jwk": public(stranger, "one", "RS256")}
            ),
            "keys elsewhere": jwt.encode(claims(name), stranger, algorithm="RS256", headers={"kid": "x", "jku": "http://127.0.0.1:1/"}),
            "an EC key id under RS256": jwt.encode(claims(name), KEY, algorithm="RS256", headers={"kid": "two"}),
            "an allowed key, an algorithm that is not": jwt.encode(claims(name), KEY, algorithm="RS512", headers={"kid": "one"}),
            "an unknown key id": jwt.encode(claims(name), KEY, algorithm="RS256", headers={"kid": "../../etc"}),
            "no key id": jwt.encode(claims(name), KEY, algorithm="RS256"),
            "another audience": signed(name, aud="billing"),
            "no audience": signed(name, aud=None),
            "another issuer": signed(name, iss="https://evil.example"),
            "expired": signed(name, exp=now - 120),
            "no expiry": signed(name, exp=None),
            "not valid yet": signed(name, nbf=now + 3600),
            "no subject": signed(name, sub=None),
            "no tenant": signed(name, tid=None),
            "a tenant that is no text": signed(name, tid=["acme"]),
            "a tenant with a line break": signed(name, tid="acme\nx"),
            "demands what is unknown": jwt.encode(claims(name), KEY, algorithm="RS256", headers={"kid": "one", "crit": ["b64"]}),
            "cut": signed(name)[:-20],
            "huge": signed(name) + "A" * oidc.TOKEN_CHARS_MAX,
        }  # fmt: skip
        callers = load_callers(oidc_file(tmp_path, name))
        with serving(tmp_path, POLICY.format(url=near.url, more=""), callers=callers) as served:
            got = {what: ask(served.url, token).status_code for what, token in attacks.items()}
            assert ask(served.url, signed(name)).status_code == 200, "the benign twin"
        assert got == dict.fromkeys(attacks, 401) | {"huge": got["huge"]}
        assert got["huge"] in (401, 431)
        assert issuer.answers <= 2, "unknown key ids do not make it ask the issuer each time"
        assert near.asked and len(near.asked) == 1


def test_an_issuer_that_is_down_lets_nobody_in(tmp_path: Path) -> None:
    """Without keys nobody is known: not a success, and no call reaches a provider."""
    with identity_provider() as issuer, provider(lambda asked: openai_reply("fine", asked)) as near:
        issuer.down = True
        callers = load_callers(oidc_file(tmp_path, issuer.issuer))
        with serving(tmp_path, POLICY.format(url=near.url, more=""), callers=callers) as served:
            assert ask(served.url, signed(issuer.issuer)).status_code == 502
        assert not near.asked


def test_shared_secrets_among_an_issuers_keys_are_not_used(tmp_path: Path) -> None:
    """A key of kind `oct`, or one for encryption, verifies nothing."""
    secret = base64.urlsafe_b64encode(b"s" * 32).decode().rstrip("=")
    keys = [{"kty": "oct", "kid": "one", "k": secret, "alg": "HS256"}, {**public(KEY, "three", "RS256"), "use": "enc"}]
    with identity_provider(keys) as issuer, provider(lambda asked: openai_reply("fine", asked)) as near:
        callers = load_callers(oidc_file(tmp_path, issuer.issuer))
        with serving(tmp_path, POLICY.format(url=near.url, more=""), callers=callers) as served:
            forged = jwt.encode(claims(issuer.issuer), b"s" * 32, algorithm="HS256", headers={"kid": "one"})
            assert ask(served.url, forged).status_code == 401
            enc = jwt.encode(claims(issuer.issuer), KEY, algorithm="RS256", headers={"kid": "three"})
            assert ask(served.url, enc).status_code in (401, 502)
        assert not near.asked


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "nobody could call"), ("[[token]]\n", "sha256"), ("[token]\n", "two brackets"), ("x = 1\n", "unknown section"), ("[[token\n", "no TOML"),
        (f'[[token]]\nsha256 = "{"a" * 64}"\nuser = "u"\n', "tenant: is missing"),
        (f'[[token]]\nsha256 = "{"a" * 64}"\nuser = "u"\ntenant = "t"\nrole = "x"\n', "unknown key"),
        (f'[[token]]\nsha256 = "{"a" * 64}"\nuser = "u"\ntenant = "t"\nexpires = "soon"\n', "must be a date"),
        (f'[[token]]\nsha256 = "{"a" * 64}"\nuser = "u"\ntenant = "t"\nmay = ["all"]\n', "may"),
        ('[oidc]\nissuer = "https://i.example"\naudience = "a"\n', "tenant_claim"),
        ('[oidc]\nissuer = "http://i.example"\naudience = "a"\ntenant = "t"\n', "https"),
        ('[oidc]\nissuer = "https://i.example"\naudience = "a"\ntenant = "t"\nalgorithms = ["HS256"]\n', "HS256"),
        ('[oidc]\nissuer = "https://i.example"\ntenant = "t"\n', "audience"),
    ],
)  # fmt: skip
def test_a_bad_file_of_callers_names_its_fault(tmp_path: Path, text: str, says: str) -> None:
    """Nothing is served on a file of callers that is not understood."""
    path = tmp_path / "callers.toml"
    path.write_text(text)
    with pytest.raises(EffectError, match=says):
        load_callers(path)
