"""Concerns about where a call puts text of unknown authors: files that run, orders, invitations, memories, pages. Reads only.

Who writes what, and to whom, is judged in `judge.py`; this file looks at what the place makes of it. A file that the prompt
names may be written: its class is then that of other code. Threat: an injection that outlives its session, or that acts where
a page is only looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agent_os.core.facts import FlowConcern
from agent_os.core.label import TRUSTED, Integrity, Label
from agent_os.core.manifest import Argument, Effect, Role, ToolSpec
from agent_os.guards.flow import normal, sinks
from agent_os.guards.flow.evidence import scalar_text
from agent_os.guards.flow.knowledge import Knowledge

PATH_NAMES: Final = frozenset(
    {"path", "file", "filename", "file_path", "file_name", "filepath", "target", "destination"}
)
_TEXTS: Final = frozenset({"text", "code", "any"})
ADDRESSES_MAX: Final = 200
"""Addresses of one text that are looked at one by one; a text with more is a concern by itself."""

Value = tuple[str, str, Any]
Texts = list[tuple[str, Argument, str]]


def concerns_of(
    known: Knowledge, spec: ToolSpec, values: list[Value], texts: Texts, labels: Mapping[str, Label], *, leaves: bool
) -> list[FlowConcern]:
    """Return the concerns of one call's places; `leaves`: what it carries reaches somebody else."""
    if spec.effect is Effect.READ or not known.read_untrusted:
        return []
    untrusted = [
        (pointer, argument, text)
        for pointer, argument, text in texts
        if labels.get(pointer, TRUSTED).integrity is Integrity.UNTRUSTED
    ]
    carried = [entry for entry in untrusted if entry[1].role is Role.PAYLOAD]
    paths = [
        (pointer, str(value))
        for pointer, name, value in values
        if isinstance(value, str)
        and value
        and (known.argument(spec, name, value).type == "path" or name.lower() in PATH_NAMES)
    ]
    found = [concern for pointer, path in paths if carried for concern in _file(known, pointer, path)]
    worded = [pointer for pointer, argument, _ in carried if argument.type in _TEXTS]
    if worded and sinks.is_invitation(spec, frozenset(name.lower() for _, name, value in values if value)):
        found.append(FlowConcern("invite_write", worded[0], "", "goes into other people's calendars"))
    if sinks.runs_later(spec) and any(argument.type in _TEXTS for _, argument, _ in untrusted):
        pointer = next(pointer for pointer, argument, _ in untrusted if argument.type in _TEXTS)
        found.append(FlowConcern("schedule_write", pointer, "", "will run later"))
    if worded and sinks.is_memory(spec) and spec.name != "memory.write":
        found.append(FlowConcern("memory_poisoning", worded[0], "", "untrusted text is remembered"))
    if leaves or any(sinks.is_shown(path) for _, path in paths):
        for pointer, argument, text in texts:
            if argument.role is Role.PAYLOAD:
                found += images_of(known, pointer, text)
    return found


def _file(known: Knowledge, pointer: str, path: str) -> list[FlowConcern]:
    """Return the concern of what is written to a path."""
    relative = path.removeprefix(known.workspace + "/")
    sink = sinks.written_as(relative)
    if sink == "autorun_write" and (known.words.vouches(relative) or known.words.vouches(relative.split("/")[-1])):
        sink = "code_write"  # the user speaks of this file
    return [FlowConcern(sink, pointer, "", f"is written to {relative}", (path,))] if sink else []


def images_of(known: Knowledge, pointer: str, text: str) -> list[FlowConcern]:
    """Return a concern for each address that a reader's program would fetch by itself and that nobody vouches for."""
    found = []
    for count, address in enumerate(sinks.loaded(text)):
        if count >= ADDRESSES_MAX:
            found.append(FlowConcern("untrusted_image", pointer, "", "too many addresses to look at"))
            break
        if normal.strict_host(address) in known.words.hosts and not known.secrets.found_in(address):
            continue
        found.append(_named(known, "untrusted_image", pointer, address))
    return found


def answer_concerns(known: Knowledge, text: str) -> list[FlowConcern]:
    """Return the concerns of what an agent says to its own user: what would load by itself, and links of strangers."""
    if not known.read_untrusted:
        return []
    found = images_of(known, "/body", text)
    loaded = {concern.detail for concern in found}
    links = [url for url in normal.urls(text) if "//" in url or url.lower().startswith("www.")]
    for count, url in enumerate(dict.fromkeys(links)):
        if count >= ADDRESSES_MAX:
            found.append(FlowConcern("answer_url", "/body", "", "too many addresses to look at"))
            break
        if url not in loaded and normal.strict_host(url) not in known.words.hosts:
            found.append(_named(known, "answer_url", "/body", url))
    return found


def _named(known: Knowledge, sink: str, pointer: str, address: str) -> FlowConcern:
    host = normal.host_of(address)
    source = known.taint.source_of(host)
    quote = known.taint.quote(host, source) if source else ""
    return FlowConcern(sink, pointer, source, scalar_text(address), (host,), quote=quote)
