"""The `privacy` section: findings x destination -> verdicts and obligations; missing facts make restrictions fire."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent_os.core.action import Action
from agent_os.core.decision import Verdict
from agent_os.core.errors import PolicyError
from agent_os.core.facts import DEFAULTS, Facts, Finding
from agent_os.core.label import Confidentiality, Integrity, Label
from agent_os.policy import Policy
from agent_os.policy.media import unreadable
from agent_os.policy.privacy import PrivacySection, compile_privacy, host_class
from agent_os.policy.rule import Match

HEAD = """
version: 1
models:
  providers:
    cloud: {kind: openai, base_url: "https://llm.example/v1", model: m}
    ours: {kind: vllm, base_url: "https://llm.corp.example/v1", model: m, destination: private}
    here: {kind: local, model: small}
"""


def section(text: str) -> PrivacySection:
    """Compile the privacy section of a policy through the real parser."""
    policy = Policy.parse(HEAD + text)
    for layer in policy.compiled:
        for governed in layer.by_kind["model.call"]:
            if governed.section.name == "privacy":
                assert isinstance(governed.section, PrivacySection)
                return governed.section
    raise AssertionError("the policy has no compiled privacy section")


def call(provider: str = "cloud", content: object = "hello") -> Action:
    return Action.parse(
        {"kind": "model.call", "model": "m", "provider": provider, "messages": [{"role": "user", "content": content}]}
    )


def facts(*types: str, score: float = 0.9, **more: object) -> Facts:
    found = tuple(Finding(kind, 0, 3, score, pointer="/messages/0/content") for kind in types)
    return replace(DEFAULTS, findings=found, **more)  # type: ignore[arg-type]


def judged(matches: object) -> list[tuple[str, tuple[str, ...]]]:
    assert isinstance(matches, list)
    return [
        (match.effect.value, tuple(item.kind for item in match.obligations))
        for match in matches
        if isinstance(match, Match)
    ]


RULES = """
privacy:
  - {find: [PERSON, IBAN_CODE], to: external, do: pseudonymise}
  - {find: [SECRET], to: any, do: deny}
  - {find: [US_SSN], to: [external, private], do: local-only}
  - {find: [EMAIL_ADDRESS], to: external, do: ask}
"""


def test_each_verb_gives_its_match() -> None:
    """Pseudonymise and local-only oblige, ask asks, deny denies; nothing found matches nothing."""
    compiled = section(RULES)
    assert judged(compiled.judge(call(), facts("PERSON"))) == [("allow", ("pseudonymise",))]
    assert judged(compiled.judge(call(), facts("SECRET_JWT"))) == [("deny", ())]
    assert judged(compiled.judge(call(), facts("US_SSN"))) == [("allow", ("local-only",))]
    assert judged(compiled.judge(call(), facts("EMAIL_ADDRESS"))) == [("ask", ())]
    assert judged(compiled.judge(call(), facts())) == []


def test_destinations_decide() -> None:
    """The same finding towards a local model, a private cloud and outside has three answers."""
    compiled = section(RULES)
    assert judged(compiled.judge(call("here"), facts("PERSON", "US_SSN", "EMAIL_ADDRESS"))) == []
    assert judged(compiled.judge(call("ours"), facts("PERSON", "US_SSN"))) == [("allow", ("local-only",))]
    assert judged(compiled.judge(call("unknown"), facts("PERSON"))) == [("allow", ("pseudonymise",))]
    assert judged(compiled.judge(call("here"), facts("SECRET_JWT"))) == [("deny", ())]


@pytest.mark.parametrize(
    "missing", [replace(DEFAULTS, findings=None), replace(DEFAULTS, findings=(), detector_error="the detector failed")]
)
def test_missing_findings_make_every_restriction_fire(missing: Facts) -> None:
    """FAIL CLOSED: without a detector's answer, rules that would rewrite or deny deny, ask asks, local-only keeps local."""
    compiled = section(RULES)
    assert judged(compiled.judge(call(), missing)) == [
        ("deny", ()),
        ("deny", ()),
        ("allow", ("local-only",)),
        ("ask", ()),
    ]
    assert all(match.errored for match in compiled.judge(call(), missing) if match.effect is Verdict.DENY)


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}],
        [{"type": "input_audio", "input_audio": {"data": "AAAA"}}],
        [{"type": "text", "text": "look"}, {"type": "image", "source": {"type": "base64", "data": "AAAA"}}],
        "data:application/zip;base64,UEsDBA==",
    ],
)
def test_what_cannot_be_read_is_not_let_through(content: object) -> None:
    """FAIL CLOSED: images, audio and archives are denied towards others, though nothing was found in them."""
    matches = section(RULES).judge(call(content=content), facts())
    assert (Verdict.DENY, "privacy.unreadable") in [(match.effect, match.rule) for match in matches]
    assert judged(section(RULES).judge(call("here", content), facts())) == [("allow", ())]


