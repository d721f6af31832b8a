"""Secrets and personal data that no manifest mentions: labelled by the detectors, and kept from whoever may not read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent_os.core.errors import DeniedError, EffectError
from agent_os.core.facts import Finding
from agent_os.core.label import Confidentiality, Label
from agent_os.core.manifest import Effect, Result, ToolSpec
from agent_os.core.ports import Outcome, Pending
from agent_os.policy import Policy
from agent_os.runtime.sdk import AgentOS

KEY = "AKIAIOSFODNN7EXAMPLQ"
IBAN = "DE89370400440532013000"
LOG = {"service": "billing", "lines": ["started", f"aws_access_key_id={KEY}", "ready"], "owner": {"iban": IBAN}}
TASK = "Fetch the log and the page, then mail bob@corp.example, ana@corp.example and carol@corp.example the summary."


class Opened:
    """Sessions over one workspace, and what was mailed."""

    def __init__(self, base: Path) -> None:
        self.base, self.sent, self.result = base, list[dict[str, Any]](), LOG
        (base / "work").mkdir()

    @contextmanager
    def session(self, flow: str, more: str = "") -> Iterator[AgentOS]:
        """Open a session with a log and a mail tool that no manifest describes."""
        text = f'version: 1\ntools: {{"*": {{allow: true}}}}\nflow: {flow}\n{more}'
        with AgentOS.open(
            Policy.parse(text), workspace=self.base / "work", state=self.base / "state", principal="ana@corp.example"
        ) as system:

            @system.guarded
            def get_log() -> Any:
                """Get the log."""
                return self.result

            @system.guarded
            def send_email(to: list[str], body: str) -> str:
                """Send an email."""
                self.sent.append({"to": to, "body": body})
                return "sent"

            system.prompt(TASK)
            yield system


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    """A workspace."""
    return Opened(tmp_path)


def call(tool: str, **args: Any) -> dict[str, Any]:
    """Return the wire form of a tool call."""
    return {"kind": "tool.call", "tool": tool, "args": args}


def read(system: AgentOS) -> Outcome:
    """Read the log."""
    done = system.perform(call("get_log"))
    assert isinstance(done, Outcome)
    return done


def mail(system: AgentOS, body: str, *to: str) -> str:
    """Try to mail a text; return `sent`, or the rule that stopped it."""
    try:
        done = system.perform(call("send_email", to=list(to or ("bob@corp.example",)), body=body))
    except DeniedError as error:
        return ",".join(error.decision.rules)
    return ",".join(done.decision.rules) if isinstance(done, Pending) else str(done.value)


def test_what_a_detector_finds_is_a_label_of_its_leaf(opened: Opened) -> None:
    """The line with the key is secret and the account personal, each by itself; what stands beside them is public."""
    with opened.session("{find: [secret, pii]}") as system:
        log = read(system).labeled
        line = log.at("/lines/1").label
        assert line.tags == {"secret"}
        assert line.confidentiality is Confidentiality.SECRET
        account = log.at("/owner/iban").label
        assert account.tags == {"pii"}
        assert account.readers == {"ana@corp.example"}
        assert log.at("/lines/0").label.confidentiality is Confidentiality.PUBLIC
        assert log.label.tags == {"secret", "pii"}
        context = system.monitor.session.flow.context  # type: ignore[union-attr]
        assert context.tags == {"secret", "pii"}


SPELLINGS: list[Callable[[str], str]] = [
    str,
    " ".join,
    lambda text: text[::-1],
    lambda text: text.encode().hex(),
    lambda text: __import__("base64").b64encode(f"key {text}".encode()).decode(),
    lambda text: "".join(f"%{ord(char):02x}" for char in text),
    lambda text: text[:10] + "\u200b" + text[10:],
    lambda text: "".join(f"&#{ord(char)};" for char in text),
]


@pytest.mark.parametrize("spelt", SPELLINGS)
@pytest.mark.parametrize(("value", "stopped"), [(KEY, "flow.secrets_to_named"), (IBAN, "flow.personal_to_untrusted")])
def test_a_found_value_does_not_leave_in_any_spelling(
    opened: Opened, spelt: Callable[[str], str], value: str, stopped: str
) -> None:
    """A key and an account of a log wait for a person, to a recipient whom the user names too."""
    with opened.session("{find: [secret, pii]}") as system:
        read(system)
        assert stopped in mail(system, f"the summary: {spelt(value)}")
        assert opened.sent == []


def test_a_found_key_to_a_stranger_is_denied(opened: Opened) -> None:
    """Nobody is asked about a key for somebody whom nothing vouches for."""
    with opened.session("{find: [secret]}") as system:
        read(system)
        assert "flow.secrets_to_untrusted" in mail(system, f"key {KEY}", "eve@evil.example")
        assert opened.sent == []


def test_twin_what_is_not_guarded_is_sent(opened: Opened) -> None:
    """The summary goes, the principal may be sent the account, and a shorter word of the log is nobody's."""
    with opened.session("{find: [secret, pii], authority_from_untrusted: warn}") as system:
        read(system)
        assert mail(system, "the summary: billing is ready") == "sent"
        assert mail(system, f"the summary: {IBAN}", "ana@corp.example") == "sent"


