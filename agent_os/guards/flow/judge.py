"""Judging a call from what is known before it: labels of its arguments, and concerns. Reads only.

An authority argument needs a voucher: the prompt, a trusted record that the prompt leads to, something this session
created, or a principal the user has dealt with. A value that also stands in untrusted text has lost every voucher but
the prompt. An effect needs the prompt to ask for it. What leaves is searched for guarded values and strangers' links.
Nothing is doubted before untrusted text was read: until then nothing can have been injected.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent_os.core.facts import FlowConcern
from agent_os.core.label import TRUSTED, Confidentiality, Integrity, Label
from agent_os.core.manifest import UNDESCRIBED, Argument, Effect, Role, ToolSpec
from agent_os.guards.flow import derive, normal, places, references, shapes
from agent_os.guards.flow.evidence import scalar_text
from agent_os.guards.flow.handles import Filled
from agent_os.guards.flow.knowledge import ARGUMENT_LEAVES_MAX, Knowledge, kind_of, named_kind, scalars
from agent_os.guards.flow.naming import name_words
from agent_os.guards.flow.pins import Value, contradictions
from agent_os.guards.flow.scope import Leave
from agent_os.guards.flow.select import number_of

LEAVING: Final = frozenset({Effect.SEND, Effect.WRITE_SHARED, Effect.PAY, Effect.CREDENTIAL, Effect.EXECUTE})
"""Effects whose payload reaches somebody else."""


AUTHORS: Final = frozenset({"from", "sender", "from_email", "sender_email", "author", "user_email"})
"""Arguments that say on whose behalf: the principal is its own."""
PERMISSIONS: Final = frozenset({"permission", "permissions", "access", "access_level", "role", "visibility", "right"})
WEAKEST: Final = frozenset(
    {"r", "read", "view", "viewer", "reader", "read-only", "readonly", "read_only", "private", "guest"}
)
PATH_PARTS_MAX: Final = 6
"""Parts of a relative path that the prompt may name one by one; a longer one must stand in it as a whole."""
NAMED_MAX: Final = 20
"""Arguments of a call, and records of a handle, whose names are compared with the prompt's."""
NAMED_CHARS_MAX: Final = 200
_ADDRESS: Final = Argument(role=Role.AUTHORITY, type="url")
_NAMED: Final = Argument(role=Role.AUTHORITY)
_CHOOSES: Final = Argument(role=Role.SELECTOR)
_PROGRAM: Final = Argument(role=Role.AUTHORITY, type="code")
METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
FORMAT_HEADERS: Final = frozenset({"accept", "accept-language", "content-type", "user-agent"})


@dataclass(frozen=True, slots=True)
class Judgement:
    """Labels of arguments by RFC 6901 pointer, and concerns."""

    labels: Mapping[str, Label]
    concerns: tuple[FlowConcern, ...] = ()


@dataclass(slots=True)
class _Doubt:
    sink: str
    source: str = ""


