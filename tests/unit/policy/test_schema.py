"""The schema: the design's own example loads, unknown keys are refused everywhere, the JSON Schema is up to date."""

from __future__ import annotations

import json
from importlib.resources import files

import jsonschema
import pytest
from pydantic import BaseModel

from agent_os.core.errors import PolicyError
from agent_os.policy import Policy
from agent_os.policy.reader import read
from agent_os.policy.schema import PolicyFile, json_schema

EXAMPLE = """
version: 1
filesystem_policy: {include_workdir: true, read_only: [/usr, /lib, /etc/ssl], read_write: [/tmp]}
network_policies:
  erp:
    endpoints:
      - {host: erp.corp.example, port: 443, protocol: rest, enforcement: enforce, rules: [{allow: {method: GET, path: "/invoices/**"}}]}
    binaries: [{path: /usr/bin/python3}]
tools:
  read_file:    {allow: {path: {under: inbox/}}}
  send_payment: {allow: {amount: {max: 50000}, currency: {in: [EUR, USD]}}, ask: {amount: {min: 1000}}, deny: {iban: {not_in: data.suppliers.iban}}}
data: {suppliers: {file: suppliers.yaml}}
models:
  providers: {nemotron: {kind: openai, base_url: "https://integrate.api.nvidia.com/v1", secret: NVIDIA_API_KEY}, local: {kind: local, model: smollm2}}
  routes: [{when: {finds: [HEALTH]}, use: local}, {use: nemotron, tier: high}]
privacy: [{find: [PERSON, IBAN_CODE, EMAIL_ADDRESS], to: external, do: pseudonymise}, {find: [SECRET], to: any, do: deny}]
flow: {authority_from_untrusted: ask, secrets_to_untrusted: deny}
budgets: [{per: user, window: year, tokens: 50000000}, {per: agent, window: run, usd: 2}]
agents: {max_depth: 2, max_children: 8, roles: {researcher: {tools: [read_file], budgets: {tokens: 20000}}}}
approvals: {timeout: 15m, approvers: ["group:finance"], two_person: {when: {amount: {min: 10000}}}}
audit: {payloads: encrypted, keep: 30d}
rego: [{path: finance.rego, package: finance}]
"""


def test_the_designs_example_loads() -> None:
    """The example of the design is a policy, and durations are seconds."""
    policy = Policy.parse(EXAMPLE)
    assert policy.document.approvals is not None
    assert policy.document.approvals.timeout == 900
    assert policy.document.audit is not None
    assert policy.document.audit.keep == 30 * 86400
    assert policy.engines == (("rego:finance", frozenset()),)


def test_the_committed_json_schema_is_the_generated_one() -> None:
    """`agentos policy schema > agent_os/policy/policy.schema.json` was run after the last change of a model."""
    committed = json.loads(files("agent_os.policy").joinpath("policy.schema.json").read_text())
    assert committed == json.loads(json.dumps(json_schema()))


def test_the_json_schema_accepts_what_the_models_accept() -> None:
    """An editor that uses the JSON Schema agrees with the loader on the example."""
    jsonschema.Draft202012Validator.check_schema(json_schema())
    jsonschema.Draft202012Validator(json_schema()).validate(read(EXAMPLE).value)


def _models(model: type[BaseModel], seen: set[type[BaseModel]]) -> None:
    import typing

    def walk(annotation: object) -> None:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            fields = {} if annotation in seen else annotation.model_fields
            seen.add(annotation)
            for field in fields.values():
                walk(field.annotation)
        for argument in typing.get_args(annotation):
            walk(argument)

    walk(model)


def test_every_field_is_described_and_every_model_refuses_unknown_keys() -> None:
    """No field without a description, no model that ignores a misspelt key."""
    seen: set[type[BaseModel]] = set()
    _models(PolicyFile, seen)
    assert len(seen) > 40
    for model in seen:
        assert model.model_config.get("extra") == "forbid", model
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"