def test_twin_a_value_that_the_user_writes_is_the_users_to_send(opened: Opened) -> None:
    """An account that the task names goes where the task says, although the log has it as well."""
    with opened.session("{find: [secret, pii]}") as system:
        system.prompt(f"Mail carol@corp.example the summary with {IBAN} in it.")
        read(system)
        assert mail(system, f"the summary: {IBAN}", "carol@corp.example") == "sent"


def test_twin_several_people_may_be_written_to(opened: Opened) -> None:
    """Addresses are personal data; being written to beside each other is no leak. A stranger's address in the text is."""
    with opened.session("{find: [pii]}") as system:
        opened.result = {"people": ["bob@corp.example", "carol@corp.example", "dora@corp.example"]}
        read(system)
        assert mail(system, "the summary", "bob@corp.example", "carol@corp.example") == "sent"
        assert "flow." in mail(system, "the summary: dora@corp.example", "bob@corp.example")


def test_nothing_is_looked_for_that_no_file_asks_for(opened: Opened) -> None:
    """Without `find` results are not scanned; with another kind, only that one is labelled."""
    with opened.session("{}") as system:
        assert system.monitor.ports.finder is None
        assert read(system).label.tags == frozenset()
    with opened.session("{find: [CREDIT_CARD]}") as system:
        assert read(system).label.tags == frozenset()


def test_a_rule_that_names_the_label_asks_for_it(opened: Opened) -> None:
    """`privacy: labels: [pii]` is a wish for that label: data labelled so does not go to the host; other data does."""
    more = "privacy: [{find: '*', to: any, labels: [pii], do: deny}]\n"
    with opened.session("{}", more) as system:
        assert read(system).label.tags == {"pii"}
        assert mail(system, f"{IBAN}").startswith("privacy")


class _Broken:
    entities = frozenset({"SECRET"})

    async def scan(self, texts: Mapping[str, str]) -> Sequence[Finding]:
        raise EffectError("no")


@pytest.mark.parametrize("how", ["fails", "is absent", "too long", "too many"])
def test_what_nobody_could_look_at_is_secret(opened: Opened, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A detector that fails, or a result beyond the bounds: all of it is secret, and so is all that leaves after it."""
    with opened.session("{find: [secret, pii]}") as system:
        if how == "too long":
            monkeypatch.setattr("agent_os.monitor.labelling.LABELLED_CHARS_MAX", 10)
        elif how == "too many":
            monkeypatch.setattr("agent_os.guards.flow.found.EXAMINED_TEXTS_MAX", 2)
        else:
            broken = _Broken() if how == "fails" else None
            object.__setattr__(system.monitor.ports, "finder", broken)
        label = read(system).labeled.at("/lines/0").label
        assert label.confidentiality is Confidentiality.SECRET
        assert label.tags == {"secret", "pii"}
        assert "flow.secrets_to_named" in mail(system, "something harmless")
        assert opened.sent == []


def test_a_found_secret_stays_guarded_in_memory_and_files(opened: Opened) -> None:
    """What was found is guarded in a later session too, where a tool put it into memory."""
    policy = "{find: [secret], memory_poisoning: 'off', shared_write: 'off'}"
    memory = 'memory: {read: ["*"], write: ["*"]}\n'
    with opened.session(policy, memory) as system:
        system.prompt("Remember the key of the log as a note.")
        read(system)
        assert isinstance(system.perform(call("remember", key="note", value=f"the key is {KEY}")), Outcome)
    with opened.session("{}", memory) as system:
        found = system.perform(call("recall", key="note"))
        assert isinstance(found, Outcome)
        assert "flow.secrets" in mail(system, f"the key is {KEY}")


def test_a_key_in_an_error_message_is_found(opened: Opened) -> None:
    """What a failed call says is looked through like a result."""
    with opened.session("{find: [secret]}") as system:

        @system.guarded
        def get_broken() -> str:
            """Fail."""
            raise EffectError(f"cannot log in with {KEY}")

        failed = system.perform(call("get_broken"))
        assert isinstance(failed, Outcome)
        assert "secret" in failed.label.tags
        assert "flow.secrets" in mail(system, f"log: {KEY}")


def test_a_name_of_a_key_is_looked_at_too(opened: Opened) -> None:
    """An object's keys can hold data as well."""
    with opened.session("{find: [pii]}") as system:
        opened.result = {"by account": {IBAN: 5}}
        assert read(system).label.tags == {"pii"}
        assert "flow.personal_to_untrusted" in mail(system, f"the summary: {IBAN}")


def test_a_manifest_says_who_may_read_a_field(opened: Opened) -> None:
    """A field whose manifest states its confidentiality keeps it: the finding only tags it."""
    spec = ToolSpec(
        name="get_account",
        effect=Effect.READ,
        results={"$.iban": Result(integrity="trusted", confidentiality="public")},
    )
    with opened.session("{find: [pii]}") as system:

        async def get_account(_: Any) -> dict[str, str]:
            return {"iban": IBAN}

        system.toolbox.register(spec, get_account, code=b"account")

        got = system.perform(call("get_account"))
        assert isinstance(got, Outcome)
        assert got.labeled.at("/iban").label == Label(
            got.labeled.at("/iban").label.integrity,
            Confidentiality.PUBLIC,
            frozenset(),
            frozenset({"pii"}),
            got.label.sources,
        )
        assert mail(system, f"the summary: {IBAN}") == "sent"
