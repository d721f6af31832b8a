"""Values cut in two: found over the joints of messages, parts, results, members and calls; neighbours by chance are not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agent_os import DeniedError
from agent_os.core.action import Action
from agent_os.guards.privacy.content import texts_of
from agent_os.guards.privacy.joints import joints, settled
from agent_os.runtime.privacy import local_detector
from tests.unit.adapters.langchain.sessions import session

DETECTOR = local_detector(ner=False, names=False)


def said(*parts: str, role: str = "user") -> list[dict[str, Any]]:
    """Return messages of one role, an answer between each."""
    rows = [[{"role": role, "content": part}, {"role": "assistant", "content": "Go on."}] for part in parts]
    return [message for row in rows for message in row]


def found(messages: Any) -> set[tuple[str, str]]:
    """Return (kind, text) of what stands over the joints of a model call."""
    action = Action.parse({"kind": "model.call", "model": "m", "provider": "p", "messages": messages})
    texts = texts_of(action)
    over = joints(action, texts, {})
    scanned = asyncio.run(DETECTOR.scan({**texts, **{pointer: item.text for pointer, item in over.items()}}))
    placed = settled(scanned, over, texts)
    return {(item.type, texts[item.pointer][item.start : item.end]) for item in placed if item.by == "joined"}


def content(*parts: str) -> list[dict[str, Any]]:
    """Return one message of several parts."""
    return [{"role": "user", "content": [{"type": "text", "text": part} for part in parts]}]


CUT: dict[str, tuple[Any, set[tuple[str, str]]]] = {
    "two messages": (said("card 4539 1488", "0343 6467, ok?"), {("CREDIT_CARD", "4539 1488"), ("CREDIT_CARD", "0343 6467")}),
    "two parts": (content("IBAN DE89 3704 0044", "0532 0130 00 please"),
                  {("IBAN_CODE", "DE89 3704 0044"), ("IBAN_CODE", "0532 0130 00")}),
    "three results": (said("DE89370400", "44053201", "3000", role="tool"),
                      {("IBAN_CODE", "DE89370400"), ("IBAN_CODE", "44053201"), ("IBAN_CODE", "3000")}),
    "two members": ([{"role": "user", "content": {"card_a": "45391488", "b": "03436467"}}],
                    {("CREDIT_CARD", "45391488"), ("CREDIT_CARD", "03436467")}),
    "a key": (content("take ghp_16C7e42F292c", "6912E7710c838347Ae178B4a"),
              {("SECRET_GITHUB_TOKEN", "ghp_16C7e42F292c"), ("SECRET_GITHUB_TOKEN", "6912E7710c838347Ae178B4a")}),
    "benign: order numbers": (content("order 45391488", "03436467 is the second"), set()),
    "benign: phone and reference": (content("+49 30 901820", "4539 1488 0343"), set()),
    "benign: one wrong check digit": (said("4539 1488", "0343 6468"), set()),
    "benign: a whole key and a word": (content("key ghp_16C7e42F292c6912E7710c838347Ae178B4a", "Hello there"), set()),
    "benign: cut by words": (content("the card 4539 1488 ends", "in 0343 6467"), set()),
}  # fmt: skip


@pytest.mark.parametrize("name", CUT)
def test_values_are_found_over_joints(name: str) -> None:
    """Each part of the value is a finding where it stands; what is no value, or not beside its other half, is none."""
    messages, wanted = CUT[name]
    assert found(messages) == wanted


def test_the_second_half_in_a_second_call_of_the_tool_is_denied(tmp_path: Path) -> None:
    """ATTACK: half of an account number a call. The same call again is a retry, and another number is another number."""
    rules = "privacy: [{find: [IBAN_CODE], to: any, do: deny}]\n"
    with session(tmp_path, "{write_file: {allow: true}}", rules) as system:

        def write(text: str, name: str = "a") -> None:
            system.perform(
                {"kind": "tool.call", "tool": "write_file", "args": {"path": f"{name}.txt", "content": text}}
            )

        write("DE89 3704 0044")
        write("DE89 3704 0044")
        write("0532 0130 01")
        write("DE89 3704 0044", "b")
        with pytest.raises(DeniedError, match="IBAN_CODE found"):
            write("0532 0130 00")