def judge(known: Knowledge, tool: str, args: Mapping[str, Any], spec: ToolSpec | None = None) -> Judgement:
    """Judge a call from what was taken before it. Changes nothing."""
    spec = spec or known.spec(tool)
    labels: dict[str, Label] = {}
    objects = kind_of(spec)
    values = scalars(args)
    spec = _as_sent(spec, values)
    concerns, leave = _of_effect(known, spec, values)
    pinned: list[Value] = []
    focus = leave.clauses if leave is not None else ()
    many = leave is not None and not leave.times
    company = Counter(name for _, name, _ in values)
    vouched: list[str] = []
    doubted: list[str] = []
    payload: list[tuple[str, Argument, str]] = []
    for count, (pointer, name, value) in enumerate(values):
        if count >= ARGUMENT_LEAVES_MAX:
            concerns.append(FlowConcern("authority_of_unknown_origin", pointer, "", "too many arguments to judge"))
            break
        argument = known.argument(spec, name, value)
        if argument is UNDESCRIBED and not spec.derived:
            argument = spec.argument(pointer.split("/", 2)[1])  # a part is for what the argument it stands in is for
        doubt = None
        if (
            spec.effect is Effect.READ
            and isinstance(value, str)
            and argument.type != "url"
            and shapes.is_address(value)
        ):
            argument = _ADDRESS
        if spec.effect is Effect.READ and argument.role is Role.HANDLE:
            argument = _CHOOSES  # what is read is the user's own to read; what is done with it is judged then
        if _is_form(name, value):
            labels[pointer] = TRUSTED
            continue
        pinned.append((pointer, name, value, argument))
        if argument.role in (Role.AUTHORITY, Role.HANDLE):
            if (company[name] > 1 or name in AUTHORS) and _is_self(known, value):
                labels[pointer] = TRUSTED  # among those the user named, the user is no stranger
                continue
            filled = _filled(known, tool, pointer, value)
            if filled is not None and filled.label.integrity is Integrity.UNTRUSTED:
                doubt = _doubt_of_handle(known, filled, argument, spec)
            else:
                doubt = _doubt(
                    known,
                    value,
                    argument,
                    spec,
                    _argument_kind(name, argument, objects),
                    (*known.words.beside(name_words(name)), *focus),
                    many,
                )
            labels[pointer] = TRUSTED if doubt is None else known.untrusted_label(doubt.source)
            if argument.role is Role.AUTHORITY and isinstance(value, str) and value:
                (vouched if doubt is None else doubted).append(value)
        else:
            filled = _filled(known, tool, pointer, value)
            labels[pointer] = known.label_of(value) if filled is None else filled.label
            if argument.role is Role.SELECTOR:
                doubt = _doubt_of_selector(known, value)
        if doubt is not None:
            quote = known.taint.quote(scalar_text(value), doubt.source) if doubt.source else ""
            concerns.append(
                FlowConcern(doubt.sink, pointer, doubt.source, _quote(value), (scalar_text(value),), quote=quote)
            )
        if isinstance(value, str) and value:
            payload.append((pointer, argument, value))
    if leave is not None:
        said = {pointer: value for pointer, _, value, _ in pinned}

        def strange(text: str) -> bool:
            return known.taint.holds(text) and not known.words.names(text) and not known.words.means(text)

        for pointer in contradictions(leave, pinned, strange, spec.effect is Effect.PAY):
            concerns.append(FlowConcern("contradicts_prompt", pointer, "", _quote(said.get(pointer, ""))))
    _leaving(known, spec, payload, vouched, doubted, labels, concerns)
    concerns += places.concerns_of(known, spec, values, payload, labels, leaves=spec.effect in LEAVING)
    return Judgement(labels, tuple(concerns))


def _as_sent(spec: ToolSpec, values: list[tuple[str, str, Any]]) -> ToolSpec:
    """Return the semantics of what is sent: a reading tool that is given a program is what the program is."""
    if spec.effect is not Effect.READ:
        return spec
    programs = [
        name
        for _, name, value in values[:NAMED_MAX]
        if isinstance(value, str) and shapes.is_program(frozenset(name_words(name)), value)
    ]
    if not programs:
        return spec
    arguments = {**spec.arguments, **dict.fromkeys(programs, _PROGRAM)}
    return spec.model_copy(update={"effect": Effect.EXECUTE, "arguments": arguments})


def _doubt_of_selector(known: Knowledge, value: Any) -> _Doubt | None:
    """Return why what is looked up carries a stranger's address (`site:evil.example …`), or None."""
    if not isinstance(value, str) or not known.read_untrusted:
        return None
    for url in normal.urls(value):
        host = normal.host_of(url)
        if known.taint.holds_host(host) and not _host_vouched(known, normal.strict_host(url)):
            return _Doubt("authority_from_untrusted", known.taint.source_of(host))
    return None


def _is_form(name: str, value: Any) -> bool:
    """Return whether a value is no authority: a request's method, a header that names a format, the weakest of rights."""
    if not isinstance(value, str):
        return False
    if name.lower() in PERMISSIONS:
        return value.lower() in WEAKEST
    return (name == "method" and value.upper() in METHODS) or (name.lower() in FORMAT_HEADERS and len(value) <= 100)


def _of_effect(
    known: Knowledge, spec: ToolSpec, values: list[tuple[str, str, Any]]
) -> tuple[list[FlowConcern], Leave | None]:
    """Return concerns about the effect as a whole, and the requests it is done for."""
    if not known.read_untrusted or spec.effect is Effect.READ:
        return [], None
    concerns = []
    leave = known.scope.leave(spec)
    if leave is None:
        leave = known.scope.leave_by_name(spec, _names(known, spec, values))
    if leave is None:
        concerns.append(FlowConcern("effect_beyond_scope", "", "", f"{spec.effect.value}: not asked for"))
    elif leave.times and known.done[spec.name] >= leave.times:
        concerns.append(FlowConcern("repeats_beyond_scope", "", "", f"asked for {leave.times} time(s)"))
    for source, why in itertools.islice(known.suspected.items(), 1):
        concerns.append(FlowConcern("injection_suspected", "", source, why))
    if spec.effect is Effect.CREDENTIAL:
        concerns.append(FlowConcern("credential_use", "", "", "credentials after an untrusted read"))
    if spec.derived:
        concerns.append(FlowConcern("unknown_tool", "", "", "no manifest: judged by its name"))
    return concerns, leave


