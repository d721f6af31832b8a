"""OpenID Connect tokens: verified against the issuer's published keys. PyJWT does the cryptography.

What is accepted is stated, never taken from the token: the algorithms (asymmetric ones only, so that a public key is never
used as an HMAC secret, and `none` does not exist), the issuer, the audience. A key serves the algorithm it was published
for. Keys are fetched over https (or from loopback), bounded, without redirects, and kept a while; an unknown key id fetches
them again, but not faster than REFETCH_SECONDS. Threats: algorithm confusion, a token for somebody else or of another issuer,
an expired one, a key that the token itself names (`jku`, `jwk`, `x5u` are not read), a flood of unknown key ids, an issuer
that is down (nobody gets in).
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from agent_os.core.errors import EffectError, MissingPartError

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
TOKEN_CHARS_MAX: Final = 16_384
KEYS_BYTES_MAX: Final = 512 * 1024
KEYS_MAX: Final = 100
FETCH_SECONDS_MAX: Final = 5.0
KEYS_SECONDS: Final = 600.0
REFETCH_SECONDS: Final = 30.0
LEEWAY_SECONDS: Final = 30
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


class TokenRefusedError(EffectError):
    """The token is not accepted; the message says why, never what is in it."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who may vouch for callers. `keys_url` empty: found by the issuer's discovery document."""

    issuer: str
    audience: str
    keys_url: str = ""
    algorithms: tuple[str, ...] = ("RS256", "ES256")

    def __post_init__(self) -> None:
        unknown = sorted(set(self.algorithms) - set(ALGORITHMS))
        if unknown or not self.algorithms:
            raise EffectError(f"oidc.algorithms: {unknown[0] if unknown else 'empty'}: one of {', '.join(ALGORITHMS)}")
        for name, url in (("issuer", self.issuer), ("jwks", self.keys_url)):
            if url:
                _checked(name, url)
        if not self.issuer or not self.audience:
            raise EffectError("oidc.issuer and oidc.audience: both are needed")


def _checked(name: str, url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise EffectError(f"oidc.{name}: must be an https URL")
    return url


class TokenVerifier:
    """Verifies tokens of one issuer. Raises MissingPartError where PyJWT is not installed."""

    def __init__(self, issuer: Issuer) -> None:
        try:
            import jwt  # noqa: PLC0415 - an extra
        except ImportError:
            raise MissingPartError("the verifier of OpenID Connect tokens", "oidc") from None
        self._jwt, self._issuer = jwt, issuer
        self._keys: dict[str, Any] = {}
        self._fetched = self._tried = -1e9
        self._fetching = asyncio.Lock()

    async def claims(self, token: str) -> Mapping[str, Any]:
        """Return the claims of a token that is valid now. Raises TokenRefusedError; EffectError without keys."""
        jwt, issuer = self._jwt, self._issuer
        if len(token) > TOKEN_CHARS_MAX:
            raise TokenRefusedError("the token is too long")
        try:
            head = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise TokenRefusedError("the token is no JWT") from None
        if head.get("alg") not in issuer.algorithms:
            raise TokenRefusedError("the token's algorithm is not among oidc.algorithms")
        if "crit" in head:
            raise TokenRefusedError("the token demands what is not understood (crit)")
        key = await self._key(head.get("kid"))
        if key.algorithm_name != head["alg"]:
            raise TokenRefusedError("the token's algorithm is not its key's")
        try:
            claims: Mapping[str, Any] = jwt.decode(
                token,
                key,
                algorithms=list(issuer.algorithms),
                audience=issuer.audience,
                issuer=issuer.issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.PyJWTError as error:
            raise TokenRefusedError(f"the token is not accepted: {_why(error)}") from None
        return claims

    async def _key(self, kid: Any) -> Any:
        if not isinstance(kid, str) and not (kid is None and len(self._keys) == 1):
            if kid is not None or self._keys:
                raise TokenRefusedError("the token names no key")
        async with self._fetching:
            now = time.monotonic()
            known = self._find(kid)
            stale = now - self._fetched > KEYS_SECONDS
            if (known is None or stale) and now - self._tried > REFETCH_SECONDS:
                self._tried = now
                self._keys = await self._fetch()
                self._fetched = time.monotonic()
            elif stale:
                raise EffectError("oidc: the issuer's keys are too old and cannot be had now")
            known = self._find(kid)
        if known is None:
            raise TokenRefusedError("the token's key is not among the issuer's")
        return known

    def _find(self, kid: str | None) -> Any:
        if kid is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(kid)

    async def _fetch(self) -> dict[str, Any]:
        """Return the issuer's signing keys by id. Raises EffectError."""
        url = self._issuer.keys_url
        if not url:
            found = await _json(self._issuer.issuer.rstrip("/") + "/.well-known/openid-configuration")
            if found.get("issuer") != self._issuer.issuer:
                raise EffectError("oidc: the discovery document is another issuer's")
            url = _checked("jwks", str(found.get("jwks_uri", "")))
        listed = (await _json(url)).get("keys")
        if not isinstance(listed, list) or len(listed) > KEYS_MAX:
            raise EffectError("oidc: the issuer's answer is no list of keys")
        keys: dict[str, Any] = {}
        for item in listed:
            if (
                not isinstance(item, dict)
                or item.get("use", "sig") != "sig"
                or item.get("kty") not in ("RSA", "EC", "OKP")
            ):
                continue  # `oct` would be a shared secret
            try:
                key = self._jwt.PyJWK(item)
            except self._jwt.PyJWTError:
                continue
            keys[str(item.get("kid", ""))] = key
        if not keys:
            raise EffectError("oidc: the issuer publishes no key that can be used")
        return keys


def _why(error: Exception) -> str:
    return {
        "ExpiredSignatureError": "it has expired",
        "InvalidAudienceError": "it is for another audience",
        "InvalidIssuerError": "it is of another issuer",
        "InvalidSignatureError": "its signature is wrong",
        "ImmatureSignatureError": "it is not valid yet",
        "MissingRequiredClaimError": "a claim is missing (exp, iss, aud and sub are needed)",
    }.get(type(error).__name__, "it is malformed")


async def _json(url: str) -> dict[str, Any]:
    try:
        async with (
            asyncio.timeout(FETCH_SECONDS_MAX),
            httpx.AsyncClient(verify=ssl.create_default_context(), trust_env=False, follow_redirects=False) as client,
            client.stream("GET", url, headers={"accept": "application/json", "accept-encoding": "identity"}) as answer,
        ):
            if answer.status_code != 200:
                raise EffectError(f"oidc: the issuer's keys cannot be had: status {answer.status_code}")
            content = bytearray()
            async for part in answer.aiter_bytes():
                content += part
                if len(content) > KEYS_BYTES_MAX:
                    raise EffectError(f"oidc: the issuer's answer is larger than {KEYS_BYTES_MAX} bytes")
        value = json.loads(content)
    except (httpx.HTTPError, TimeoutError, ValueError, RecursionError):
        raise EffectError("oidc: the issuer's keys cannot be had") from None
    if not isinstance(value, dict):
        raise EffectError("oidc: the issuer's answer is no object")
    return value
