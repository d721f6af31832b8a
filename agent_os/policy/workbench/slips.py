"""`policy check`: values that load and are hardly what was meant. Pure.

A glob where none is read, a URL for a host, an argument that a tool does not have, a character that does not show: each is held
as written, so an allow never matches, a deny never fires, or a rule is wider than a reviewer sees.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Final

from agent_os.policy.compile import Unit
from agent_os.policy.globs import compile_glob, is_literal
from agent_os.policy.reader import join
from agent_os.policy.values import host_of

Raw = tuple[str, str, str, str, str]
Known = Mapping[str, Collection[str]]
"""Tools whose arguments are known: name -> arguments."""
_QUOTES: Final = "“”„‟‘’‚«»"
_ADDRESSED: Final = frozenset({"vllm", "litellm", "azure"})
_SPANS: Final = frozenset({"timeout", "window", "keep", "cache"})
_NEAR: Final = 0.85


def slips(unit: Unit, allowing: Collection[str], known: Known) -> Iterator[Raw]:
    """Yield what a file's values say that nobody means. `allowing`: names and globs of tools that the layer allows."""
    yield from _texts(unit.document.value)
    yield from _tools(unit.file.tools or {}, known)
    yield from _hosts(unit.file)
    yield from _names(unit.file, allowing)


