"""`policy check`: what is wrong, too broad, dead or different in a policy that loads. Pure.

Each finding has an id, a severity, a place and a fix. `error` makes the file unfit for use, `warning` is for a person to
look at, `note` says what might surprise. Ids are stable: reviews and exceptions refer to them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from agent_os.core.errors import Place, PolicyError
from agent_os.policy.compile import WIRING, Absent, Unit
from agent_os.policy.globs import is_literal
from agent_os.policy.network import check_network
from agent_os.policy.policy import Policy
from agent_os.policy.reader import join
from agent_os.policy.workbench import deadrules, semantics
from agent_os.policy.workbench.cleartext import looks_secret, secrets_in
from agent_os.policy.workbench.slips import Known, slips

MAX_FINDINGS: Final = 5000
_BROAD: Final = frozenset({"*", "**", "**/*", "/**", "*/*"})
_BROAD_FOLDERS: Final = frozenset(
    {"/", "/home", "/root", "/etc", "/var", "/opt", "/mnt", "/media", "/srv", "/proc", "/sys", "/run"}
)
_SHELLS: Final = frozenset({"sh", "bash", "dash", "zsh", "ksh", "fish", "env", "sudo", "doas", "su", "xargs", "ssh"})
_ORDER: Final = {"error": 0, "warning": 1, "note": 2}


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding: `id` is stable, `path` is the key path it is about."""

    id: str
    severity: str
    place: Place
    path: str
    message: str
    fix: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the wire form, as `agentos policy check --json` prints it."""
        return {
            "id": self.id,
            "severity": self.severity,
            "file": self.place.file,
            "line": self.place.line,
            "column": self.place.column,
            "path": self.path,
            "message": self.message,
            "fix": self.fix,
        }

    def __str__(self) -> str:
        return f"{self.place}: {self.severity}: {self.message} [{self.id}]" + (
            f"\n    fix: {self.fix}" if self.fix else ""
        )


def from_error(error: PolicyError) -> list[Finding]:
    """Return the problems of a file that does not load as findings."""
    return [Finding(item.code, "error", item.place, "", item.message, item.hint) for item in error.problems]


def check_policy(policy: Policy, known: Known | None = None) -> list[Finding]:
    """Return every finding about a policy's own files (not about the packs it extends), errors first, in file order.

    `known`: the tools whose arguments are known, name -> arguments.
    """
    found: list[Finding] = []
    for layer in policy.layers:
        # A file that only restricts what others allow says so; in it an `ask` needs no `allow`.
        alone = layer.units[0].file.default != "abstain"
        allowing = deadrules.allowing_tools(layer.units) if alone else ["**"]
        for unit in layer.units:
            if unit.pack and unit.pack.startswith("pack:"):
                continue
            for name, severity, path, message, fix in _unit(unit, layer.semantics, allowing, known or {}):
                found.append(Finding(name, severity, unit.document.place(path), path, message, fix))
                if len(found) >= MAX_FINDINGS:
                    break
        for unit, (name, severity, path, message, fix) in deadrules.widened(layer.units):
            if not (unit.pack and unit.pack.startswith("pack:")):
                found.append(Finding(name, severity, unit.document.place(path), path, message, fix))
    for compiled in policy.compiled:
        for items in compiled.by_kind.values():
            for governed in items:
                if isinstance(governed.section, Absent):
                    name = governed.section.name
                    place = next((unit.document.place(name) for _, _, unit in policy.sections(name)), Place())
                    text = f"the engine of the section {name!r} is not installed: everything it governs is denied"
                    found.append(
                        Finding("engine-missing", "warning", place, name, text, "install it, or remove the section")
                    )
    unique: dict[tuple[str, str, str], Finding] = {}
    for item in sorted(found, key=lambda item: _ORDER[item.severity]):
        unique.setdefault((item.id, item.place.file, item.path), item)
    return sorted(
        unique.values(), key=lambda item: (_ORDER[item.severity], item.place.file, item.place.line, item.place.column)
    )


Raw = tuple[str, str, str, str, str]
"""id, severity, key path, message, fix."""


def _unit(unit: Unit, chosen: str, allowing: Collection[str], known: Known) -> Iterator[Raw]:
    file = unit.file
    yield from _breadth(unit)
    yield from deadrules.dead(unit, allowing)
    yield from slips(unit, allowing, known)
    yield from secrets_in(unit)
    yield from semantics.differences(unit, chosen)
    for item in check_network(file.network_policies, file.network_middlewares, semantics=chosen):
        severity = "error" if item.severity == "conflict" else item.severity
        yield item.code, severity, item.path, item.message, item.hint
    yield from _terms(unit)


def _breadth(unit: Unit) -> Iterator[Raw]:
    """Rules that allow more than anyone is likely to mean."""
    file = unit.file
    for name, tool in (file.tools or {}).items():
        if name in _BROAD and tool.allow in (True, {}):
            fix = "name the tools, or add conditions"
            yield "over-broad-tool", "warning", f"tools.{name}", "allows every tool with any arguments", fix
        for path, pattern in _globs(tool.allow, f"tools.{name}.allow"):
            if "://" in pattern or pattern.lstrip("*").startswith("@"):
                text = f"compares an address as text: {pattern} also matches lists and look-alikes"
                yield "glob-for-address", "note", path, text, "use host_in, which parses the address"
    files = file.filesystem_policy
    for key in ("read_only", "read_write"):
        for index, path in enumerate(getattr(files, key) if files is not None else ()):
            if (path.rstrip("/") or "/") in _BROAD_FOLDERS and not (path == "/proc" and key == "read_only"):
                severity = "warning" if key == "read_write" or path.rstrip("/") in ("", "/root", "/home") else "note"
                fix = "name the folders that are needed"
                yield "over-broad-path", severity, f"filesystem_policy.{key}[{index}]", f"{path} is a whole tree", fix
            if not is_literal(path):
                text = f"{path} is taken literally: {key} takes no globs"
                yield "glob-not-supported", "warning", f"filesystem_policy.{key}[{index}]", text, "name the folder"
    for index, entry in enumerate(file.process.allow if file.process is not None else ()):
        binary = entry if isinstance(entry, str) else entry.binary
        path = f"process.allow[{index}]"
        if binary in _BROAD:
            yield "over-broad-program", "warning", path, "allows every program", "name the programs"
        elif binary.rpartition("/")[2] in _SHELLS and (isinstance(entry, str) or entry.args in (None, ["**"])):
            text = f"{binary} starts any other program"
            yield "over-broad-program", "note", path, text, "name the arguments, or the programs it may start"
    yield from _network_breadth(file)
    yield from _other_breadth(file)


def _globs(clause: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield the globs of an allow clause with their paths."""
    if isinstance(clause, list):
        for index, item in enumerate(clause):
            yield from _globs(item, f"{path}[{index}]")
    elif isinstance(clause, dict):
        for name, condition in clause.items():
            for test in condition if isinstance(condition, list) else [condition]:
                patterns = getattr(test, "glob", None) or []
                for pattern in [patterns] if isinstance(patterns, str) else patterns:
                    yield f"{path}.{name}.glob", pattern


