"""The `secrets` section: which secret may be used towards which host. Pure; values are never seen here.

A secret that a model provider names is bound to the host of that provider's base URL as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from agent_os.core.action import Action, SecretUse
from agent_os.core.decision import Verdict
from agent_os.core.facts import Facts
from agent_os.policy.globs import PatternError, compile_any
from agent_os.policy.lists import ListSection, Tell, list_rule, present
from agent_os.policy.rule import Context
from agent_os.policy.values import host_glob, host_of

if TYPE_CHECKING:
    from agent_os.policy.schema.operations import Secrets

KINDS: Final = frozenset({"secret.use"})


def compile_secrets(parts: Sequence[tuple[Secrets, Context]]) -> ListSection:
    """Return the section of every file of a layer together; a secret nobody lists may not be used."""
    rules = []
    for secrets, context in parts:
        bound = _providers(context)
        for name, secret in secrets.items():
            path = f"secrets.{name}"
            hosts = [*secret.destinations, *bound.get(name, ())]
            try:
                test = _use(name, hosts)
            except PatternError as error:
                context.problem(path, str(error))
                continue
            words = f"{name} towards " + (", ".join(hosts) or "no host")
            rules.append(list_rule(secret, Verdict.ALLOW, path, test, context, words=words))
            if secret.ask:
                what = "its use asks a person"
                rules.append(list_rule(secret, Verdict.ASK, f"{path}.ask", _named(name), context, what=what))
    return ListSection("secrets", KINDS, present(rules), "use of a secret")


def _providers(context: Context) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    models: Any = context.file.models
    for provider in models.providers.values() if models is not None else ():
        host = host_of(provider.base_url) if provider.base_url else None
        if provider.secret and host:
            found.setdefault(provider.secret, []).append(host)
    return found


def _named(name: str) -> Tell:
    return lambda action, _facts: isinstance(action, SecretUse) and action.name == name


def _use(name: str, hosts: Sequence[str]) -> Tell:
    matches = compile_any(map(host_glob, hosts))

    def test(action: Action, _facts: Facts) -> bool | None:
        if not isinstance(action, SecretUse) or action.name != name:
            return False
        host = host_of(action.destination)
        return None if host is None else matches(host.replace(".", "/"))

    return test