def test_unreadable_can_ask_or_stay_local() -> None:
    """The section's `unreadable` says what happens instead."""
    image = [{"type": "image_url", "image_url": {"url": "x"}}]
    for what, answer in (("ask", ("ask", ())), ("local-only", ("allow", ("local-only",)))):
        compiled = section(f"privacy:\n  unreadable: {what}\n  rules: [{{find: '*', to: external, do: redact}}]\n")
        assert answer in judged(compiled.judge(call(content=image), facts()))


def test_bodies_that_were_not_decoded_cannot_be_read() -> None:
    """A request with bytes and no parsed body is unreadable; one with a parsed body is not."""
    base = {"kind": "net.request", "host": "a.example", "port": 443, "method": "POST", "size": 10}
    assert unreadable(Action.parse(base)) == ("/body",)
    assert unreadable(Action.parse({**base, "body": {"a": 1}})) == ()


def test_thresholds_scores_and_globs() -> None:
    """A rule's score and the section's thresholds set the least confidence; globs name families."""
    compiled = section(
        "privacy:\n  thresholds: {PERSON: 0.7}\n  rules:\n"
        "    - {find: ['US_*'], do: deny, score: 0.8}\n    - {find: PERSON, do: deny}\n"
    )
    assert judged(compiled.judge(call(), facts("US_SSN", score=0.75))) == []
    assert judged(compiled.judge(call(), facts("US_SSN", score=0.85))) == [("deny", ())]
    assert judged(compiled.judge(call(), facts("PERSON", score=0.6))) == []


def test_labels_and_sources_narrow_a_rule() -> None:
    """A rule for labelled data fires for such labels, and where labels are missing."""
    compiled = section("privacy:\n  - {find: PERSON, do: deny, labels: [hr], source: ['file:hr/**']}\n")
    hr = Label(Integrity.KNOWN, Confidentiality.PUBLIC, tags=frozenset({"hr"}), sources=("file:hr/a.txt",))
    assert judged(compiled.judge(call(), facts("PERSON"))) == []
    assert judged(compiled.judge(call(), facts("PERSON", context=hr))) == [("deny", ())]
    assert judged(compiled.judge(call(), facts("PERSON", labels=None))) == [("deny", ())]


def test_tools_go_where_the_file_says() -> None:
    """Our own tools are local, tools of a server external, and a stated destination wins; the farthest of two holds."""
    compiled = section(
        "tools: {mail: {allow: true, destination: external}, 'crm/*': {allow: true, destination: private}}\n"
        "privacy: [{find: PERSON, to: external, do: deny}]\n"
    )

    def verdicts(tool: str, server: str = "") -> list[tuple[str, tuple[str, ...]]]:
        return judged(
            compiled.judge(Action.parse({"kind": "tool.call", "tool": tool, "server": server}), facts("PERSON"))
        )

    assert verdicts("read_file") == []
    assert verdicts("mail") == [("deny", ())]
    assert verdicts("find", "web") == [("deny", ())]
    assert verdicts("find", "crm") == []


def test_audit_rules_record_only() -> None:
    """`enforcement: audit` marks the match."""
    compiled = section("privacy:\n  - {find: PERSON, do: deny, enforcement: audit}\n")
    assert [match.audit_only for match in compiled.judge(call(), facts("PERSON"))] == [True]


def test_reasons_name_types_not_values() -> None:
    """The reason says what was found and where it goes, never what it is."""
    match = section(RULES).judge(call(content="eyJ…"), facts("SECRET_JWT"))[0]
    assert "SECRET_JWT" in match.reason
    assert "external" in match.reason


@pytest.mark.parametrize(
    ("host", "kind"),
    [("127.0.0.1", "local"), ("localhost", "local"), ("::1", "local"), ("10.1.2.3", "private"), ("172.16.0.1", "private"), ("172.32.0.1", "external"), ("erp", "private"), ("db.internal", "private"),
     ("api.example.com", "external"), ("8.8.8.8", "external"), ("fd00::1", "private")],
)  # fmt: skip
def test_hosts_have_classes(host: str, kind: str) -> None:
    """Loopback is local, private ranges and names are private, the rest is external."""
    assert host_class(host) == kind


def test_malformed_sections_are_refused() -> None:
    """An empty `find` and a pattern that RE2 refuses fail at load."""
    with pytest.raises(PolicyError):
        Policy.parse(HEAD + "privacy:\n  - {find: [], do: deny}\n")
    with pytest.raises(PolicyError):
        Policy.parse(HEAD + "privacy:\n  recognizers: [{entity: X, regex: '(?<=a)b'}]\n  rules: []\n")


def test_compile_is_what_the_wiring_names() -> None:
    """The compiler stands where the wiring table looks for it."""
    assert compile_privacy.__module__ == "agent_os.policy.privacy"
