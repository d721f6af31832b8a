"""Whether anything vouches for an authority value: the prompt, a trusted record, an own creation, a known principal. Reads only.

`doubt_of` returns why nothing does. Vouching is strict (`normal.strict`), tainting loose: a value that stands in untrusted
text has lost every voucher but the prompt. Threat: whatever vouches here decides where an effect goes without a person.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from agent_os.core.manifest import Argument, Effect, Role, ToolSpec
from agent_os.guards.flow import normal, references, shapes
from agent_os.guards.flow.evidence import scalar_text
from agent_os.guards.flow.handles import Filled
from agent_os.guards.flow.knowledge import Knowledge, kind_of, named_kind
from agent_os.guards.flow.select import number_of

LEAVING: Final = frozenset({Effect.SEND, Effect.WRITE_SHARED, Effect.PAY, Effect.CREDENTIAL, Effect.EXECUTE})
"""Effects whose payload reaches somebody else."""
PATH_PARTS_MAX: Final = 6
"""Parts of a relative path that the prompt may name one by one; a longer one must stand in it as a whole."""


@dataclass(slots=True)
class Doubt:
    """The class of concern, and the source of what taints the value."""

    sink: str
    source: str = ""


def doubt_of(
    known: Knowledge, value: Any, argument: Argument, spec: ToolSpec, objects: frozenset[str],
    focus: tuple[frozenset[str], ...] = (), many: bool = False,
) -> Doubt | None:  # fmt: skip
    """Return why nothing vouches for an authority value, or None when something does."""
    if value is None or isinstance(value, bool) or value == "" or not known.read_untrusted:
        return None
    text = scalar_text(value)
    if prompt_vouches(known, text, argument, spec):
        return Doubt("authority_of_unknown_origin") if known.evidence.outdone(text, focus) else None
    if argument.type != "code" and known.references.holds(text):
        return None
    if argument.type != "code" and known.chosen and references.spelling(text) in known.chosen:
        return None
    ways = argument.vouched_by
    if argument.role is Role.AUTHORITY and is_self(known, text) and known.scope.to_self:
        return None
    if "own-creation" in ways and known.evidence.created(text, objects):
        return None
    short = argument.role is Role.HANDLE or isinstance(value, (int, float))
    if argument.type == "code":
        return Doubt("code_from_untrusted", known.taint.source_of(text) if known.taint.holds(text) else "")
    if argument.type != "url" and not (short and len(text) <= 6) and known.taint.holds(text):
        return Doubt("authority_from_untrusted", known.taint.source_of(text))
    if argument.type == "url" and known.taint.holds_host(normal.host_of(text)):
        return Doubt("authority_from_untrusted", known.taint.source_of(normal.host_of(text)))
    if "trusted-result" in ways:
        for entry in reversed(known.evidence.entries(text, objects)):
            if known.evidence.leads_to(text, entry, focus, many):
                return None
    if "known-principal" in ways and known.evidence.knows(text):
        return None
    return Doubt("authority_of_unknown_origin")


def filled_in(known: Knowledge, tool: str, pointer: str, value: Any) -> Filled | None:
    """Return what a handle filled into this argument, if it still stands there."""
    found = known.filled.get((tool, pointer)) if known.filled else None
    return found if found is not None and found.value in scalar_text(value) else None


def doubt_of_handle(known: Knowledge, filled: Filled, argument: Argument, spec: ToolSpec) -> Doubt | None:
    """Return why an untrusted value that came by handle is no authority: its origin is known, nothing is searched."""
    if prompt_vouches(known, filled.value, argument, spec) or known.references.holds(filled.value):
        return None
    sink = "code_from_untrusted" if argument.type == "code" else "authority_from_untrusted"
    return Doubt(sink, ", ".join(filled.label.sources))


def is_self(known: Knowledge, value: Any) -> bool:
    return isinstance(value, str) and normal.strict(value) == normal.strict(known.principal.user)


def prompt_vouches(known: Knowledge, text: str, argument: Argument, spec: ToolSpec) -> bool:
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
    if not host or not host_vouched(known, host):
        return False
    after = normal.strict(text).split(host, 1)[-1]
    rest = after.strip("/")
    if not rest or known.words.names(host + "/" + rest):
        return True
    if any(mark in after for mark in ("?", "#", "//", "\\", "%2f", "%5c")):
        return False  # it may carry something, or lead on
    return spec.effect is Effect.READ and not known.secrets.found_in(rest)


def host_vouched(known: Knowledge, host: str) -> bool:
    return host in known.words.hosts


def kind_of_argument(name: str, argument: Argument, objects: frozenset[str]) -> frozenset[str]:
    """Return what kind of thing a handle must stand for: the kind its own name speaks of, else the tool's."""
    return (named_kind(name) or objects) if argument.role is Role.HANDLE else frozenset()


def doubt_of_inner_id(known: Knowledge, value: Any) -> Doubt | None:
    """Return why an id inside what is carried (`fields: {parentId: …}`) is a stranger's: only untrusted text names it."""
    text = scalar_text(value)
    if isinstance(value, bool) or not text or not known.read_untrusted or known.words.names(text):
        return None
    if known.evidence.created(text, frozenset()) or known.evidence.entries(text, frozenset()):
        return None
    return Doubt("authority_from_untrusted", known.taint.source_of(text)) if known.taint.holds(text) else None


def doubt_of_selector(known: Knowledge, value: Any) -> Doubt | None:
    """Return why what is looked up carries a stranger's address (`site:evil.example …`), or None."""
    if not isinstance(value, str) or not known.read_untrusted:
        return None
    for url in normal.urls(value):
        host = normal.host_of(url)
        if known.taint.holds_host(host) and not host_vouched(known, normal.strict_host(url)):
            return Doubt("authority_from_untrusted", known.taint.source_of(host))
    return None
