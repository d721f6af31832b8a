"""Names that agents make up, in what the workbench writes for a person to read and merge."""

from __future__ import annotations

import pytest

from agent_os.policy import Policy
from agent_os.policy.workbench.learn import Seen, learn, to_yaml
from agent_os.policy.workbench.writing import comments, dumped

POLICY = "version: 1\ntools: {pay: {allow: {amount: {max: 100}}}}\n"
BREAKS = ("\n", "\r", "\r\n", "\x85", "\u2028", "\u2029")


def learnt(name: str, evidence: str = "e") -> str:
    """Return what is proposed after twelve calls with an argument of some name."""
    policy = Policy.parse(POLICY)
    seen = [Seen({"kind": "tool.call", "tool": "read", "args": {name: f"t{n} words"}}, evidence) for n in range(12)]
    return to_yaml(learn(policy, seen), policy)


@pytest.mark.parametrize("end", BREAKS, ids=ascii)
def test_no_name_of_an_argument_becomes_a_rule(end: str) -> None:
    """ATTACK: a line end in an argument's name, or in a trace's id, ends the comment it stands in and begins a rule of its own."""
    written = learnt(f"a{end}filesystem_policy: {{read_write: [/srv]}} #", f"e{end}process: {{allow: [bash]}} #")
    merged = Policy.parse(written)
    assert merged.layers[0].units[0].file.model_fields_set == {"version", "tools"}
    lines = written.split("\n")
    assert [line for line in lines if "evidence: e" in line]
    assert all(line.startswith("#") for line in lines if "evidence" in line)


def test_an_ordinary_name_is_written_as_it_is() -> None:
    """The twin: names with letters of any language stay readable, in comments and in rules."""
    written = learnt("größe", "trace-ü")
    assert "größe is left open" in written
    assert "#   evidence: trace-ü\n" in written
    assert "\n      größe:\n" in written


def test_what_reorders_or_hides_is_escaped() -> None:
    """Bidirectional controls and zero-width characters come out as escapes in rules, and as blanks in comments."""
    written = dumped({"host": "a\u202eb\u200b.example", "name": "größe"})
    assert written.isascii()
    assert "\\u202E" in written
    assert dumped({"name": "größe"}) == "name: größe\n"
    assert comments(["a\u202eb\x1b[2J"]) == "# a b [2J\n"
