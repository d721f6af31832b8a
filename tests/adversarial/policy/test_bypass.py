"""Ways round a policy, as data: an action that must not be allowed, and the honest one that must be.

Threat ids are those of OWASP's agentic top ten (ASI) and of incidents named in SECURITY.md.
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from agent_os.core.action import Action
from agent_os.core.errors import ActionError
from agent_os.policy import Policy, decide

POLICY = Policy.parse("""
filesystem_policy: {include_workdir: true, read_only: [/usr], deny: [secrets, /usr/share/private]}
process: {allow: [ls, env, time, "./**", {binary: sh, args: ["**"]}], deny: [curl]}
tools:
  read_file: {allow: {path: {under: inbox}}}
  send_mail: {allow: {to: {host_in: [corp.example, "*.corp.example"]}}}
  fetch: {allow: {url: {host_in: [docs.example]}}}
  pay: {allow: {amount: {max: 100}, iban: {in: [DE1, DE2]}}, deny: {iban: {in: [DE2], as: iban}}}
  visit: {allow: true, deny: {url: {host_in: ["b\u00fccher.example", "*.evil.example"]}}}
  say: {allow: true, deny: {text: {glob: "*caf\u00e9*"}}}
  shell: {allow: true, deny: {command: {regex: '\\brm\\b'}}}
  admin_*: {deny: true}
  "*": {allow: {mode: safe}}