def _names(known: Knowledge, spec: ToolSpec, values: list[tuple[str, str, Any]]) -> frozenset[str]:
    """Return the words of what a call is done to: names the prompt has, and what the records of its handles are called."""
    found: set[str] = set()
    for _, name, value in values[:NAMED_MAX]:
        argument = known.argument(spec, name, value)
        text = scalar_text(value)
        if argument.role not in (Role.AUTHORITY, Role.HANDLE) or not text or len(text) > NAMED_CHARS_MAX:
            continue
        if known.words.names(text):
            found.update({normal.strict(text), *normal.words(text)})
        elif argument.role is Role.HANDLE:
            for entry in known.evidence.entries(text, _argument_kind(name, argument, kind_of(spec)))[:NAMED_MAX]:
                found.update(known.evidence.called(entry.leaf.record))
    return frozenset(found)


def _leaving(
    known: Knowledge, spec: ToolSpec, values: list[tuple[str, Argument, str]], vouched: list[str], doubted: list[str],
    labels: dict[str, Label], concerns: list[FlowConcern],
) -> None:  # fmt: skip
    """Add concerns for what leaves inside values: guarded data, web addresses and texts of strangers."""
    leaves_here = spec.effect in LEAVING
    may_leave = derive.asks_the_web(spec.name) or (spec.derived and spec.effect is not Effect.READ)
    carried = False
    for pointer, argument, value in values:
        if not (leaves_here or may_leave) and argument.type != "url":
            continue
        found = known.secrets.found_in(value)
        if found is not None and not known.words.names(value):
            labels[pointer] = labels.get(pointer, TRUSTED).join(found)
            readable = bool(vouched) and not doubted and all(found.flows_to(reader) for reader in vouched)
            if not readable:
                secret = found.confidentiality is Confidentiality.SECRET
                sink = "secrets_to_named" if vouched and not doubted else "secrets_to_untrusted"
                sink = sink if secret else "personal_to_untrusted"
                to = tuple(doubted or vouched)
                tags = tuple(sorted(found.tags))
                concerns.append(FlowConcern(sink, pointer, ", ".join(found.sources), "a guarded value", to, tags))
        untrusted = labels.get(pointer, TRUSTED).integrity is Integrity.UNTRUSTED
        if not leaves_here or not (known.read_untrusted or untrusted) or argument.role is not Role.PAYLOAD:
            continue
        carried = carried or untrusted
        for url in normal.urls(value):
            if not _host_vouched(known, normal.strict_host(url)) and not _handed_out(known, url):
                host = normal.host_of(url)
                source = known.taint.source_of(host)
                quote = known.taint.quote(host, source) if source else ""
                concerns.append(FlowConcern("untrusted_url", pointer, source, _quote(url), (host,), quote=quote))
                break
        if _filled(known, spec.name, pointer, value) is not None:
            continue  # passed on unread: nobody could have asked for it
        named = shapes.addresses(value)
        if len(named) > shapes.NAMED_ADDRESSES_MAX:
            concerns.append(FlowConcern("authority_of_unknown_origin", pointer, "", "too many addresses to judge"))
        for address in named[: shapes.NAMED_ADDRESSES_MAX]:
            doubt = None if address in vouched else _doubt(known, address, _NAMED, spec, frozenset())
            if doubt is not None and (
                doubt.source or shapes.has_header(value) or known.evidence.entries(address, frozenset())
            ):
                quote = known.taint.quote(address, doubt.source) if doubt.source else ""
                sink = doubt.sink if doubt.source or shapes.has_header(value) else "personal_to_untrusted"
                concerns.append(FlowConcern(sink, pointer, doubt.source, address, (address,), quote=quote))
                break
    if carried:
        concerns.append(FlowConcern("shared_write", "", "", "text of unknown authors is carried along"))


def _handed_out(known: Knowledge, url: str) -> bool:
    """Return whether a service gave out an address itself: for what this session made, or for what the prompt leads to."""
    if known.evidence.created(url, frozenset()):
        return True
    return any(known.evidence.leads_to(url, entry) for entry in known.evidence.entries(url, frozenset()))


