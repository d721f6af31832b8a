"""Who calls the served gateway: tokens and OpenID Connect, each bound to a principal. A TOML file of the operator.

    [[token]]                                     [oidc]
    sha256 = "…"   # of the token, never it       issuer = "https://login.corp.example"
    user   = "ana@corp.example"                   audience = "agentos"
    tenant = "acme"                               # jwks, algorithms, user_claim, tenant_claim, tenant,
    # may = ["approvals"]; groups = ["finance"]    # groups_claim, approver_group

The credential says tenant, user and agent; no header or field of a request does. The file grants entry, never an action: what a
caller may do is the policy's. Threats: one tenant's credential used for another, a token file that leaks tokens (it
holds digests of random tokens only), a credential that never ends or begins too early (`expires`, `starts`), a tenant that reads
the meters of everybody (`metrics` shows its own; `all-metrics` is the operator's).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

from agent_os.core.errors import EffectError
from agent_os.core.principal import Principal

TOKEN_BYTES: Final = 24
NAME_CHARS_MAX: Final = 200
CALLERS_BYTES_MAX: Final = 1 << 20
_RIGHTS: Final = frozenset({"models", "metrics", "all-metrics", "approvals"})
_TOKEN_KEYS: Final = frozenset({"sha256", "user", "tenant", "agent", "starts", "expires", "may", "groups"})
_OIDC_KEYS: Final = frozenset(
    {
        "issuer", "audience", "jwks", "algorithms", "user_claim", "tenant_claim", "tenant", "agent",
        "groups_claim", "approver_group",
    }
)  # fmt: skip
_NAME: Final = re.compile(r"[^\x00-\x1f\x7f]{1,200}")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a credential stands for, and what it opens: `models`, `metrics` (its tenant's), `all-metrics`, `approvals`.

    A credential that answers asks is a person's and opens no models: whoever holds it for an agent could approve for it.
    `groups` are `group:NAME`, as a policy's `approvals.approvers` writes them.
    """

    principal: Principal
    may: frozenset[str] = frozenset({"models"})
    since: date | None = None
    until: date | None = None
    """The first and the last day it is good for, in UTC."""
    groups: frozenset[str] = frozenset()


class Callers:
    """Knows callers by their credentials."""

    def __init__(self, tokens: Mapping[str, Caller], oidc: Any = None, claims: Mapping[str, str] | None = None) -> None:
        """`tokens` by SHA-256 (hex); `oidc` is an effects.oidc.TokenVerifier, `claims` what its section says."""
        self._tokens, self._oidc, self._claims = dict(tokens), oidc, dict(claims or {})

    @staticmethod
    def single(token: str, principal: Principal) -> Callers:
        """Return the callers of a server with one token."""
        return Callers({digest(token): Caller(principal, frozenset({"models", "metrics", "all-metrics"}))})

    def take(self, other: Callers) -> None:
        """Know whom another knows instead: a file that was read again. A credential that is not in it opens nothing more."""
        self._tokens, self._oidc, self._claims = other._tokens, other._oidc, other._claims

    async def who(self, headers: Mapping[str, str]) -> Caller | None:
        """Return who shows these headers (names in lower case), or None, also for two credentials at once.

        Raises EffectError where nobody can tell.
        """
        scheme, _, value = headers.get("authorization", "").partition(" ")
        bearer = value.strip() if scheme.lower() == "bearer" else ""
        shown = headers.get("x-api-key", "") or bearer
        if not shown or (bearer and bearer != shown):
            return None
        known = self._tokens.get(digest(shown))
        if known is not None:
            today = datetime.now(UTC).date()
            return known if (known.since or today) <= today <= (known.until or today) else None
        if self._oidc is None or shown.count(".") != 2:
            return None
        return await self._vouched(shown)

    async def _vouched(self, token: str) -> Caller | None:
        from agent_os.effects.oidc import TokenRefusedError  # noqa: PLC0415 - only where a file names an issuer

        try:
            claims = await self._oidc.claims(token)
        except TokenRefusedError:
            return None
        user = claims.get(self._claims.get("user_claim", "sub"))
        tenant = (
            claims.get(self._claims["tenant_claim"]) if "tenant_claim" in self._claims else self._claims.get("tenant")
        )
        if not all(isinstance(name, str) and _NAME.fullmatch(name) for name in (user, tenant)):
            return None  # a token without a tenant is nobody's
        named = claims.get(self._claims["groups_claim"]) if "groups_claim" in self._claims else None
        listed = named if isinstance(named, list) else [named]
        groups = frozenset(f"group:{each}" for each in listed if isinstance(each, str) and _NAME.fullmatch(each))
        answers = f"group:{self._claims['approver_group']}" in groups if "approver_group" in self._claims else False
        principal = Principal(tenant=str(tenant), user=str(user), agent=self._claims.get("agent", "main"))
        return Caller(principal, frozenset({"approvals"} if answers else {"models"}), groups=groups)


def digest(token: str) -> str:
    """Return what the callers' file holds of a token: random tokens of 24 bytes need no salt."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def new_token(
    user: str,
    tenant: str,
    *,
    agent: str = "",
    starts: date | None = None,
    expires: date | None = None,
    may: Sequence[str] = (),
) -> tuple[str, str]:
    """Return a fresh token and its row for the callers' file. Raises EffectError for a row that would not load."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    row = f'[[token]]\nsha256 = "{digest(token)}"\nuser = {_quoted(user)}\ntenant = {_quoted(tenant)}\n'
    row += f"agent = {_quoted(agent)}\n" if agent else ""
    row += "".join(f"{name} = {day}\n" for name, day in (("starts", starts), ("expires", expires)) if day is not None)
    row += f"may = [{', '.join(map(_quoted, may))}]\n" if may else ""
    _token("--new-token", tomllib.loads(row)["token"][0])
    return token, row