def _texts(value: Any, path: str = "") -> Iterator[Raw]:
    """Yield what a reviewer does not see in a text or a key, quotation marks that quote nothing, numbers without a unit."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _hidden(str(key), join(path, key))
            spans = key in _SPANS and not path.startswith(("tools", "data", "models.providers"))
            if spans and isinstance(item, (int, float)) and not isinstance(item, bool):
                text = f"{item} has no unit and means seconds"
                yield "duration-without-unit", "note", join(path, key), text, f"{key}: {item}s"
            yield from _texts(item, join(path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, join(path, index))
    elif isinstance(value, str):
        yield from _hidden(value, path)
        if value[:1] in _QUOTES and value[-1:] in _QUOTES and value:
            text = "typographic quotation marks are a part of the text"
            yield "typographic-quotes", "warning", path, text, "write \" or '"


def _hidden(text: str, path: str) -> Iterator[Raw]:
    char = "" if text.isascii() else next((each for each in text if unicodedata.category(each) in ("Cf", "Co")), "")
    if char:
        said = f"holds a character that does not show (U+{ord(char):04X}): what is held is not what is seen"
        yield "invisible-character", "warning", path, said, "remove it"


def _tools(tools: Mapping[str, Any], known: Known) -> Iterator[Raw]:
    for name, tool in tools.items():
        path = f"tools.{name}"
        if known and name not in known and is_literal(name) and "/" not in name:
            near = get_close_matches(name, known, n=1, cutoff=_NEAR)
            if near:
                text = f"no tool of the runtime is called {name!r}; the rules hold for a tool of your own of that name"
                yield "unknown-tool", "warning", path, text, f"did you mean {near[0]!r}?"
        if isinstance(tool.allow, dict) and tool.allow and tool.allow == tool.deny:
            text = f"can never decide: {path}.deny has the same conditions"
            yield "rule-shadowed", "warning", f"{path}.allow", text, "remove one of the two"
        clauses = [(f"{path}.{key}", getattr(tool, key)) for key in ("allow", "ask", "deny")]
        clauses += [
            (f"{path}.rules[{index}].{key}", getattr(rule, key))
            for index, rule in enumerate(tool.rules)
            for key in ("allow", "ask", "deny")
        ]
        for place, clause in clauses:
            if clause == {}:
                yield (
                    "rule-always",
                    "warning",
                    place,
                    "has no condition, so it always holds",
                    f"{place[len(path) + 1 :]}: true",
                )
            for arguments, where in _alternatives(clause, place):
                yield from _arguments(name, arguments, where, known.get(name))


def _alternatives(clause: Any, path: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    if isinstance(clause, dict):
        yield clause, path
    elif isinstance(clause, list):
        yield from ((item, f"{path}[{index}]") for index, item in enumerate(clause))


def _arguments(tool: str, arguments: Mapping[str, Any], path: str, known: Collection[str] | None) -> Iterator[Raw]:
    for name, condition in arguments.items():
        where = join(path, name)
        if known is not None and name not in known and not name.startswith("/"):
            near = get_close_matches(name, known, n=1, cutoff=0.6)
            fix = f"did you mean {near[0]!r}?" if near else f"{tool} takes " + ", ".join(sorted(known))
            yield "unknown-argument", "warning", where, f"{tool} has no argument {name!r}", fix
        for test in condition if isinstance(condition, list) else [condition]:
            under = getattr(test, "under", None) or []
            for each in [under] if isinstance(under, str) else under:
                if not is_literal(each):
                    folder = each[: next(index for index, char in enumerate(each) if char in "*?[{")].rpartition("/")[0]
                    text = f"{each} is taken literally: `under` takes a folder and means all below it"
                    yield "glob-not-supported", "warning", where, text, f"under: {folder or '.'}/"
            for key in ("host_in", "not_host_in"):
                hosts = getattr(test, key, None)
                for each in hosts if isinstance(hosts, list) else []:
                    yield from _host(each, where)


def _host(host: str, path: str) -> Iterator[Raw]:
    """A URL is read as its host; one with a glob in it, or a host with a path, is not."""
    if "/" in (host if not is_literal(host) else host_of(host) or host):
        alone = (host.partition("://")[2] or host).partition("/")[0]
        yield "host-never", "warning", path, f"{host} is no host: it never matches", f"write {alone}"


def _hosts(file: Any) -> Iterator[Raw]:
    for name, secret in (file.secrets or {}).items():
        for index, host in enumerate(secret.destinations):
            alone = (host.partition("://")[2] or host).partition("/")[0]
            if alone.count(":") == 1 or alone != host:  # no IPv6 address
                text = f"{host} is no host: the secret is never put in"
                fix = f"write {alone.partition(':')[0]}"
                yield "host-never", "warning", f"secrets.{name}.destinations[{index}]", text, fix
    for name, policy in (file.network_policies or {}).items():
        for index, endpoint in enumerate(policy.endpoints):
            labels = endpoint.host.split(".")
            wild = [place for place, label in enumerate(labels) if "*" in label]
            if wild and len(labels) - wild[-1] <= 2 and len(labels) > 1:
                text = f"{endpoint.host} matches names that anybody can register"
                where = f"network_policies.{name}.endpoints[{index}].host"
                yield "over-broad-host", "warning", where, text, "name the domain: *.example.com"
    for name, provider in (file.models.providers if file.models is not None else {}).items():
        if provider.kind in _ADDRESSED and not provider.base_url:
            text = f"a provider of kind {provider.kind} has no address of its own: every call of it fails"
            yield "provider-no-address", "warning", f"models.providers.{name}", text, "base_url: https://…/v1"


def _names(file: Any, allowing: Collection[str]) -> Iterator[Raw]:
    """Yield names that lead to nothing: variables, programs with their arguments, roles, approvers."""
    files = file.filesystem_policy
    for key in ("read_only", "read_write", "deny", "hidden", "ask_write", "protect"):
        paths = getattr(files, key, None)
        for index, path in enumerate(paths if isinstance(paths, list) else ()):
            if "$" in path:
                text = f"{path} is taken literally: variables are not replaced"
                yield (
                    "variable-not-replaced",
                    "warning",
                    f"filesystem_policy.{key}[{index}]",
                    text,
                    "write the whole path",
                )
    for key in ("allow", "ask", "deny"):
        for index, entry in enumerate(getattr(file.process, key, None) or ()):
            if isinstance(entry, str) and " " in entry:
                binary, *arguments = entry.split()
                fix = f"{{binary: {binary}, args: [{', '.join(arguments)}]}}"
                text = f"{entry!r} is taken as the name of one program"
                yield "program-with-arguments", "warning", f"process.{key}[{index}]", text, fix
    roles = file.agents.roles if file.agents is not None else {}
    for name, role in roles.items():
        for index, other in enumerate(role.may_spawn or ()):
            if is_literal(other) and other not in roles:
                fix = f"roles: {', '.join(roles)}"
                yield (
                    "unknown-role",
                    "warning",
                    f"agents.roles.{name}.may_spawn[{index}]",
                    f"there is no role {other!r}",
                    fix,
                )
        for index, tool in enumerate(role.tools or ()):
            if is_literal(tool) and not _covered(tool, allowing):
                text = f"no rule of this policy allows {tool!r}: a role only narrows"
                yield "role-tool-never", "warning", f"agents.roles.{name}.tools[{index}]", text, f"tools: {{{tool}: …}}"
    for index, who in enumerate(file.approvals.approvers if file.approvals is not None else ()):
        kind, colon, name = who.partition(":")
        if colon and (kind in ("user", "role", "team") or (kind != "group" and get_close_matches(kind, ["group"]))):
            text = f"{who} names nobody: people are user ids, groups are group:NAME"
            fix = name if kind == "user" else f"group:{name}"
            yield "approver-nobody", "warning", f"approvals.approvers[{index}]", text, fix


def _covered(tool: str, allowing: Iterable[str]) -> bool:
    return any(each == tool or (not is_literal(each) and compile_glob(each, crossing=True)(tool)) for each in allowing)
