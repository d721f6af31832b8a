"""The `messages` and `memory` sections: who may be written to, and what may be remembered. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from agent_os.core.action import Action, MemoryRead, MessageSend
from agent_os.core.decision import Verdict
from agent_os.core.facts import Facts
from agent_os.policy.globs import PatternError, compile_any
from agent_os.policy.lists import ListSection, Tell, list_rule, present
from agent_os.policy.rule import Context

if TYPE_CHECKING:
    from agent_os.policy.schema.agents import Memory, Messages

MESSAGES: Final = frozenset({"message.send"})
MEMORY: Final = frozenset({"memory.read", "memory.write"})


def compile_messages(messages: Messages, context: Context) -> ListSection:
    """Return the compiled section: an allow needs every recipient to match, an ask or deny any."""
    rules = []
    for effect in (Verdict.ALLOW, Verdict.ASK, Verdict.DENY):
        for index, entry in enumerate(getattr(messages, effect.value)):
            path = f"messages.{effect.value}[{index}]"
            try:
                test = _message(entry, wide=effect is not Verdict.ALLOW)
            except PatternError as error:
                context.problem(path, str(error))
                continue
            words = "to " + ", ".join(entry.to)
            rules.append(list_rule(entry, effect, path, test, context, words=words, what="the recipient or channel"))
    return ListSection("messages", MESSAGES, present(rules), "message")


def _message(entry: Any, *, wide: bool) -> Tell:
    recipients = compile_any(entry.to, crossing=True, fold=True)
    channels = compile_any([entry.channel] if isinstance(entry.channel, str) else entry.channel)

    def test(action: Action, _facts: Facts) -> bool | None:
        if not isinstance(action, MessageSend) or not channels(action.channel):
            return False
        if not action.to:
            return None
        if wide:
            return any(map(recipients, action.to))
        return all(_single(recipient) and recipients(recipient) for recipient in action.to)

    return test


def _single(recipient: str) -> bool:
    """Return whether a text is one recipient: a list in one text could hide another behind the one that is allowed."""
    return recipient.count("@") <= 1 and not any(char in ",;<>" or char.isspace() for char in recipient)


def compile_memory(memory: Memory | str, context: Context) -> ListSection:
    """Return the compiled section; the words `allow` and `deny` stand for every key."""
    if isinstance(memory, str):
        effect = Verdict.ALLOW if memory == "allow" else Verdict.DENY
        rule = list_rule(None, effect, "memory", lambda _action, _facts: True, context, words="any key")
        return ListSection("memory", MEMORY, present([rule]), "memory")
    lists: Sequence[tuple[str, Verdict, frozenset[str]]] = (
        ("read", Verdict.ALLOW, frozenset({"memory.read"})),
        ("write", Verdict.ALLOW, frozenset({"memory.write"})),
        ("ask", Verdict.ASK, frozenset({"memory.write"})),
        ("deny", Verdict.DENY, MEMORY),
    )
    rules = []
    for name, effect, kinds in lists:
        for index, pattern in enumerate(getattr(memory, name)):
            path = f"memory.{name}[{index}]"
            try:
                test = _key(pattern, kinds, wide=effect is not Verdict.ALLOW)
            except PatternError as error:
                context.problem(path, str(error))
                continue
            rules.append(list_rule(None, effect, path, test, context, words=pattern, what="the key"))
    return ListSection("memory", MEMORY, present(rules), "memory")


def _key(pattern: str, kinds: frozenset[str], *, wide: bool) -> Tell:
    matches = compile_any([pattern], crossing=True if wide else pattern == "*")

    def test(action: Action, _facts: Facts) -> bool | None:
        return isinstance(action, MemoryRead) and action.kind in kinds and matches(action.key)

    return test