def load_callers(path: Path) -> Callers:
    """Return the callers of a file. Raises EffectError naming the entry and what is wrong with it."""
    from agent_os.effects.oidc import Issuer, TokenVerifier  # noqa: PLC0415

    try:
        with path.open("rb") as file:
            content = file.read(CALLERS_BYTES_MAX + 1)
        if len(content) > CALLERS_BYTES_MAX:
            raise EffectError(f"{path}: larger than {CALLERS_BYTES_MAX} bytes")
        data = tomllib.loads(content.decode())
    except OSError as error:
        raise EffectError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise EffectError(f"{path}: no TOML: {error}") from None
    unknown = sorted(set(data) - {"token", "oidc"})
    if unknown:
        raise EffectError(f"{path}: unknown section {unknown[0]!r} (token, oidc)")
    rows = data.get("token", [])
    if not isinstance(rows, list):
        raise EffectError(f"{path}: write [[token]], with two brackets")
    tokens: dict[str, Caller] = {}
    for index, row in enumerate(rows):
        name = f"{path}: token[{index}]"
        key, caller = _token(name, row)
        if key in tokens:
            raise EffectError(f"{name}: this token stands for somebody already")
        tokens[key] = caller
    section = data.get("oidc")
    if section is None:
        if not tokens:
            raise EffectError(f"{path}: nobody could call: it has no [[token]] and no [oidc]")
        return Callers(tokens)
    claims = _strings(f"{path}: oidc", section, _OIDC_KEYS - {"algorithms"})
    if ("tenant" in claims) == ("tenant_claim" in claims):
        raise EffectError(
            f"{path}: oidc: needs exactly one of tenant (a name) and tenant_claim (a claim that holds it)"
        )
    if "approver_group" in claims and "groups_claim" not in claims:
        raise EffectError(f"{path}: oidc.approver_group: needs groups_claim, the claim that holds the groups")
    algorithms = section.get("algorithms", ["RS256", "ES256"])
    if not isinstance(algorithms, list) or not all(isinstance(each, str) for each in algorithms):
        raise EffectError(f"{path}: oidc.algorithms: must be a list of names")
    issuer = Issuer(claims.pop("issuer", ""), claims.pop("audience", ""), claims.pop("jwks", ""), tuple(algorithms))
    return Callers(tokens, TokenVerifier(issuer), claims)


def _token(name: str, row: Any) -> tuple[str, Caller]:
    if not isinstance(row, Mapping):
        raise EffectError(f"{name}: must be a table")
    texts = _strings(name, row, _TOKEN_KEYS - {"starts", "expires", "may", "groups"})
    key = texts.get("sha256", "").lower()
    if not re.fullmatch(r"[0-9a-f]{64}", key):
        raise EffectError(f"{name}.sha256: must be 64 hex digits (agentos serve --new-token USER prints a row)")
    for needed in ("user", "tenant"):
        if needed not in texts:
            raise EffectError(f"{name}.{needed}: is missing")
    since, until = (_date(f"{name}.{key}", row.get(key)) for key in ("starts", "expires"))
    if since is not None and until is not None and until < since:
        raise EffectError(f"{name}.expires: is before starts")
    may = row.get("may", ["models"])
    if not isinstance(may, list) or not may or not set(map(str, may)) <= _RIGHTS:
        raise EffectError(f"{name}.may: must be a list of {', '.join(sorted(_RIGHTS))}")
    if {"approvals", "models"} <= set(map(str, may)):
        raise EffectError(f"{name}.may: approvals and models: an agent does not answer its own asks; use two tokens")
    groups = row.get("groups", [])
    if not isinstance(groups, list) or not all(isinstance(each, str) and _NAME.fullmatch(each) for each in groups):
        raise EffectError(f"{name}.groups: must be a list of names")
    principal = Principal(tenant=texts["tenant"], user=texts["user"], agent=texts.get("agent", "main"))
    named = frozenset(f"group:{each}" for each in groups)
    return key, Caller(principal, frozenset(map(str, may)), since, until, named)


def _date(name: str, given: Any) -> date | None:
    if given is not None and (isinstance(given, datetime) or not isinstance(given, date)):
        raise EffectError(f"{name}: must be a date, like 2027-06-30 without quotes")
    return given


def _strings(name: str, table: Any, known: frozenset[str]) -> dict[str, str]:
    if not isinstance(table, Mapping):
        raise EffectError(f"{name}: must be a table")
    listed = _TOKEN_KEYS | _OIDC_KEYS
    found: dict[str, str] = {}
    for key, value in table.items():
        if key not in known and key not in {"starts", "expires", "may", "algorithms", "groups"}:
            hint = f" (one of {', '.join(sorted(known))})" if key not in listed else ""
            raise EffectError(f"{name}.{key}: unknown key{hint}")
        if key in known:
            if not isinstance(value, str) or not _NAME.fullmatch(value):
                raise EffectError(f"{name}.{key}: must be a text of at most {NAME_CHARS_MAX} characters")
            found[key] = value
    return found


def _quoted(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise EffectError(f"a name has 1 to {NAME_CHARS_MAX} printable characters")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def same(shown: str, token: str) -> bool:
    """Whether two tokens are one, in constant time."""
    return hmac.compare_digest(shown.encode("utf-8", "surrogatepass"), token.encode("utf-8", "surrogatepass"))
