"""The documents of the LangChain adapter and the gateway are true: policies load, Python compiles."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent_os import Policy
from agent_os.runtime.gateway import aim_of, endpoints_of

DOCS = Path(__file__).resolve().parents[2] / "docs"


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (DOCS / name).read_text(encoding="utf-8"), re.S | re.M)


def test_the_policy_of_the_gateways_document_loads_and_aims() -> None:
    """Its providers have endpoints, and its alias leads where it says."""
    (text,) = blocks("models.md", "yaml")
    policy = Policy.parse(text)
    assert set(endpoints_of(policy)) == {"nemotron", "house"}
    aim = aim_of(policy, "default")
    assert (aim.providers, aim.model) == (("nemotron",), "nvidia/llama-3.3-nemotron-super-49b-v1")


@pytest.mark.parametrize("name", ["langchain.md"])
def test_python_of_the_documents_compiles(name: str) -> None:
    """Every Python block is Python."""
    for code in blocks(name, "python"):
        compile(code, name, "exec")
