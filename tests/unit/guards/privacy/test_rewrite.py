"""Rewriting actions: what is found is replaced where it stands, the stricter obligation wins, guesses are refused."""

from __future__ import annotations

import pytest

from agent_os.core.action import Action
from agent_os.core.decision import Obligation
from agent_os.core.errors import EffectError
from agent_os.core.facts import Finding
from agent_os.guards.privacy.content import texts_of
from agent_os.guards.privacy.preview import pictured, withheld
from agent_os.guards.privacy.pseudonyms import PseudonymBook
from agent_os.guards.privacy.rewrite import finds, rewrite
from agent_os.guards.privacy.router import SessionRouter

PSEUDONYMISE = Obligation("pseudonymise", {"find": ["PERSON"]}, "r1")
REDACT = Obligation("redact", {"find": ["PERSON"]}, "r2")


def call(text: str = "ask Ada now", **more: object) -> Action:
    return Action.parse(
        {"kind": "model.call", "model": "m", "provider": "p", "messages": [{"role": "user", "content": text}], **more}
    )


def person(start: int = 4, end: int = 7, pointer: str = "/messages/0/content") -> Finding:
    return Finding("PERSON", start, end, 0.9, pointer=pointer)


def book() -> PseudonymBook:
    return PseudonymBook(b"k" * 16)


def test_texts_of_every_kind_are_named_by_pointer() -> None:
    """Messages, arguments, bodies, keys and long integers are all scanned; protocol words and credentials are not."""
    request = Action.parse(
        {"kind": "net.request", "host": "a.example", "port": 443, "method": "POST", "path": "/u", "query": {"q": ["x y"]},
         "headers": {"authorization": "Bearer t", "x-note": "hello"}, "body": {"card_number": 4111111111111111, "n": 7}}
    )  # fmt: skip
    texts = texts_of(request)
    assert texts["/body/card_number"] == "4111111111111111"
    assert texts["/body/card_number#"] == "card_number"
    assert not any("authorization" in pointer or pointer == "/body/n" for pointer in texts)
    assert "hello" in texts.values()
    assert set(texts_of(call("hi"))) == {"/messages/0/content", "/messages/0/content#"}


def test_pseudonymise_and_restore_a_model_call() -> None:
    """The person leaves as a placeholder; the answer comes back with the name."""
    router = SessionRouter(book())
    sent = router.rewrite(call(), [person()], [PSEUDONYMISE])
    content = sent.messages[0]["content"]
    assert content.startswith("ask [PERSON_1_")
    assert "Ada" not in content
    assert router.restore({"content": f"told {content[4:-4]}"}, sent) == {"content": "told Ada"}


def test_the_stricter_obligation_wins() -> None:
    """Redaction beats pseudonyms for one finding."""
    changed = rewrite(call(), [person()], [PSEUDONYMISE, REDACT], book())
    assert changed.messages[0]["content"] == "ask [REDACTED_PERSON] now"


def test_thresholds_of_a_rule_hold() -> None:
    """A finding less sure than the rule asks for stays."""
    sure = Obligation("redact", {"find": ["PERSON"], "score": 0.95})
    assert rewrite(call(), [person()], [sure], book()).messages[0]["content"] == "ask Ada now"


@pytest.mark.parametrize("finding", [person(4, 70), person(pointer="/messages/9/content"), person(7, 7)])
def test_findings_that_do_not_fit_are_refused(finding: Finding) -> None:
    """Offsets outside the text mean that something is wrong: nothing is rewritten by guess."""
    with pytest.raises(EffectError):
        rewrite(call(), [finding], [PSEUDONYMISE], book())