secrets: {TOKEN: {destinations: [api.example.com]}}
messages: {allow: [{channel: email, to: ["*@corp.example"]}]}
agents: {max_depth: 1, roles: {helper: {tools: [read_file]}}}
""")


def call(tool: str, server: str = "", **args: Any) -> dict[str, Any]:
    """Return the wire form of a tool call."""
    return {"kind": "tool.call", "tool": tool, "args": args, **({"server": server} if server else {})}


def run(*argv: str) -> dict[str, Any]:
    """Return the wire form of starting a program."""
    return {"kind": "process.exec", "argv": list(argv)}


def mail(to: str) -> dict[str, Any]:
    """Return the wire form of a message to one recipient."""
    return {"kind": "message.send", "channel": "email", "to": [to]}


ATTACKS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("path traversal", call("read_file", path="inbox/../secrets/key"), call("read_file", path="inbox/a/../b")),
    ("absolute path", call("read_file", path="/workspace/inboxes/a"), call("read_file", path="/workspace/inbox/a")),
    ("doubled slash", call("read_file", path="//etc/passwd"), call("read_file", path="inbox//a")),
    ("tilde", call("read_file", path="~/.ssh/id_rsa"), call("read_file", path="inbox/~a")),
    ("NUL byte", call("read_file", path="inbox/a\0/../../x"), call("read_file", path="inbox/a")),
    ("bidi control", call("read_file", path="inbox/\u202egpj.exe"), call("read_file", path="inbox/\u00e9")),
    ("list for a text", call("read_file", path=["inbox/a", "/etc/passwd"]), call("read_file", path=["inbox/a"])),
    ("object for a text", call("read_file", path={"under": "inbox"}), call("read_file", path="inbox")),
    ("argument left out", call("read_file"), call("read_file", path="inbox/a")),
    ("argument misspelt", call("read_file", Path="inbox/a"), call("read_file", path="inbox/a")),
    ("second recipient", call("send_mail", to=["a@corp.example", "b@evil.example"]), call("send_mail", to=["a@corp.example"])),
    ("look-alike domain", call("send_mail", to="a@corp.example.evil.example"), call("send_mail", to="a@mail.corp.example")),
    ("suffix domain", call("send_mail", to="a@evilcorp.example"), call("send_mail", to="A@CORP.EXAMPLE")),
    ("userinfo in a URL", call("fetch", url="https://docs.example:x@evil.example/"), call("fetch", url="https://docs.example/x")),
    ("backslash in a URL", call("fetch", url="https://evil.example\\@docs.example/"), call("fetch", url="https://docs.example:443/")),
    ("fragment before a host", call("fetch", url="https://evil.example#@docs.example/"), call("fetch", url="https://DOCS.example./")),
    ("tab in a URL", call("fetch", url="https://evil.example\t.docs.example"), call("fetch", url="http://docs.example?q=1")),
    ("number as text", call("pay", amount="5", iban="DE1"), call("pay", amount=5, iban="DE1")),
    ("boolean as number", call("pay", amount=True, iban="DE1"), call("pay", amount=1, iban="DE1")),
    ("spelling of a denied value", call("pay", amount=5, iban="de2"), call("pay", amount=5.0, iban="DE1")),
    ("newline before a denied word", call("shell", command="ls\nrm -rf /"), call("shell", command="ls; format")),
    ("denied command left out", call("shell"), call("shell", command="ls")),
    ("wildcard over a denied name", call("admin_reset", mode="safe"), call("status", mode="safe")),
    ("server with a trusted name", call("read_file", "evil", path="inbox/a"), call("read_file", path="inbox/a")),
    ("slash in a tool's name", call("evil/status", mode="safe"), call("status", mode="safe")),
    ("wrapped command", run("env", "curl", "x"), run("ls", "-l")),
    ("wrapped twice", run("time", "env", "A=1", "/usr/bin/curl"), run("time")),
    ("command in a shell", run("sh", "-c", "true && curl x"), run("sh", "-c", "true && ls")),
    ("command in a substitution", run("sh", "-c", "echo $(curl x)"), run("sh", "-c", "echo $(ls)")),
    ("program of the same name", run("/tmp/ls"), run("/usr/bin/ls")),
    ("program through dots", run("/workspace/../tmp/evil"), run("/workspace/./tools/run")),
    ("program through dots, relative", run("./../tmp/evil"), run("./tools/run")),
    ("two recipients in one text", mail("evil@x.example,ana@corp.example"), mail("ana@corp.example")),
    ("recipient in angle brackets", mail("ana@corp.example <evil@x.example>"), mail("bo@corp.example")),
    ("address in a display name", call("send_mail", to="a@corp.example <b@evil.example>"), call("send_mail", to="Ana B. <a@corp.example>")),
    ("two addresses in one text", call("send_mail", to="b@evil.example,a@corp.example"), call("send_mail", to="a@corp.example")),
    ("another spelling of a host", call("visit", url="https://B\u00dcCHER.example/"), call("visit", url="https://docs.example/")),
    ("punycode of a denied host", call("visit", url="https://xn--bcher-kva.example/"), call("visit", url="https://bucher.example/")),
    ("full-width host", call("visit", url="https://a.\uff45vil.example/"), call("visit", url="https://a.good.example/")),
    ("decomposed letters", call("say", text="the cafe\u0301 at nine"), call("say", text="the cafe at nine")),
    ("denied folder itself", {"kind": "fs.list", "path": "secrets/"}, {"kind": "fs.list", "path": "secret"}),
    ("denied folder through dots", {"kind": "fs.read", "path": "/usr/./share/../share/private/x"}, {"kind": "fs.read", "path": "/usr/share/x"}),
    ("secret to another host", {"kind": "secret.use", "name": "TOKEN", "destination": "evil.example"}, {"kind": "secret.use", "name": "TOKEN", "destination": "api.example.com"}),
    ("secret to a host below", {"kind": "secret.use", "name": "TOKEN", "destination": "api.example.com.evil.example"}, {"kind": "secret.use", "name": "TOKEN", "destination": "API.example.com."}),
    ("child of a child", {"kind": "agent.spawn", "role": "helper", "principal": {"parents": ["main"]}}, {"kind": "agent.spawn", "role": "helper"}),
    ("role made up", {"kind": "agent.spawn", "role": "helper2"}, {"kind": "agent.spawn", "role": "helper"}),
]  # fmt: skip


@pytest.mark.parametrize(("attack", "benign"), [item[1:] for item in ATTACKS], ids=[item[0] for item in ATTACKS])
def test_the_attack_is_not_allowed_and_its_twin_is(attack: dict[str, Any], benign: dict[str, Any]) -> None:
    """Each bypass is denied (or is no action at all); the honest call beside it is not in its way."""
    with contextlib.suppress(ActionError):
        assert decide(POLICY, Action.parse(attack)).verdict.value != "allow"
    assert decide(POLICY, Action.parse(benign)).verdict.value == "allow"


@pytest.mark.parametrize(
    "key", ["approved", "grants", "verdict", "capabilities", "registered_tools", "facts", "findings", "budgets"]
)
def test_an_action_cannot_bring_its_own_approval(key: str) -> None:
    """The wire form of an action has no room for grants, capabilities or facts about itself."""
    with pytest.raises(ActionError, match="unknown key"):
        Action.parse({**call("read_file", path="/etc/passwd"), key: True})