def _network_breadth(file: Any) -> Iterator[Raw]:
    for name, policy in (file.network_policies or {}).items():
        base = f"network_policies.{name}"
        for index, binary in enumerate(policy.binaries or ()):
            if binary.path in _BROAD:
                yield (
                    "over-broad-program",
                    "warning",
                    f"{base}.binaries[{index}]",
                    "is any program",
                    "name the programs",
                )
        for index, endpoint in enumerate(policy.endpoints):
            path = f"{base}.endpoints[{index}]"
            if endpoint.host.startswith("**."):
                text = f"{endpoint.host} is every name below that domain, at any depth"
                yield "over-broad-host", "note", path, text, "use *. for one level, or name the hosts"
            if endpoint.access == "full" or any(
                rule.allow.method == "*" and rule.allow.path in ("/**", "**") for rule in endpoint.rules or ()
            ):
                text = "allows every method on every path"
                yield "over-broad-request", "note", path, text, "name the methods and paths, or use access: read-only"


def _other_breadth(file: Any) -> Iterator[Raw]:
    for name, secret in (file.secrets or {}).items():
        if not secret.destinations:
            text = "names no destination: it is never put in anywhere"
            yield "secret-nowhere", "warning", f"secrets.{name}", text, "destinations: [api.example.com]"
        for index, host in enumerate(secret.destinations):
            if host in _BROAD or host.startswith("**"):
                path = f"secrets.{name}.destinations[{index}]"
                yield "over-broad-secret", "error", path, "lets the secret go to any host", "name the hosts"
    for index, rule in enumerate(file.messages.allow if file.messages is not None else ()):
        if any(recipient in _BROAD for recipient in rule.to) and rule.channel != "agent":
            path = f"messages.allow[{index}]"
            yield "over-broad-message", "warning", path, "allows messages to anyone", "name recipients or domains"
    if file.agents is not None and "*" in file.agents.roles:
        yield "over-broad-role", "warning", "agents.roles.*", "allows agents of any role", "name the roles"
    for name, provider in (file.models.providers if file.models is not None else {}).items():
        url = provider.base_url or ""
        if url.startswith("http://") and not url.startswith(("http://127.", "http://localhost", "http://[::1]")):
            path = f"models.providers.{name}.base_url"
            yield "plain-http", "warning", path, "prompts and the key travel unencrypted", "use https"
        if provider.secret and provider.secret not in (file.secrets or {}) and not looks_secret(provider.secret):
            path = f"models.providers.{name}.secret"
            text = f"the secret {provider.secret!r} is not listed under `secrets`"
            yield "secret-not-listed", "note", path, text, f"secrets: {{{provider.secret}: {{from: env}}}}"


