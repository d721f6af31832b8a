"""What is looked at in answers before a caller sees them, as the policy's `models` section says: links and secrets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from agent_os.guards.models.answer_secrets import SecretWatch
from agent_os.guards.models.answers import Defang, Rules, defanged
from agent_os.guards.models.neutral import Delta
from agent_os.guards.privacy.spans import resolve
from agent_os.policy.globs import compile_any

if TYPE_CHECKING:
    from agent_os.core.facts import Finding
    from agent_os.policy import Policy


class Inspection:
    """The settings of a policy: of several files the strictest. `link_allowed` says which hosts links may point to."""

    def __init__(self, policy: Policy, link_allowed: Callable[[str], bool]) -> None:
        sections: list[Any] = [section for section, _layer, _unit in policy.sections("models")]
        looked = any(section.inspect_answers for section in sections) or not sections
        bare = any(section.bare_links == "defang" for section in sections)
        images, links, trusted = _flow(policy)
        self.rules = rules_of(
            lambda host: link_allowed(host) or trusted(host),
            images=looked or images,
            links=looked or links,
            bare=bare or links,
        )
        wanted = {section.answer_secrets for section in sections} or {"flag"}
        self.secrets = next(each for each in ("redact", "flag", "off") if each in wanted)

    def stream(self) -> Shown:
        """Return what looks at one answer."""
        return Shown(self)


def rules_of(allowed: Callable[[str], bool], *, images: bool, links: bool, bare: bool) -> Rules | None:
    """Return the rules of answers; None where nothing is taken out of them."""
    if not images and not links:
        return None
    strict = Rules.of_hosts(allowed, bare=bare)
    return strict if links else Rules(strict.image, lambda _: True)


def _flow(policy: Policy) -> tuple[bool, bool, Callable[[str], bool]]:
    """Return whether a `flow:` section takes images and links out of answers, and which hosts each such section trusts."""
    sections: list[Any] = [section for section, _layer, _unit in policy.sections("flow")]
    enforced = [section for section in sections if section.enforcement != "audit"]
    images = any(section.untrusted_image in ("ask", "deny") for section in enforced)
    links = any(section.answer_url in ("ask", "deny") for section in enforced)
    trusts = [
        compile_any([*section.trusted_domains, *(f"*.{name}" for name in section.trusted_domains)], crossing=True)
        for section in sections
        if section.trusted_domains
    ]
    return images, links, lambda host: bool(trusts) and len(trusts) == len(sections) and all(t(host) for t in trusts)


class Inspecting:
    """The same under the policy in force, which may be replaced."""

    def __init__(self, policy: Callable[[], Policy], link_allowed: Callable[[str], bool]) -> None:
        self._policy, self._link_allowed = policy, link_allowed
        self._held: tuple[Policy, Inspection] | None = None

    def stream(self) -> Shown:
        """Return what looks at one answer."""
        policy = self._policy()
        if self._held is None or self._held[0] is not policy:
            self._held = (policy, Inspection(policy, self._link_allowed))
        return self._held[1].stream()


def declared_hosts(policy: Policy) -> Callable[[str], bool]:
    """Return whether a host is named by the policy's network section: where links in answers may point."""
    hosts = [
        endpoint.host
        for section, _layer, _unit in policy.sections("network_policies")
        for entry in section.values()
        for endpoint in entry.endpoints
        if endpoint.host
    ]
    matches = compile_any([host.replace(".", "/") for host in hosts], crossing=False)
    return lambda host: matches(host.lower().replace(".", "/"))


class Shown:
    """One answer on its way to its reader, its words and its reasoning alike. `kinds` are the secrets found in it so far."""

    def __init__(self, settings: Inspection) -> None:
        self._settings = settings
        self._lanes = {kind: _Lane(kind, settings) for kind in ("text", "reasoning")}

    @property
    def kinds(self) -> set[str]:
        """Kinds of secrets found."""
        return {kind for lane in self._lanes.values() for kind in lane.watch.kinds}

    def whole(self, text: str, kind: str = "text") -> str:
        """Return a whole text (or reasoning) as it may be shown."""
        text = self._lanes[kind].watch.whole(text)
        return defanged(text, self._settings.rules) if self._settings.rules is not None else text

    def feed(self, delta: Delta) -> Iterable[Delta]:
        """Yield what may be shown after one piece."""
        for kind, lane in self._lanes.items():
            if delta.kind not in (kind, "usage"):
                yield from lane.finish() if delta.kind == "finish" else lane.pause()
        lane_of = self._lanes.get(delta.kind)
        yield from lane_of.feed(delta) if lane_of is not None else (delta,)

    def finish(self) -> Iterable[Delta]:
        """Yield what was held back, and what was found; the stream ends."""
        for lane in self._lanes.values():
            yield from lane.finish()
        yield from (Delta("flag", kind) for kind in sorted(self.kinds))


class _Lane:
    """The pieces of one kind: a reader puts them together, whatever came between."""

    def __init__(self, kind: str, settings: Inspection) -> None:
        self._kind = kind
        self._defang = Defang(settings.rules) if settings.rules is not None else None
        find = _secrets if settings.secrets != "off" else _none
        self.watch = SecretWatch(find, redact=settings.secrets == "redact")

    def feed(self, delta: Delta) -> Iterable[Delta]:
        """Yield what may be shown after one piece of this kind."""
        return self._defanged(self.watch.feed(Delta("text", delta.text)))

    def pause(self) -> Iterable[Delta]:
        """Yield what was held when a piece of another kind comes."""
        yield from self._defanged(self.watch.pause())
        yield from self._as_kind(self._defang.pause() if self._defang is not None else ())

    def finish(self) -> Iterable[Delta]:
        """Yield what was held when nothing more can come."""
        yield from self._defanged(self.watch.flush())
        yield from self._as_kind(self._defang.flush() if self._defang is not None else ())

    def _defanged(self, pieces: Iterable[Delta]) -> Iterable[Delta]:
        for piece in pieces:
            yield from self._as_kind(self._defang.feed(piece) if self._defang is not None else (piece,))

    def _as_kind(self, pieces: Iterable[Delta]) -> Iterable[Delta]:
        return (Delta(self._kind, piece.text) for piece in pieces)


@cache
def _finder() -> Any:
    from agent_os.effects.detectors.secret_finder import SecretFinder  # noqa: PLC0415 - patterns compile for a while

    return SecretFinder()


def _secrets(text: str) -> Sequence[Finding]:
    if len(text) < 6:
        return ()
    from agent_os.effects.detectors.detector import lower_same_length  # noqa: PLC0415

    return resolve(_finder().find(text, lower_same_length(text)), text=text)


def _none(_text: str) -> Sequence[Finding]:
    return ()
