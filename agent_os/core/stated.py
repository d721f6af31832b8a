"""Facts that may stand beside an action's arguments in its wire form: who runs, what a name resolves to, when. Pure.

They are what traces and policy tests state; the monitor finds its own and ignores them. They are never in the digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agent_os.core import canonical
from agent_os.core.errors import ActionError
from agent_os.core.executable import Executable

STATED: Final = ("binary", "ancestors", "cmdline_paths", "binary_digest", "script", "resolved_ips", "time", "runtime")


def _strings(value: Any, key: str) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
        raise ActionError("must be a list of strings", field=key)
    return tuple(value)


def take_stated(rest: dict[str, Any], stated: dict[str, Any]) -> None:
    """Move facts from `rest` into `stated`, as fields of Facts."""
    if "binary" in rest or "ancestors" in rest:
        binary, ancestors = rest.pop("binary", ""), _strings(rest.pop("ancestors", ()), "ancestors")
        digest, script = rest.pop("binary_digest", ""), rest.pop("script", "")
        for key, value in (("binary", binary), ("binary_digest", digest), ("script", script)):
            if not isinstance(value, str):
                raise ActionError("must be a string", field=key)
        stated["executable"] = Executable(binary, ancestors, digest, script) if binary else None
    rest.pop("cmdline_paths", None)  # what a process says of itself is no identity
    if "resolved_ips" in rest:
        addresses = rest.pop("resolved_ips")
        stated["resolved_ips"] = (
            None
            if addresses is None
            else tuple(canonical.ip(address, field="resolved_ips") for address in _strings(addresses, "resolved_ips"))
        )
    if "time" in rest:
        moment = rest.pop("time")
        if isinstance(moment, bool) or not isinstance(moment, (int, float)):
            raise ActionError("must be Unix seconds", field="time")
        stated["now"] = float(moment)
    if "runtime" in rest:
        runtime = rest.pop("runtime")
        if not isinstance(runtime, Mapping) or set(runtime) - {"require_binary_identity"}:
            raise ActionError("knows require_binary_identity only", field="runtime")
        if "require_binary_identity" in runtime:
            stated["require_binary_identity"] = runtime["require_binary_identity"] is not False