def _terms(unit: Unit) -> Iterator[Raw]:
    """What the file leaves open: nobody to ask, data that is not there, trials that go on."""
    file = unit.file
    asks = [
        f"tools.{name}.ask" for name, tool in (file.tools or {}).items() if tool.ask not in (None, False)
    ]  # fmt: skip
    if asks and (file.approvals is None or not file.approvals.approvers):
        text = "asks a person, and no approvers are named: anyone who may answer on this machine can"
        yield "no-approvers", "note", asks[0], text, "approvals: {approvers: [...]}"
    used = _references(unit.document.value)
    for name, source in file.data.items():
        path = f"data.{name}"
        if name not in used and not any(name in (entry.data or ()) for entry in file.rego or ()):
            yield "unused-data", "note", path, "no condition refers to it", "remove it, or refer to it"
        if name not in unit.data and not isinstance(source, list):
            text = "could not be read here: allows that need it cannot match, denies that need it fire"
            yield "data-not-read", "warning", path, text, "load the policy from its file"
    for name in sorted(set(used) - set(unit.data) - set(file.data)):
        text = f"data.{name} is not defined: allows that need it cannot match, denies that need it fire"
        yield "data-not-defined", "error", used[name], text, f"data: {{{name}: {{file: {name}.yaml}}}}"
    if file.enforcement == "audit":
        yield "on-trial", "warning", "enforcement", "nothing this file denies is denied: it is on trial", "enforce it"
    for name, tool in (file.tools or {}).items():
        if tool.enforcement == "audit":
            yield (
                "on-trial",
                "note",
                f"tools.{name}.enforcement",
                "asks and denies here are recorded only",
                "enforce it",
            )


def _references(value: Any, path: str = "") -> dict[str, str]:
    """Return the data sets that conditions refer to, each with the path of its first use."""
    found: dict[str, str] = {}
    if isinstance(value, dict):
        below = [(join(path, key), item) for key, item in value.items()]
    elif isinstance(value, list):
        below = [(join(path, index), item) for index, item in enumerate(value)]
    else:
        is_reference = isinstance(value, str) and value.startswith("data.") and " " not in value
        return {value.split(".")[1]: path} if is_reference else {}
    for where, item in below:
        found = {**_references(item, where), **found}
    return found


def counts(findings: Iterable[Finding]) -> dict[str, int]:
    """Return how many findings there are of each severity."""
    result = dict.fromkeys(_ORDER, 0)
    for finding in findings:
        result[finding.severity] += 1
    return result


__all__ = ["WIRING", "Finding", "check_policy", "counts", "from_error"]
