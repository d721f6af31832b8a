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
from agent_os.guards.flow import derive, fields, normal, places, shapes
from agent_os.guards.flow.evidence import scalar_text
from agent_os.guards.flow.knowledge import ARGUMENT_LEAVES_MAX, Knowledge, kind_of, named_kind, scalars
from agent_os.guards.flow.naming import PEOPLE, name_words, profile, reaches, speaks_of
from agent_os.guards.flow.numerals import spellings
from agent_os.guards.flow.pins import Value, contradictions
from agent_os.guards.flow.rows import rows_of
from agent_os.guards.flow.scope import Leave
from agent_os.guards.flow.synonyms import CHANGING
from agent_os.guards.flow.vouching import (
    LEAVING,
    Doubt,
    doubt_of,
    doubt_of_handle,
    doubt_of_inner_id,
    doubt_of_selector,
    filled_in,
    host_vouched,
    is_self,
    kind_of_argument,
)

AUTHORS: Final = frozenset({"from", "sender", "from_email", "sender_email", "author", "user_email"})
"""Arguments that say on whose behalf: the principal is its own."""
PERMISSIONS: Final = frozenset({"permission", "permissions", "access", "access_level", "role", "visibility", "right"})
WEAKEST: Final = frozenset(
    {"r", "read", "view", "viewer", "reader", "read-only", "readonly", "read_only", "private", "guest"}
)
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


def judge(known: Knowledge, tool: str, args: Mapping[str, Any], spec: ToolSpec | None = None) -> Judgement:
    """Judge a call from what was taken before it. Changes nothing."""
    spec = spec or known.spec(tool)
    labels: dict[str, Label] = {}
    objects = kind_of(spec)
    values = scalars(args)
    spec = _as_sent(spec, values)
    concerns, leave = _of_effect(known, spec, values)
    rows = rows_of(known, spec, values if leave is not None and known.read_untrusted else [])
    changes = bool(profile(spec).verbs & CHANGING)
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
            if (company[name] > 1 or name in AUTHORS) and is_self(known, value):
                labels[pointer] = TRUSTED  # among those the user named, the user is no stranger
                continue
            filled = filled_in(known, tool, pointer, value)
            if changes and argument.role is Role.AUTHORITY and rows.hold(name, value):
                doubt = None  # what it is already
            elif filled is not None and filled.label.integrity is Integrity.UNTRUSTED:
                doubt = doubt_of_handle(known, filled, argument, spec)
            else:
                doubt = doubt_of(
                    known,
                    value,
                    argument,
                    spec,
                    kind_of_argument(name, argument, objects),
                    (*known.words.beside(name_words(name)), *focus),
                    many,
                )
            if doubt is None and name.lower() in PERMISSIONS and known.words.only_qualifies(scalar_text(value)):
                doubt = Doubt("authority_of_unknown_origin")
            labels[pointer] = TRUSTED if doubt is None else known.untrusted_label(doubt.source)
            if argument.role is Role.AUTHORITY and isinstance(value, str) and value:
                (vouched if doubt is None else doubted).append(value)
        else:
            filled = filled_in(known, tool, pointer, value)
            labels[pointer] = known.label_of(value) if filled is None else filled.label
            if argument.role is Role.SELECTOR:
                doubt = doubt_of_selector(known, value)
            elif pointer.count("/") > 1 and spec.effect is not Effect.READ and fields.names_id(name):
                doubt = doubt_of_inner_id(known, value)
        if doubt is not None:
            quote = known.taint.quote(scalar_text(value), doubt.source) if doubt.source else ""
            concerns.append(
                FlowConcern(doubt.sink, pointer, doubt.source, _quote(value), (scalar_text(value),), quote=quote)
            )
        if isinstance(value, str) and value:
            payload.append((pointer, argument, value))
    if leave is not None:
        said = {pointer: value for pointer, _, value, _ in pinned}

        def strange(value: str | float) -> bool:
            if not isinstance(value, str):
                return any(known.taint.holds(form) for form in spellings(value)) and not known.scope.numbers(value)
            return known.taint.holds(value) and not known.words.names(value) and not known.words.means(value)

        for pointer in contradictions(leave, pinned, strange, spec, rows, known.words.words):
            concerns.append(FlowConcern("contradicts_prompt", pointer, "", _quote(said.get(pointer, ""))))
    _leaving(known, spec, payload, vouched, doubted, labels, concerns)
    concerns += places.concerns_of(known, spec, values, payload, labels, leaves=spec.effect in LEAVING)
    return Judgement(labels, tuple(concerns))