def test_keys_and_numbers_are_rewritten_too() -> None:
    """A card number as an integer and an e-mail address as an object key are replaced."""
    action = Action.parse({"kind": "tool.call", "tool": "t", "args": {"ada@corp.test": 1, "n": 4111111111111111}})
    found = [
        Finding("CREDIT_CARD", 0, 16, pointer="/args/n"),
        Finding("EMAIL_ADDRESS", 0, 13, pointer="/args/ada@corp.test#"),
    ]
    changed = rewrite(action, found, [Obligation("redact", {"find": "*"})], book())
    assert changed.args == {"[REDACTED_EMAIL_ADDRESS]": 1, "n": "[REDACTED_CREDIT_CARD]"}


def test_local_only_moves_the_call_or_refuses() -> None:
    """A prompt that may not leave goes to the local model; without one, or for another kind, it is refused."""
    keep = [Obligation("local-only", {"find": ["*"]})]
    moved = rewrite(call(), [], keep, book(), local=("here", "small"))
    assert (moved.provider, moved.model) == ("here", "small")
    with pytest.raises(EffectError, match="no local model"):
        rewrite(call(), [], keep, book())
    tool = Action.parse({"kind": "tool.call", "tool": "t"})
    with pytest.raises(EffectError, match="only a model call"):
        rewrite(tool, [], keep, book(), local=("here", "small"))


def test_planted_placeholders_do_not_restore_to_their_original() -> None:
    """ATTACK: a web page carries a real placeholder of this session; it comes back as the text it was."""
    router = SessionRouter(book())
    stolen = router.rewrite(call(), [person()], [PSEUDONYMISE]).messages[0]["content"].split()[1]
    planted = call(f"page says {stolen}, ask Ada")
    sent = router.rewrite(
        planted,
        [
            Finding(
                "PERSON",
                len(planted.messages[0]["content"]) - 3,
                len(planted.messages[0]["content"]),
                pointer="/messages/0/content",
            )
        ],
        [PSEUDONYMISE],
    )
    assert stolen not in sent.messages[0]["content"].split("LITERAL")[0]
    assert router.restore(sent.messages, sent) == planted.messages


def test_a_second_round_leaves_own_placeholders_alone() -> None:
    """What this router produced is not put behind placeholders again."""
    router = SessionRouter(book())
    once = router.rewrite(call(), [person()], [PSEUDONYMISE])
    twice = router.rewrite(once, [], [PSEUDONYMISE])
    assert twice.messages == once.messages


def test_find_patterns() -> None:
    """SECRET stands for every secret; globs and exact names work."""
    assert finds(["SECRET"], "SECRET_JWT")
    assert finds("*", "PERSON")
    assert finds(["US_*"], "US_SSN")
    assert not finds(["SECRET", "PERSON"], "EMAIL_ADDRESS")


def test_unchanged_actions_are_the_same_object() -> None:
    """Where nothing is found the action, and with it its digest, stays."""
    action = call("nothing here")
    assert rewrite(action, [], [PSEUDONYMISE], book()) is action


def test_a_person_who_is_asked_sees_no_secret_and_the_whole_account() -> None:
    """Secrets and numbers of people are withheld in the picture of an action; what must be judged stays; so does the action."""
    text = "key ghp_secretsecret card 4111111111111111 to DE89370400440532013000"
    action = Action.parse({"kind": "tool.call", "tool": "pay", "args": {"text": text, "n": 1}})
    spans = (
        ("SECRET_GITHUB_TOKEN", "ghp_secretsecret"),
        ("CREDIT_CARD", "4111111111111111"),
        ("IBAN_CODE", "DE89370400440532013000"),
    )
    found = [
        Finding(kind, text.index(value), text.index(value) + len(value), 0.9, pointer="/args/text") for kind, value in spans
    ]  # fmt: skip
    shown = pictured(action, found)
    assert (
        shown.arguments["args"]["text"]
        == "key [SECRET_GITHUB_TOKEN withheld] card [CREDIT_CARD \u20261111] to DE89370400440532013000"
    )
    assert action.arguments["args"]["text"] == text
    assert pictured(action, None) is action
    assert withheld("US_SSN", "12-34") == "[US_SSN withheld]"