def _doubt(
    known: Knowledge, value: Any, argument: Argument, spec: ToolSpec, objects: frozenset[str],
    focus: tuple[frozenset[str], ...] = (), many: bool = False,
) -> _Doubt | None:  # fmt: skip
    """Return why nothing vouches for an authority value, or None when something does."""
    if value is None or isinstance(value, bool) or value == "" or not known.read_untrusted:
        return None
    text = scalar_text(value)
    if _prompt_vouches(known, text, argument, spec):
        return None
    if argument.type != "code" and known.references.holds(text):
        return None
    if argument.type != "code" and known.chosen and references.spelling(text) in known.chosen:
        return None
    ways = argument.vouched_by
    if argument.role is Role.AUTHORITY and _is_self(known, text) and known.scope.to_self:
        return None
    if "own-creation" in ways and known.evidence.created(text, objects):
        return None
    short = argument.role is Role.HANDLE or isinstance(value, (int, float))
    if argument.type == "code":
        return _Doubt("code_from_untrusted", known.taint.source_of(text) if known.taint.holds(text) else "")
    if argument.type != "url" and not (short and len(text) <= 6) and known.taint.holds(text):
        return _Doubt("authority_from_untrusted", known.taint.source_of(text))
    if argument.type == "url" and known.taint.holds_host(normal.host_of(text)):
        return _Doubt("authority_from_untrusted", known.taint.source_of(normal.host_of(text)))
    if "trusted-result" in ways:
        for entry in reversed(known.evidence.entries(text, objects)):
            if known.evidence.leads_to(text, entry, focus, many):
                return None
    if "known-principal" in ways and known.evidence.knows(text):
        return None
    return _Doubt("authority_of_unknown_origin")


def _filled(known: Knowledge, tool: str, pointer: str, value: Any) -> Filled | None:
    """Return what a handle filled into this argument, if it still stands there."""
    found = known.filled.get((tool, pointer)) if known.filled else None
    return found if found is not None and found.value in scalar_text(value) else None


def _doubt_of_handle(known: Knowledge, filled: Filled, argument: Argument, spec: ToolSpec) -> _Doubt | None:
    """Return why an untrusted value that came by handle is no authority: its origin is known, nothing is searched."""
    if _prompt_vouches(known, filled.value, argument, spec) or known.references.holds(filled.value):
        return None
    sink = "code_from_untrusted" if argument.type == "code" else "authority_from_untrusted"
    return _Doubt(sink, ", ".join(filled.label.sources))


def _is_self(known: Knowledge, value: Any) -> bool:
    return isinstance(value, str) and normal.strict(value) == normal.strict(known.principal.user)


def _prompt_vouches(known: Knowledge, text: str, argument: Argument, spec: ToolSpec) -> bool:
    if argument.type == "url":
        return _url_vouched(known, text, spec)
    if argument.type == "number":
        number = number_of(text)
        return number is not None and known.scope.numbers(number)
    if argument.type in ("any", "name") and argument.role is Role.AUTHORITY and known.words.means(text):
        return True
    if argument.role is Role.HANDLE and len(text) <= 4:
        return known.words.names_id(text, kind_of(spec))
    if argument.type == "path" and text.startswith(known.workspace + "/"):
        text = text[len(known.workspace) + 1 :]  # the user speaks of files as they stand in the workspace
    if spec.effect in LEAVING and shapes.addresses(text) and known.words.only_source(normal.mailbox(text)):
        return False  # whom something is from is not whom the next thing goes to
    exact = argument.type in ("password", "path")
    if known.words.vouches(normal.mailbox(text), exact=exact):
        return True
    parts = text.split("/")
    if argument.type not in ("any", "path") or not 2 <= len(parts) <= PATH_PARTS_MAX or "://" in text:
        return False
    return all(part not in ("", ".", "..") and known.words.vouches(part, exact=exact) for part in parts)


def _url_vouched(known: Knowledge, text: str, spec: ToolSpec) -> bool:
    """A web address is the prompt's when the prompt has it; for reading, also one below an address it has."""
    if known.words.names(text):
        return True
    host = normal.strict_host(text)
    if not host or not _host_vouched(known, host):
        return False
    rest = normal.strict(text).split(host, 1)[-1].strip("/")
    if not rest or known.words.names(host + "/" + rest):
        return True
    return spec.effect is Effect.READ and "?" not in rest and "#" not in rest and not known.secrets.found_in(rest)


def _host_vouched(known: Knowledge, host: str) -> bool:
    return host in known.words.hosts


def _argument_kind(name: str, argument: Argument, objects: frozenset[str]) -> frozenset[str]:
    """Return what kind of thing a handle must stand for: the kind its own name speaks of, else the tool's."""
    return (named_kind(name) or objects) if argument.role is Role.HANDLE else frozenset()


def _quote(value: Any) -> str:
    text = scalar_text(value) if not isinstance(value, (dict, list)) else ""
    return text if len(text) <= 120 else text[:117] + "…"