def _as_sent(spec: ToolSpec, values: list[tuple[str, str, Any]]) -> ToolSpec:
    """Return the semantics of what is sent: a reading tool that is given a program is what the program is."""
    if spec.effect is not Effect.READ:
        return spec
    if spec.derived and derive.is_told_more(spec.name, [name for _, name, _ in values[:NAMED_MAX]]):
        return spec.model_copy(update={"effect": Effect.EXECUTE, "arguments": {}})
    programs = [
        name
        for _, name, value in values[:NAMED_MAX]
        if isinstance(value, str) and shapes.is_program(frozenset(name_words(name)), value)
    ]
    if not programs:
        return spec
    arguments = {**spec.arguments, **dict.fromkeys(programs, _PROGRAM)}
    return spec.model_copy(update={"effect": Effect.EXECUTE, "arguments": arguments})


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
        leave = known.scope.leave_by_name(spec, _names(known, spec, values), _given(known, values))
    if leave is None:
        concerns.append(FlowConcern("effect_beyond_scope", "", "", f"{spec.effect.value}: not asked for"))
    elif _reaches_others(known, spec, values):
        concerns.append(FlowConcern("effect_beyond_scope", "", "", "goes to many, and one was asked for"))
    elif leave.times and known.done[spec.name] >= leave.times:
        concerns.append(FlowConcern("repeats_beyond_scope", "", "", f"asked for {leave.times} time(s)"))
    for source, why in itertools.islice(known.suspected.items(), 1):
        concerns.append(FlowConcern("injection_suspected", "", source, why))
    if spec.effect is Effect.CREDENTIAL:
        concerns.append(FlowConcern("credential_use", "", "", "credentials after an untrusted read"))
    if spec.derived:
        concerns.append(FlowConcern("unknown_tool", "", "", "no manifest: judged by its name"))
    return concerns, leave


def _reaches_others(known: Knowledge, spec: ToolSpec, values: list[tuple[str, str, Any]]) -> bool:
    """Return whether a call sends to a whole group by its name (`notify_guests`), and the user speaks of no such group."""
    people = reaches(spec.name) if spec.effect is Effect.SEND else frozenset()
    if not people or speaks_of(known.words.raw, people):
        return False
    for _, name, value in values[:NAMED_MAX]:
        argument = known.argument(spec, name, value)
        if argument.role is Role.HANDLE and named_kind(name) <= {"user"} | PEOPLE:
            return False
        if argument.role is Role.AUTHORITY and (argument.type in ("email", "name") or "@" in scalar_text(value)):
            return False
    return True


def _names(known: Knowledge, spec: ToolSpec, values: list[tuple[str, str, Any]]) -> frozenset[str]:
    """Return the words of what a call is done to: names the prompt has, and what the records of its handles are called."""
    found: set[str] = set()
    for _, name, value in values[:NAMED_MAX]:
        argument = known.argument(spec, name, value)
        text = scalar_text(value)
        names = argument.role in (Role.AUTHORITY, Role.HANDLE) or fields.is_code(text)
        if not names or not text or len(text) > NAMED_CHARS_MAX:
            continue
        if known.words.names(text):
            found.update({normal.strict(text), *normal.words(text)})
        elif argument.role is Role.HANDLE:
            for entry in known.evidence.entries(text, kind_of_argument(name, argument, kind_of(spec)))[:NAMED_MAX]:
                found.update(known.evidence.called(entry.leaf.record))
    return frozenset(found)


