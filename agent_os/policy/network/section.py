"""The compiled `network_policies` of one layer: judges connections and requests. Pure.

One entry must satisfy program, destination, addresses and request by itself; deny rules hold across entries. Under
openshell semantics the answers are those of the reference end to end: connection allowed, and (no protocol, or not
enforced, or rules allow), and addresses in order. Under strict semantics, further: an inspected entry for a host and
port makes every request to it subject to all deny rules there, whichever program they were written for; a destination
that ought to be inspected and cannot be (`tls: skip`) is denied unless the entry says why it may pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from agent_os.core.action import Action, NetConnect, NetRequest
from agent_os.core.decision import Obligation, Verdict
from agent_os.core.facts import DEFAULTS, Facts
from agent_os.policy.network.addresses import AllowedIps, address_problem, is_literal
from agent_os.policy.network.endpoints import Entry, Programs
from agent_os.policy.network.hosts import HostIndex
from agent_os.policy.network.requests import Request, readings
from agent_os.policy.rule import Match
from agent_os.policy.schema.network import NetworkPolicies

MAX_REASON_ENTRIES: Final = 8
RuleNames = Callable[[str], str]
_KINDS: Final = frozenset({"net.connect", "net.request"})
_ASSUMED: Final = DEFAULTS.resolved_ips
_NO_LIST: Final = AllowedIps(())
_OPENING: Final = "allowed_ips opens private addresses, `local: true` this machine's own; metadata stays closed"


class NetworkSection:
    """A compiled `network_policies` section (see policy/rule.py: Section)."""

    name: Final = "network_policies"
    kinds: Final = _KINDS

    def __init__(self, *, semantics: str = "strict") -> None:
        self.strict: Final = semantics != "openshell"
        self.layer = ""
        """What stands before the names of this section's rules, where there are several layers."""
        self.entries: Final[list[Entry]] = []
        self._index: Final[HostIndex[Entry]] = HostIndex()
        self._names: Final[HostIndex[Entry]] = HostIndex()  # by host alone, under port 0: for advice and names

    def add(self, policies: NetworkPolicies, *, rule: RuleNames = str, prefix: str = "") -> None:
        """Compile the policies of one file; `rule` turns the path of a key into the id of its rule."""
        for name in sorted(policies):
            policy = policies[name]
            programs = Programs(policy.binaries, strict=self.strict)
            for number in range(len(policy.endpoints)):
                path = f"network_policies.{name}.endpoints[{number}]"
                entry = Entry(rule(path), prefix + name, policy.endpoints[number], programs, strict=self.strict)
                if entry.deny_rules:
                    entry.deny_id = rule(f"{path}.deny_rules")
                if entry.endpoint.rate is not None:
                    entry.rate_id = rule(f"{path}.rate")
                entry.index = len(self.entries)
                self.entries.append(entry)
                self._index.add(entry.host, entry.ports, entry)
                self._names.add(entry.host, (0,), entry)

    # -- judging

    def judge(self, action: Action, facts: Facts) -> Sequence[Match]:
        """Return the matches for a connection or a request; none when nothing covers it (default deny)."""
        if not isinstance(action, NetConnect) or action.transport != "tcp":
            return ()
        there = self._covering(action.host, action.port)
        usable = [entry for entry in there if self._program(entry, facts)]
        reachable = [entry for entry in usable if not self._address_problem(entry, usable, action, facts)]
        if not reachable:
            return ()
        if isinstance(action, NetRequest):
            counting = [entry for entry in usable if entry.endpoint.rate is not None and entry.in_scope(action.path)]
            return self._judge_request(action, there, usable, reachable) + self._rates(counting, facts)
        passed = not any(entry.inspected for entry in there)
        counting = [entry for entry in usable if passed and entry.endpoint.rate is not None]
        return self._judge_connection(there, reachable) + self._rates(counting, facts)

    def advise(self, action: Action, facts: Facts) -> str:
        """Return what would have been allowed, for an action that nothing here allows."""
        return "; ".join(text for text in self.missing(action, facts) if text)

    def missing(self, action: Action, facts: Facts) -> tuple[str, str]:
        """Return (reason, advice) for an action that nothing here allows: which condition of which entry failed."""
        if not isinstance(action, NetConnect):
            return "", ""
        if not self.entries:
            return "network connections not allowed by policy", "add an entry to network_policies"
        there = self._covering(action.host, action.port)
        target = _authority(action)
        if not there:
            near = [entry for entry in self._names.find(action.host, 0) if entry.covers(action.host)]
            advice = f"{near[0].id} covers this host on other ports" if near else "no entry names this host and port"
            return f"endpoint {target} is not allowed by any policy", advice
        usable = [entry for entry in there if self._program(entry, facts)]
        if not usable:
            names = ", ".join(sorted({f"network_policies.{entry.policy}" for entry in there})[:MAX_REASON_ENTRIES])
            program = facts.executable.path if facts.executable else "unknown"
            return f"binary '{program}' not allowed in {names}", f"binaries of {names} name who may use {target}"
        problems = {entry.id: self._address_problem(entry, usable, action, facts) for entry in usable}
        if all(problems.values()):
            entry_id, problem = next(iter(problems.items()))
            return f"{entry_id}: {problem}", _OPENING
        if not isinstance(action, NetRequest):
            return f"{usable[0].id}: traffic cannot be inspected", "say why in 'uninspected', or drop 'tls: skip'"
        reason = self._request_reason(action, usable)
        return reason, "allowed there: " + "; ".join(_offer(entry) for entry in usable[:MAX_REASON_ENTRIES])

    def _covering(self, host: str, port: int) -> list[Entry]:
        return [entry for entry in self._index.find(host, port) if entry.covers(host)]

    @staticmethod
    def _program(entry: Entry, facts: Facts) -> bool:
        return entry.programs.allow(facts.executable, identified=facts.require_binary_identity)

    def _address_problem(self, entry: Entry, usable: Sequence[Entry], action: NetConnect, facts: Facts) -> str:
        resolved = facts.resolved_ips
        assumed = resolved is _ASSUMED
        if assumed and is_literal(action.host):
            resolved = None  # a literal leads to itself
        allowed, exact = entry.allowed_ips, entry.exact
        if not self.strict:
            # The reference judges a destination once: the list of the first entry that has options, any exact name.
            lists = [item.allowed_ips for item in usable if item.extended and item.allowed_ips]
            allowed = lists[0] if lists else _NO_LIST
            exact = any(item.exact for item in usable)
        if assumed and resolved is not None and not allowed.problem:
            allowed = _NO_LIST  # nobody resolved the name: assume that it leads where the list says
        local = entry.endpoint.local and entry.exact
        return address_problem(
            action.host, action.port, resolved, allowed, exact=exact, strict=self.strict, local=local
        )

    def _rates(self, counting: Sequence[Entry], facts: Facts) -> list[Match]:
        """Return what counts an action under the rates of entries, or denies it where one is used up."""
        matches = []
        for entry in counting:
            rate, name = entry.endpoint.rate, self.layer + entry.rate_id
            if rate is None:
                continue
            left = None if facts.rates is None else facts.rates.get(name, 1.0)
            audited = not entry.enforced
            if left is None or left < 1:
                reason = "the rate is not known" if left is None else "the limit on requests is reached"
                matches.append(
                    Match(Verdict.DENY, entry.rate_id, reason, "wait", errored=left is None, audit_only=audited)
                )
                continue
            params = {"rule": name, "calls": rate.calls, "window_s": rate.window, "per": rate.per}
            taken = (Obligation("rate", params, name),)
            matches.append(Match(Verdict.ALLOW, entry.rate_id, obligations=taken, grants=False, audit_only=audited))
        return matches

    def _judge_connection(self, there: Sequence[Entry], reachable: Sequence[Entry]) -> list[Match]:
        # INVARIANT (strict): where one entry is inspected, no entry for the same host and port opens an opaque tunnel.
        scans = tuple([entry.scan for entry in (there if self.strict else reachable) if entry.scan is not None])
        return [
            Match(Verdict.ALLOW, entry.id, "host, port and program match", obligations=scans)
            for entry in reachable
            if not (self.strict and scans and entry.tunnels)
        ]

    def _judge_request(
        self, action: NetRequest, there: Sequence[Entry], usable: Sequence[Entry], reachable: Sequence[Entry]
    ) -> list[Match]:
        read = _reader(action)
        denials = self._deny_rules(action, there if self.strict else usable, read)
        inspected = [entry for entry in usable if entry.inspected]
        if not inspected:
            allowed = [Match(Verdict.ALLOW, entry.id, "host, port and program match") for entry in reachable]
            return allowed + _restrictions(denials)
        options = [entry for entry in inspected if entry.selects(action.path)]
        if not options:
            return _restrictions(denials)
        chosen = max(options, key=lambda entry: entry.specificity)
        if "%2F" in action.path and not chosen.endpoint.allow_encoded_slash:
            return [Match(Verdict.DENY, chosen.id, "encoded slash not allowed on this endpoint")]
        unreadable = next((problem for entry in options for problem in map(_body_problem, read(entry)) if problem), "")
        if unreadable:
            return [Match(Verdict.DENY, chosen.id, unreadable)]
        scoped = [entry for entry in inspected if entry.in_scope(action.path)]
        allowing = [
            entry for entry in scoped if entry in reachable and all(entry.allows(request) for request in read(entry))
        ]
        denials += [(entry, entry.id, why) for entry in scoped if (why := _withheld(entry, read))]
        audited = not chosen.enforced if not self.strict else not any(entry.enforced for entry in options)
        if allowing or not audited:
            matches = [Match(Verdict.ALLOW, entry.id, "method and path match") for entry in allowing]
        else:
            matches = [Match(Verdict.ALLOW, entry.id, "enforcement: audit") for entry in options if entry in reachable]
            denials = denials or [(chosen, chosen.id, self._request_reason(action, usable))]
        return matches + _restrictions(denials, audited=None if self.strict else audited)

    @staticmethod
    def _deny_rules(action: NetRequest, entries: Sequence[Entry], read: _Read) -> list[_Denial]:
        denials = []
        for entry in entries:
            scoped = entry.deny_rules and entry.in_scope(action.path)
            if scoped and any(entry.denies(request) for request in read(entry)):
                reason = f"{action.method} {shown_path(action.path)} blocked by deny rule"
                denials.append((entry, entry.deny_id, reason))
        return denials

    def _request_reason(self, action: NetRequest, usable: Sequence[Entry]) -> str:
        read = _reader(action)
        for entry in usable:
            if entry.inspected and entry.in_scope(action.path):
                for request in read(entry):
                    problem = _body_problem(request)
                    if problem:
                        return f"{entry.id}: {problem}"
        return f"{action.method} {shown_path(action.path)} not permitted by policy"

    # -- what a guard needs to know beforehand

    def resolvable(self, host: str) -> bool:
        """Return whether some entry could allow a connection to a canonical name, on any port."""
        return any(entry.covers(host) for entry in self._names.find(host, 0))

    def inspections(self, host: str, port: int) -> list[dict[str, Any]]:
        """Return how traffic to a destination is to be looked at, one mapping an entry (see Entry.inspection).

        `requests` in each says whether requests there are judged; any such entry means that all traffic is inspected.
        """
        return [
            {"rule": entry.id, "requests": entry.inspected, **entry.inspection()}
            for entry in self._covering(host, port)
        ]

    def reachable(self) -> list[Mapping[str, Any]]:
        """Return what the section may open, as plain JSON, for listings."""
        return [
            {"rule": entry.id, "host": entry.host, "ports": list(entry.ports), "protocol": entry.protocol or "tcp",
             "path": entry.path, "access": entry.endpoint.access, "programs": "any" if entry.programs.any else "listed"}
            for entry in self.entries
        ]  # fmt: skip

    def credentials(self, host: str, port: int) -> list[str]:
        """Return the credential providers bound to a destination by exact entries; wildcards bind none."""
        found = [entry.endpoint.credential_binding for entry in self._covering(host, port) if entry.exact]
        return sorted({binding.provider for binding in found if binding is not None})


