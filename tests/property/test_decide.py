"""The laws of `decide`, and a reference decision written from the design alone, run against the engine.

Policies are drawn as data: tools with allow, ask and deny clauses of conditions, several layers, trials. The reference
knows nothing of indexes, closures or sections.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent_os.core.action import Action
from agent_os.core.decision import Verdict
from agent_os.core.facts import DEFAULTS, ExternalVerdict
from agent_os.policy import Policy, decide

NAMES = ["pay", "read_file", "read_mail", "mail/send"]
PATTERNS = [*NAMES, "read_*", "*", "**", "*_file", "mail/*", "send"]
ARGUMENTS = ["a", "b"]
VALUES: list[Any] = ["x", "y", 1, 5, True, None, ["x", "y"], [], "inbox/a", "../a"]

conditions = st.one_of(
    st.sampled_from(["x", 1, True]),
    st.sampled_from([{"min": 2}, {"max": 4}, {"in": ["x", 5]}, {"not_in": ["x"]}, {"under": "inbox"}, {"present": True}, {"absent": True}]),
    st.sampled_from([["x", {"min": 2}], {"min": 2, "max": 9}, {"type": "array"}, {"length": 1}, {"not": {"in": ["x"]}}]),
)  # fmt: skip
arguments = st.dictionaries(st.sampled_from(ARGUMENTS), conditions, max_size=2)
clauses = st.one_of(st.just(True), st.just(False), arguments, st.lists(arguments, min_size=1, max_size=2))
tools = st.fixed_dictionaries(
    {},
    optional={"allow": clauses, "ask": clauses, "deny": clauses, "enforcement": st.sampled_from(["enforce", "audit"])},
)
documents = st.dictionaries(st.sampled_from(PATTERNS), tools, max_size=5).map(lambda found: {"tools": found})
layers = st.lists(documents, min_size=1, max_size=3)
calls = st.builds(
    lambda name, args: {
        "kind": "tool.call", "tool": name.rpartition("/")[2], "args": args,
        **({"server": "mail"} if name.startswith("mail/") else {}),
    },
    st.sampled_from([*NAMES, "other"]),
    st.dictionaries(st.sampled_from(ARGUMENTS), st.sampled_from(VALUES), max_size=2),
)  # fmt: skip
BOUNDED = settings(max_examples=250, deadline=None)


# ---- the reference: about thirty lines ------------------------------------------------------------------------------


def holds(condition: Any, value: Any, given: bool, restricts: bool) -> bool | None:
    if isinstance(condition, list):
        answers = [holds(item, value, given, restricts) for item in condition]
        return True if True in answers else None if None in answers else False
    tests = condition if isinstance(condition, dict) else {"equals": condition}
    if not given:
        present = tests.get("present", not tests["absent"] if "absent" in tests else None)
        return None if present is None else not present
    if tests.get("absent") or tests.get("present") is False:
        return False
    if isinstance(value, list) and not set(tests) & {"type", "length", "present"}:
        answers = [holds(condition, item, True, restricts) if not isinstance(item, list) else None for item in value]
        order = (True, None, False) if restricts else (False, None, True)
        return next((answer for answer in order if answer in answers), order[2])
    answers = [one(name, wanted, value, restricts) for name, wanted in tests.items() if name != "present"]
    return False if False in answers else None if None in answers else True


def one(name: str, wanted: Any, value: Any, restricts: bool) -> bool | None:
    kind = "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__
    if name == "equals":
        same = kind == ("number" if isinstance(wanted, int) and not isinstance(wanted, bool) else type(wanted).__name__)
        return value == wanted if same else None
    if name in ("min", "max"):
        return None if kind != "number" else value >= wanted if name == "min" else value <= wanted
    if name in ("in", "not_in"):
        kinds = {"number" if isinstance(item, int) else "str" for item in wanted}
        inside = value in wanted if kind in kinds else None
        return inside if name == "in" or inside is None else not inside
    if name == "under":
        return None if kind != "str" else value == wanted or value.startswith(wanted + "/")
    if name == "type":
        return isinstance(value, list)
    if name == "length":
        return len(value) == wanted if kind in ("str", "list") else None
    inner = holds(wanted, value, True, not restricts)
    return None if inner is None else not inner


def clause_holds(clause: Any, args: dict[str, Any], restricts: bool) -> bool | None:
    if isinstance(clause, bool):
        return clause
    alternatives = clause if isinstance(clause, list) else [clause]
    answers = []
    for item in alternatives:
        parts = [holds(condition, args.get(name), name in args, restricts) for name, condition in item.items()]
        answers.append(False if False in parts else None if None in parts else True)
    return True if True in answers else None if None in answers else False


def covers(pattern: str, target: str, restricts: bool) -> bool:
    names = {target, target.rpartition("/")[2]} if restricts else {target}
    if "*" not in pattern:
        return pattern in names
    head, _, tail = pattern.partition("**" if "**" in pattern else "*")
    return any(
        name.startswith(head) and name.endswith(tail) and len(name) >= len(head) + len(tail)
        and (restricts or "**" in pattern or "/" not in name[len(head) : len(name) - len(tail)])
        for name in names
    )  # fmt: skip


def reference(documents: list[dict[str, Any]], call: dict[str, Any]) -> str:
    target = f"{call['server']}/{call['tool']}" if "server" in call else call["tool"]
    strictest = 0
    for document in documents:
        allowed, worst = False, 0
        for pattern, tool in document["tools"].items():
            for effect, level in (("allow", 0), ("ask", 1), ("deny", 2)):
                if effect not in tool or not covers(pattern, target, level > 0):
                    continue
                answer = clause_holds(tool[effect], call["args"], level > 0)
                if level == 0:
                    allowed = allowed or answer is True
                elif answer is not False and tool.get("enforcement") != "audit":
                    worst = max(worst, level)
        strictest = max(strictest, worst if allowed else 2)
    return ("allow", "ask", "deny")[strictest]


# ---- the laws -------------------------------------------------------------------------------------------------------


def load(documents: list[dict[str, Any]]) -> Policy:
    return Policy.layered([Policy.parse(json.dumps(document)) for document in documents])


@BOUNDED
@given(layers, calls)
@example(
    [{"tools": {"pay": {"allow": True, "deny": {"a": {"not_in": ["x"]}}}}}],
    {"kind": "tool.call", "tool": "pay", "args": {}},
)
def test_the_engine_agrees_with_the_reference(documents: list[dict[str, Any]], call: dict[str, Any]) -> None:
    """Same verdict for every policy and call that can be drawn."""
    assert decide(load(documents), Action.parse(call)).verdict.value == reference(documents, call)


@BOUNDED
@given(documents, documents, calls)
def test_a_pack_and_a_file_are_united(own: dict[str, Any], pack: dict[str, Any], call: dict[str, Any]) -> None:
    """Either may allow; the restrictions of both hold: the same as one file with the rules of both side by side."""
    text = json.dumps({**own, "extends": ["pack:p"]})
    policy = Policy.parse(text, resolve_pack=lambda _reference, _file: (json.dumps(pack), "p"))
    target = f"{call['server']}/{call['tool']}" if "server" in call else call["tool"]
    allowed, worst = False, 0
    for pattern, tool in (*own["tools"].items(), *pack["tools"].items()):
        for effect, level in (("allow", 0), ("ask", 1), ("deny", 2)):
            if effect in tool and covers(pattern, target, level > 0):
                answer = clause_holds(tool[effect], call["args"], level > 0)
                allowed = allowed or (level == 0 and answer is True)
                if level and answer is not False and tool.get("enforcement") != "audit":
                    worst = max(worst, level)
    assert decide(policy, Action.parse(call)).verdict.strictness == (worst if allowed else 2)


@BOUNDED
@given(documents, calls)
def test_order_of_rules_does_not_matter(document: dict[str, Any], call: dict[str, Any]) -> None:
    """Strictest wins, whatever stands first."""
    action = Action.parse(call)
    verdicts = {
        decide(load([{"tools": dict(order)}]), action).verdict
        for order in itertools.islice(itertools.permutations(document["tools"].items()), 6)
    }
    assert len(verdicts) <= 1


@BOUNDED
@given(documents, calls, st.sampled_from(PATTERNS), st.sampled_from(["ask", "deny"]), clauses)
def test_adding_a_restriction_never_loosens(
    document: dict[str, Any], call: dict[str, Any], pattern: str, effect: str, clause: Any
) -> None:
    """With one more ask or deny every verdict is as strict or stricter."""
    action = Action.parse(call)
    before = decide(load([document]), action).verdict
    rule = {"rules": [*document["tools"].get(pattern, {}).get("rules", []), {effect: clause}]}
    changed = {"tools": {**document["tools"], pattern: {**document["tools"].get(pattern, {}), **rule}}}
    assert decide(load([changed]), action).verdict.strictness >= before.strictness


@BOUNDED
@given(documents, calls, st.data())
def test_removing_an_allow_never_loosens(document: dict[str, Any], call: dict[str, Any], data: st.DataObject) -> None:
    """Without one of the allows every verdict is as strict or stricter."""
    holders = [name for name, tool in document["tools"].items() if "allow" in tool]
    if not holders:
        return
    name = data.draw(st.sampled_from(holders))
    less = {key: value for key, value in document["tools"][name].items() if key != "allow"}
    action = Action.parse(call)
    before = decide(load([document]), action).verdict
    after = decide(load([{"tools": {**document["tools"], name: less}}]), action).verdict
    assert after.strictness >= before.strictness


@BOUNDED
@given(documents, documents, calls)
def test_a_layer_only_narrows(first: dict[str, Any], second: dict[str, Any], call: dict[str, Any]) -> None:
    """Two layers are exactly as strict as the stricter of the two alone."""
    action = Action.parse(call)
    alone = [decide(load([document]), action).verdict for document in (first, second)]
    assert decide(load([first, second]), action).verdict is Verdict.strictest(*alone)


@BOUNDED
@given(documents, calls)
def test_decide_is_deterministic_and_total(document: dict[str, Any], call: dict[str, Any]) -> None:
    """The same question has the same answer, byte for byte, from another parse too; rules named exist."""
    action = Action.parse(call)
    policy, again = load([document]), load([document])
    one = decide(policy, action)
    assert one == decide(policy, action) == decide(again, action)
    assert set(one.rules) | set(one.errored) | set(one.audit_only) <= set(policy.rules)
    assert json.loads(json.dumps(one.to_json()))["verdict"] == one.verdict.value


@BOUNDED
@given(documents, calls, st.sampled_from(list(Verdict)), st.booleans())
def test_an_external_verdict_never_loosens(
    document: dict[str, Any], call: dict[str, Any], said: Verdict, broken: bool
) -> None:
    """Whatever an engine says, the verdict is as strict or stricter; its failure denies."""
    action, policy = Action.parse(call), load([document])
    before = decide(policy, action).verdict
    facts = replace(DEFAULTS, verdicts=(ExternalVerdict("x", said, error="broken" if broken else ""),))
    after = decide(policy, action, facts).verdict
    assert after is (Verdict.DENY if broken else Verdict.strictest(before, said))


@BOUNDED
@given(st.recursive(st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8)), lambda inner: st.one_of(
    st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)), max_leaves=12))  # fmt: skip
def test_any_json_is_answered_by_the_stream(value: Any) -> None:
    """Whatever a line holds, there is a decision; what is no action is denied."""
    from agent_os.policy.workbench.stream import Decider

    answer = json.loads(Decider(Policy.parse("memory: allow")).decide_line(json.dumps(value).encode()))
    assert answer["verdict"] == "deny"
