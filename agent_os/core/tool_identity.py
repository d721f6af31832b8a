"""What a tool is known by: the digest of its semantics and its code.

Threat: a tool that changes what it does under a name that was approved. What a function calls is not part of its digest:
in-process tools are trusted code (docs/glossary.md), their digest tells revisions apart.
"""

from __future__ import annotations

import hashlib
from functools import partial
from types import CodeType
from typing import Any

from agent_os.core import canonical
from agent_os.core.manifest import ToolSpec


def tool_digest(spec: ToolSpec, code: bytes) -> str:
    """Return the digest of a tool: its semantics and its code."""
    form = canonical.json_bytes([spec.model_dump(mode="json"), hashlib.sha256(code).hexdigest()])
    return "sha256:" + hashlib.sha256(form).hexdigest()


def code_of(function: Any) -> bytes:
    """Return bytes that change when a Python callable's code changes (not when what it calls changes)."""
    while True:
        if isinstance(function, partial):
            function = function.func
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif hasattr(function, "__func__"):
            function = function.__func__
        else:
            break
    name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__qualname__)}"
    code = getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
    digest = hashlib.sha256(name.encode())
    if isinstance(code, CodeType):
        _hash_code(code, digest)
    return digest.digest()


def _hash_code(code: CodeType, digest: Any) -> None:
    digest.update(code.co_code)
    digest.update(repr((code.co_names, code.co_varnames)).encode())
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _hash_code(constant, digest)
        else:
            digest.update(repr(sorted(constant, key=repr) if isinstance(constant, frozenset) else constant).encode())
