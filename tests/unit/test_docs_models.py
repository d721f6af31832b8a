"""The documents of the LangChain adapter and the gateway are true: policies load, Python compiles."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent_os import Action, Policy, decide
from agent_os.core.facts import Facts
from agent_os.core.principal import Principal
from agent_os.runtime.model_routes import aim_of, endpoints_of

DOCS = Path(__file__).resolve().parents[2] / "docs"


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (DOCS / name).read_text(encoding="utf-8"), re.S | re.M)


def test_the_policy_of_the_gateways_document_loads_and_aims() -> None:
    """Its providers have endpoints, and its alias leads where it says."""
    text = blocks("models.md", "yaml")[0]
    policy = Policy.parse(text)
    assert set(endpoints_of(policy)) == {"nemotron", "house"}
    aim = aim_of(policy, "default")
    assert (aim.providers, aim.model) == (("nemotron",), "nvidia/llama-3.3-nemotron-super-49b-v1")


def test_the_policy_about_pictures_does_what_the_document_says() -> None:
    """A picture goes to the house's own model, and is denied where a privacy rule speaks and where it is not taken."""
    text = next(block for block in blocks("models.md", "yaml") if "qwen-vl" in block)
    policy = Policy.parse(text)
    picture = {"type": "image", "url": "data:image/png;base64,AA"}

    def ask(provider: str, model: str) -> str:
        wire = {
            "kind": "model.call",
            "provider": provider,
            "model": model,
            "messages": [{"role": "user", "content": [picture]}],
        }
        return decide(policy, Action.parse(wire), Facts(findings=())).verdict.value

    assert ask("house", "qwen-vl") == "allow"
    assert ask("openai", "gpt-5") == "deny"


def test_the_leases_of_the_document_hold() -> None:
    """What was leased to a tenant is allowed, the other model is not; each budget speaks of its own tenant alone."""
    policy = Policy.parse(next(block for block in blocks("models.md", "yaml") if "lease-acme" in block))

    def ask(tenant: str, model: str) -> tuple[str, set[str]]:
        wire = {"kind": "model.call", "model": model, "messages": [{"role": "user", "content": "hi"}]}
        action = Action.parse(wire, principal=Principal(tenant=tenant, user=tenant, agent="clerk"))
        decision = decide(policy, action, Facts(findings=(), budgets=()))
        budgets = {str(each.params["budget"]) for each in decision.obligations if each.kind == "reserve"}
        return decision.verdict.value, budgets

    assert ask("acme", "big") == ("allow", {"lease-acme"})
    assert ask("bolt", "tiny") == ("allow", {"lease-bolt"})
    assert ask("bolt", "big")[0] == "deny"


@pytest.mark.parametrize("name", ["langchain.md"])
def test_python_of_the_documents_compiles(name: str) -> None:
    """Every Python block is Python."""
    for code in blocks(name, "python"):
        compile(code, name, "exec")


def test_a_kind_at_its_own_address_has_a_key_by_name() -> None:
    """Where policy names no secret, the key that the provider's own clients take; at any other address none leaves."""
    providers = (
        "{a: {kind: openai, models: ['*']}, b: {kind: openai, base_url: 'https://llm.example/v1'}, c: {kind: ollama}}"
    )
    found = endpoints_of(Policy.parse(f"version: 1\nmodels: {{providers: {providers}}}"))
    assert {name: endpoint.secret for name, endpoint in found.items()} == {"a": "OPENAI_API_KEY", "b": "", "c": ""}