@pytest.mark.parametrize(
    ("text", "where", "hint"),
    [
        ("toolz: {}", "unknown key 'toolz'", "did you mean 'tools'?"),
        ("tools: {x: {alow: true}}", "unknown key 'alow' in tools.x", "did you mean 'allow'?"),
        ("tools: {x: {allow: {p: {undr: a}}}}", "unknown key 'undr' in tools.x.allow.p", "did you mean 'under'?"),
        ("tools: {x: {rules: [{deny: true, wen: 1}]}}", "unknown key 'wen' in tools.x.rules[0]", "who"),
        ("filesystem_policy: {read_olny: []}", "unknown key 'read_olny'", "did you mean 'read_only'?"),
        ("process: {limits: {memry: 1}}", "unknown key 'memry' in process.limits", "did you mean 'memory'?"),
        ("network_policies: {a: {endpoints: [{hots: x}]}}", "unknown key 'hots'", "did you mean 'host'?"),
        ("models: {routes: [{use: x, deny: true, wehn: {}}]}", "unknown key 'wehn'", "did you mean 'when'?"),
        ("privacy: [{find: [X], do: deny, too: any}]", "unknown key 'too'", "did you mean 'to'?"),
        ("flow: {authority_from_untrustd: ask}", "unknown key", "did you mean 'authority_from_untrusted'?"),
        ("budgets: [{per: user, window: day, token: 1}]", "unknown key 'token'", "did you mean 'tokens'?"),
        ("agents: {roles: {a: {tols: []}}}", "unknown key 'tols'", "did you mean 'tools'?"),
        ("approvals: {two_person: {wen: {}}}", "unknown key 'wen'", "did you mean 'when'?"),
        ("secrets: {A: {destination: []}}", "unknown key 'destination'", "did you mean 'destinations'?"),
        (
            "audit: {sinks: [{kind: file, target: x, require: true}]}",
            "unknown key 'require'",
            "did you mean 'required'?",
        ),
        ("rego: [{inline: x, pakage: y}]", "unknown key 'pakage'", "did you mean 'package'?"),
        ("memory: {reed: []}", "unknown key 'reed'", "did you mean 'read'?"),
        ("messages: {allow: [{too: []}]}", "unknown key 'too'", "did you mean 'to'?"),
        ("schedules: {allow: [{nam: x}]}", "unknown key 'nam'", "did you mean 'name'?"),
    ],
)
def test_unknown_keys_are_refused_at_every_level_with_the_nearest_known_one(text: str, where: str, hint: str) -> None:
    """A misspelt key never silently drops a rule."""
    with pytest.raises(PolicyError) as caught:
        Policy.parse("version: 1\n" + text, file="p.yaml")
    texts = [str(problem) for problem in caught.value.problems]
    assert any(where in one and hint in one and one.startswith("p.yaml:2:") for one in texts), texts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version: 2", "version must be 1"),
        ("version: '1'", "version must be 1"),
        ("tools: {x: {allow: 3}}", "tools.x.allow must be true, or conditions"),
        ("tools: {x: {allow: {a: {}}}}", "an empty condition says nothing"),
        ("tools: {x: {rules: [{id: b}]}}", "needs exactly one of allow, ask, deny"),
        ("tools: {x: {allow: {a: {min: '3'}}}}", "must be a number"),
        ("approvals: {timeout: soon}", "must be a duration"),
        ("filesystem_policy: {read_write: [/]}", "whole file system"),
        ("filesystem_policy: {read_only: [/usr/../etc]}", "'..'"),
        ("process: {run_as_user: '0'}", "run_as_user"),
        ("process: {run_as_user: root}", "run_as_user"),
        ("models: {routes: [{use: x}]}", "no provider of this file"),
        ("rego: [{package: x}]", "needs exactly one of path, inline, opa"),
        ("budgets: [{per: user, window: year}]", "needs at least one of"),
        ("data: {a: {file: x, values: []}}", "exactly one of file, values"),
        ("include_workdir: 'yes'", "unknown key"),
        ("filesystem_policy: {include_workdir: yes}", "must be true or false"),
        ("- a", "must be a mapping"),
        ("", "must be a mapping"),
    ],
)
def test_wrong_values_are_refused_with_what_was_expected(text: str, message: str) -> None:
    """Types are exact: no texts for numbers, no `yes` for true."""
    with pytest.raises(PolicyError, match=message):
        Policy.parse(text)


def test_every_problem_is_reported_at_once_in_file_order() -> None:
    """A person mends a file in one go."""
    with pytest.raises(PolicyError) as caught:
        Policy.parse("tools: {x: {alow: 1}}\nflow: {remember: often}\nbudgets: [{per: nobody, window: day, tokens: 1}]")
    assert [problem.place.line for problem in caught.value.problems] == [1, 2, 3]
    assert (caught.value.line, caught.value.column) == (1, 13)
    assert "did you mean 'allow'?" in caught.value.hint