def _given(known: Knowledge, values: list[tuple[str, str, Any]]) -> frozenset[str]:
    """Return the words of the names of arguments whose values the prompt has (`address`, where it has the address)."""
    texts = ((name, scalar_text(value), value) for _, name, value in values[:NAMED_MAX])
    return frozenset(
        word
        for name, text, value in texts
        if text and (known.scope.digits(value) if isinstance(value, float) else known.words.names(text))
        for word in name_words(name)
    )


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
        concerns += _guarded(known, pointer, argument, value, vouched, doubted, labels)
        untrusted = labels.get(pointer, TRUSTED).integrity is Integrity.UNTRUSTED
        if not (leaves_here or (spec.derived and may_leave)) or argument.role is not Role.PAYLOAD:
            continue
        if not (known.read_untrusted or untrusted):
            continue
        carried = carried or untrusted
        for url in normal.urls(value):
            if not host_vouched(known, normal.strict_host(url)) and not _handed_out(known, url):
                host = normal.host_of(url)
                source = known.taint.source_of(host)
                quote = known.taint.quote(host, source) if source else ""
                concerns.append(FlowConcern("untrusted_url", pointer, source, _quote(url), (host,), quote=quote))
                break
        if filled_in(known, spec.name, pointer, value) is not None:
            continue  # passed on unread: nobody could have asked for it
        for phone in shapes.phones(value)[: shapes.NAMED_ADDRESSES_MAX]:
            if (
                known.taint.holds(phone)
                and not known.words.names(phone)
                and not known.evidence.entries(phone, frozenset())
            ):
                source = known.taint.source_of(phone)
                quote = known.taint.quote(phone, source) if source else ""
                concerns.append(FlowConcern("authority_from_untrusted", pointer, source, phone, (phone,), quote=quote))
                break
        named = shapes.addresses(value)
        if len(named) > shapes.NAMED_ADDRESSES_MAX:
            concerns.append(FlowConcern("authority_of_unknown_origin", pointer, "", "too many addresses to judge"))
        for address in named[: shapes.NAMED_ADDRESSES_MAX]:
            doubt = None if address in vouched else doubt_of(known, address, _NAMED, spec, frozenset())
            if doubt is not None and (
                doubt.source or shapes.has_header(value) or known.evidence.entries(address, frozenset())
            ):
                quote = known.taint.quote(address, doubt.source) if doubt.source else ""
                sink = doubt.sink if doubt.source or shapes.has_header(value) else "personal_to_untrusted"
                concerns.append(FlowConcern(sink, pointer, doubt.source, address, (address,), quote=quote))
                break
    if carried:
        concerns.append(FlowConcern("shared_write", "", "", "text of unknown authors is carried along"))


def _guarded(
    known: Knowledge, pointer: str, argument: Argument, value: str, vouched: list[str], doubted: list[str],
    labels: dict[str, Label],
) -> list[FlowConcern]:  # fmt: skip
    """Return a concern for each class of guarded data that stands in a value and that its receivers may not read."""
    held = known.secrets.held_in(value)
    if not held or known.words.names(value):
        return []
    concerns: dict[str, FlowConcern] = {}
    for guarded in held:
        secret = guarded.label.confidentiality is Confidentiality.SECRET
        if guarded.text and known.words.names(guarded.text):
            continue  # the user said it
        if not secret and argument.role is Role.AUTHORITY and normal.strict(value) == normal.strict(guarded.text):
            continue  # an address that is written to is not told to anybody
        labels[pointer] = labels.get(pointer, TRUSTED).join(guarded.label)
        if vouched and not doubted and all(_may_read(guarded.label, reader) for reader in vouched):
            continue
        sink = "secrets_to_named" if vouched and not doubted else "secrets_to_untrusted"
        sink = sink if secret else "personal_to_untrusted"
        source, tags = ", ".join(guarded.label.sources), tuple(sorted(guarded.label.tags))
        found = FlowConcern(sink, pointer, source, "a guarded value", tuple(doubted or vouched), tags)
        concerns.setdefault(sink, found)
    return list(concerns.values())


def _may_read(label: Label, reader: str) -> bool:
    return label.flows_to(reader) or label.flows_to(normal.mailbox(reader).strip().lower())


def _handed_out(known: Knowledge, url: str) -> bool:
    """Return whether a service gave out an address itself: for what this session made, or for what the prompt leads to."""
    if known.evidence.created(url, frozenset()):
        return True
    return any(known.evidence.leads_to(url, entry) for entry in known.evidence.entries(url, frozenset()))


def _quote(value: Any) -> str:
    text = scalar_text(value) if not isinstance(value, (dict, list)) else ""
    return text if len(text) <= 120 else text[:117] + "…"