def _offer(entry: Entry) -> str:
    """Return what an entry allows, for whoever was denied beside it: methods and paths, tools, operations."""
    rules = [rule.allow for rule in entry.endpoint.rules or ()]
    tools = [rule.tool if isinstance(rule.tool, str) else "" for rule in rules]
    texts = [
        " ".join(filter(None, (rule.method, rule.path or tool or rule.operation_type)))
        for rule, tool in zip(rules, tools, strict=True)
    ]
    more = ", …" if len(texts) > MAX_REASON_ENTRIES else ""
    listed = ", ".join(filter(None, texts[:MAX_REASON_ENTRIES])) or entry.endpoint.access
    return f"{entry.id} ({listed}{more})" if listed else entry.id


_Read = Callable[[Entry], list[Request]]


def _reader(action: NetRequest) -> _Read:
    """Return a function that reads an action as one entry does, each entry's reading made once."""
    known: dict[int, list[Request]] = {}

    def read(entry: Entry) -> list[Request]:
        if entry.index not in known:
            known[entry.index] = readings(action, entry.endpoint)
        return known[entry.index]

    return read


_Denial = tuple[Entry, str, str]


def _restrictions(denials: Sequence[_Denial], audited: bool | None = None) -> list[Match]:
    """Return denials as matches; `audited` None: each is enforced or not as its own entry says."""
    return [
        Match(Verdict.DENY, rule, why, audit_only=not entry.enforced if audited is None else audited)
        for entry, rule, why in denials
    ]


def _withheld(entry: Entry, read: _Read) -> str:
    return next((why for why in map(entry.withholds, read(entry)) if why), "")


def _body_problem(request: Request) -> str:
    for form in (request.message, request.graphql):
        if isinstance(form, Mapping) and form.get("error"):
            return str(form["error"])
    return ""


def _authority(action: NetConnect) -> str:
    return f"[{action.host}]:{action.port}" if ":" in action.host else f"{action.host}:{action.port}"


def shown_path(path: str) -> str:
    """Return a path for people, with segments that could hold a secret replaced: long ones, and odd characters."""
    parts = []
    for part in path.split("/"):
        plain = len(part) <= 24 and all(char.isalnum() or char in "._-@~" for char in part)
        digits = sum(char.isdigit() for char in part)
        parts.append(part if plain and not (digits > 6 and digits < len(part)) else "…")
    return "/".join(parts)


def compile_network(policies: NetworkPolicies, *, semantics: str = "strict") -> NetworkSection:
    """Return the compiled section of one checked mapping of policies; `policy/netsection.py` wires it to files."""
    section = NetworkSection(semantics=semantics)
    section.add(policies)
    return section
