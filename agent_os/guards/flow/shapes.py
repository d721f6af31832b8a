"""What an argument's value is by its shape, whatever the argument is called: a web address, a statement that changes. Pure.

Names of arguments are habits (`url`, `target`, `src`, `resource`; `sql`, `query`, `q`); what is sent is not. A reading
tool that is given an address contacts it, and one that is given `DELETE FROM` deletes. Used for tools with a manifest
as well: it describes the tool its publisher had in mind. Errs towards a question: a text that begins like a statement
counts as one. A language this module does not know is not seen here; its tools have names or descriptions that do not read.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from agent_os.guards.flow import normal
from agent_os.guards.flow.lexicon import bag

STATEMENT_CHARS_MAX: Final = 20_000
"""Longest value that is looked at as a statement; a longer one counts as one that changes something."""

NAMED_ADDRESSES_MAX: Final = 200
"""Addresses of one outgoing text that are judged one by one; a text with more is a concern by itself."""
_IBAN: Final = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b")

PHONE_DIGITS_MIN: Final = 8
_PHONE: Final = re.compile(
    r"(?<![\w./:#-])(?:\+\d{6,14}|(?:\+\d|\(?0)\d{0,4}\)?(?:[ /-]\(?\d{2,5}\)?){2,5}|0\d{9,12})(?![\w/:-]|\.\d)"
)
_DAY: Final = re.compile(r"(?:19|20)\d\d[ /-]\d\d?[ /-]|\d\d?[ /-]\d\d?[ /-](?:19|20)\d\d")
_HEADER: Final = re.compile(r"[\r\n]\s*(?:bcc|cc|to|reply-to)\s*:\s*\S+@", re.I)

_SCHEME: Final = re.compile(r"^\s*(?:[a-z][a-z0-9+.-]{1,12}:)?(?://|\\\\)[^/\\\s]", re.I)
_HOST_AND_PATH: Final = re.compile(
    r"^\s*(?:(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,24}|\d{1,3}(?:\.\d{1,3}){3})(?::\d{1,5}(?=[/?#]|$)|(?=[/?#]))",
    re.I,
)
_LOCAL: Final = re.compile(r"^\s*(?:file|urn|data|cid|ref)://", re.I)

_COMMENT: Final = re.compile(r"/\*.*?\*/|--[^\n]*|(?m:^\s*#[^\n]*)", re.S)
_TEXT: Final = re.compile(r"'(?:[^']|'')*'")
_CHANGE: Final = re.compile(
    r"\binsert\s+(?:or\s+\w+\s+)?into\b|\bupdate\s+[\w.\"`\[\]]+(?:\s+(?:as\s+)?\w+)?\s+set\b|\bdelete\s+from\b|\bmerge\s+into\b"
    r"|\breplace\s+into\b|\btruncate\s+(?:table\s+)?\w|\b(?:drop|alter|create)\s+(?:or\s+replace\s+)?(?:\w+\s+)?(?:table|view|index|database"
    r"|schema|user|role|function|procedure|trigger|column|extension|policy|sequence|type|materialized)\b|\b(?:grant|revoke)\s+[\w,\s]+\bon\b"
    r"|\binto\s+(?:out|dump)file\b|\bselect\b.{1,400}\binto\s+\w+\s+from\b|\bcopy\s+[\w(].{0,400}\b(?:to|from)\b|\battach\s+database\b"
    r"|\bload\s+data\b|\b(?:exec|execute|call)\s+\w+(?:\.\w+)*\s*\(|\bxp_\w+|\bpg_(?:read|write|ls)_\w+|\bload_(?:file|extension)\s*\("
    r"|\bdetach\s+delete\b|\bmatch\s*\(.{1,400}\b(?:delete\b|set\s+\w+\.|remove\s+\w+[.:])|\b(?:merge|create)\s*\(\s*\w*\s*:"
    r"|\bunload\s*\(|\bpragma\s+\w+\s*=",
    re.I | re.S,
)
_READS: Final = re.compile(r"^\s*(?:\(\s*)*(?:select|with|show|describe|desc|explain|values|pragma|table)\b", re.I)
_GRAPH: Final = re.compile(r"(?:^|[}\s])(?:mutation|subscription)\b[^{}]{0,400}\{", re.I)
_PIPELINE: Final = re.compile(r"\$(?:out|merge|function|where|accumulator)\b")
_PROGRAM_NAMES: Final = bag("sql command cmd script code shell statement program expression bash python lambda macro")


@lru_cache(maxsize=4096)
def is_address(value: str) -> bool:
    """Return whether a value as a whole is a web address, or another computer's path (`//host/share`)."""
    if len(value) < 4 or " " in value.strip() or _LOCAL.match(value):
        return False
    form = normal.loose(value)
    return bool(_SCHEME.match(form) or (_HOST_AND_PATH.match(form) and "@" not in form.split("/")[0]))


def addresses(text: str) -> list[str]:
    """Return the e-mail addresses and bank accounts in a text: where whoever reads it may turn to."""
    found = [match.group().strip(".-'") for match in normal.EMAIL.finditer(text)] if "@" in text else []
    found += [match.group() for match in _IBAN.finditer(text)]
    return found


def phones(text: str) -> list[str]:
    """Return the telephone numbers in a text: eight digits and more behind a nought or a plus."""
    found = [match.group() for match in _PHONE.finditer(text)]
    return [one for one in found if sum(map(str.isdigit, one)) >= PHONE_DIGITS_MIN and not _DAY.match(one)]


def has_header(text: str) -> bool:
    """Return whether a line of a text would be a mail's header that names a receiver, were it taken for one."""
    return bool(_HEADER.search(text))


@lru_cache(maxsize=4096)
def changes(value: str) -> bool:
    """Return whether a value is a statement that changes something, in SQL, Cypher, GraphQL or a database's pipeline."""
    if len(value) < 8 or not any(mark in value.strip() for mark in (" ", "{", "$", "/*")):
        return False
    if len(value) > STATEMENT_CHARS_MAX:
        return True
    plain = _TEXT.sub("''", _COMMENT.sub(" ", normal.loose(value)))
    return bool(_CHANGE.search(plain) or _GRAPH.search(plain) or _PIPELINE.search(plain))


def is_program(names: frozenset[str], value: str) -> bool:
    """Return whether an argument of these name words holds a program: a statement that changes, or no plain question."""
    if changes(value):
        return True
    if not names & _PROGRAM_NAMES:
        return False
    plain = _COMMENT.sub(" ", normal.loose(value)).strip().rstrip(";")
    return not (_READS.match(plain) and ";" not in _TEXT.sub("''", plain))
