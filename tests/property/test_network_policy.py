"""Laws of the network section over random policies and requests."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from agent_os.core.action import Action
from agent_os.core.facts import Facts
from agent_os.policy.network import check_network, compile_network
from agent_os.policy.schema.network import NetworkPolicies
from tests.unit.policy.network.support import verdict

RUNS = settings(max_examples=120, deadline=None)
ADAPTER: TypeAdapter[Any] = TypeAdapter(NetworkPolicies)
HOSTS = st.sampled_from(["a.test", "b.test", "*.c.test", "**.c.test"])
METHODS = st.sampled_from(["GET", "POST", "DELETE", "*"])
PATHS = st.sampled_from(["/a", "/a/**", "/**", "**", "/a/*/c", "/b"])
RULE = st.fixed_dictionaries({"method": METHODS, "path": PATHS})
PROGRAMS = st.lists(st.sampled_from(["/bin/x", "/bin/y", "/bin/*"]), min_size=1, max_size=2)


@st.composite
def endpoints(draw: Any) -> dict[str, Any]:
    """One endpoint, inspected or not."""
    result: dict[str, Any] = {"host": draw(HOSTS), "port": draw(st.sampled_from([443, 80]))}
    if draw(st.booleans()):
        result |= {"protocol": "rest", "enforcement": draw(st.sampled_from(["enforce", "audit"]))}
        if draw(st.booleans()):
            result["access"] = draw(st.sampled_from(["read-only", "read-write", "full"]))
        else:
            result["rules"] = [{"allow": rule} for rule in draw(st.lists(RULE, min_size=1, max_size=3))]
        if draw(st.booleans()):
            result["deny_rules"] = draw(st.lists(RULE, min_size=1, max_size=2))
    return result


@st.composite
def policies(draw: Any) -> dict[str, Any]:
    """A small network policy mapping."""
    names = draw(st.lists(st.sampled_from("pqr"), min_size=1, max_size=3, unique=True))
    return {
        name: {
            "endpoints": draw(st.lists(endpoints(), min_size=1, max_size=2)),
            "binaries": [{"path": path} for path in draw(PROGRAMS)],
        }
        for name in names
    }


REQUESTS = st.fixed_dictionaries(
    {
        "kind": st.just("net.request"),
        "host": st.sampled_from(["a.test", "b.test", "x.c.test", "x.y.c.test", "z.test"]),
        "port": st.sampled_from([443, 80]),
        "binary": st.sampled_from(["/bin/x", "/bin/y", "/bin/z", "/usr/w"]),
        "ancestors": st.sampled_from([[], ["/bin/x"]]),
        "method": st.sampled_from(["GET", "HEAD", "POST", "DELETE"]),
        "path": st.sampled_from(["/a", "/a/b", "/a/b/c", "/b", "/"]),
    }
)
ORDER = {"deny": 0, "audit": 1, "allow": 1}


def judge(document: dict[str, Any], wire: dict[str, Any], semantics: str = "strict") -> str:
    """Return the section's verdict on a wire form."""
    action = Action.parse(wire)
    compiled = compile_network(ADAPTER.validate_python(document), semantics=semantics)
    return verdict(compiled.judge(action, Facts.defaults().with_stated(action.stated)))


@RUNS
@given(policies(), REQUESTS)
def test_strict_is_never_more_open_than_the_reference(document: dict[str, Any], wire: dict[str, Any]) -> None:
    """Whatever strict allows, openshell semantics allow too (values here have no dots, programs are listed)."""
    assert ORDER[judge(document, wire)] <= ORDER[judge(document, wire, "openshell")]


@RUNS
@given(policies(), REQUESTS, RULE, st.sampled_from(["strict", "openshell"]))
def test_adding_a_deny_rule_never_loosens(
    document: dict[str, Any], wire: dict[str, Any], rule: Any, semantics: str
) -> None:
    """Law 4, for every inspected endpoint of every policy."""
    before = ORDER[judge(document, wire, semantics)]
    for name, policy in document.items():
        for index, endpoint in enumerate(policy["endpoints"]):
            if "protocol" in endpoint:
                changed = copy.deepcopy(document)
                changed[name]["endpoints"][index].setdefault("deny_rules", []).append(rule)
                assert ORDER[judge(changed, wire, semantics)] <= before


@RUNS
@given(policies(), REQUESTS, st.sampled_from(["strict", "openshell"]))
def test_removing_an_allow_rule_never_loosens(document: dict[str, Any], wire: dict[str, Any], semantics: str) -> None:
    """Law 4: one rule of several less (an endpoint never loses its last one, which would be another file)."""
    before = ORDER[judge(document, wire, semantics)]
    for name, policy in document.items():
        for index, endpoint in enumerate(policy["endpoints"]):
            for number in range(len(endpoint.get("rules", ())) if len(endpoint.get("rules", ())) > 1 else 0):
                changed = copy.deepcopy(document)
                del changed[name]["endpoints"][index]["rules"][number]
                assert ORDER[judge(changed, wire, semantics)] <= before


@RUNS
@given(policies(), REQUESTS, st.sampled_from(["strict", "openshell"]))
def test_a_request_is_never_wider_than_its_connection(
    document: dict[str, Any], wire: dict[str, Any], semantics: str
) -> None:
    """What may be requested may be connected to."""
    connect = {key: wire[key] for key in ("host", "port", "binary", "ancestors")} | {"kind": "net.connect"}
    assert ORDER[judge(document, wire, semantics)] <= ORDER[judge(document, connect, semantics)]


@RUNS
@given(policies(), REQUESTS)
def test_the_order_of_policies_does_not_matter(document: dict[str, Any], wire: dict[str, Any]) -> None:
    """Law 2, and the same for the order of endpoints within a policy."""
    turned = {
        name: {**document[name], "endpoints": document[name]["endpoints"][::-1]} for name in reversed(list(document))
    }
    assert judge(document, wire) == judge(turned, wire)


@RUNS
@given(policies())
def test_checks_are_total(document: dict[str, Any]) -> None:
    """Checking any policy of the schema gives findings, never an exception."""
    for semantics in ("strict", "openshell"):
        for finding in check_network(ADAPTER.validate_python(document), semantics=semantics):
            assert finding.path.startswith("network_policies.")
