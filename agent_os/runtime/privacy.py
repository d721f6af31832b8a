"""Composition of the privacy router: which detectors stand behind the port, and the pseudonyms of a session.

Nothing here downloads anything: the language model is used if it is installed, and named as missing if a policy asks
for it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from agent_os.core.errors import EffectError
from agent_os.effects.detectors.detector import LocalDetector

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from agent_os.effects.detectors.detector import Recogniser
    from agent_os.policy.compile import Unit

    Recognisers = dict[str, tuple[frozenset[str], Recogniser]]
    from agent_os.core.principal import Principal
    from agent_os.guards.privacy.pseudonyms import Entry
    from agent_os.guards.privacy.router import SessionRouter
    from agent_os.policy import Policy


def local_detector(
    *,
    ner: bool | None = None,
    names: bool = True,
    languages: Sequence[str] = ("en",),
    more: Recognisers | None = None,
    **options: Any,
) -> LocalDetector:
    """Return the detector of this machine.

    `ner`: True demands the language model for names (raises MissingPartError without one), False leaves it out, None uses
    it where it is installed, for the `languages` that
    have one. `names` False looks for no names at all. `more` are recognisers by name.
    """
    from agent_os.effects.detectors import addresses  # noqa: PLC0415
    from agent_os.effects.detectors.names.finder import KINDS as NAMES  # noqa: PLC0415
    from agent_os.effects.detectors.names.finder import NameFinder  # noqa: PLC0415
    from agent_os.effects.detectors.ner import KINDS, LanguageModel, installed_model  # noqa: PLC0415
    from agent_os.guards.privacy import fields  # noqa: PLC0415

    recognisers: Recognisers = {"field": (fields.KINDS, fields.field_findings)}
    if options.get("personal", True):
        recognisers["address"] = (frozenset({"LOCATION"}), addresses.find_addresses)
    if names:
        recognisers["names"] = (NAMES, NameFinder().find)
    tongues = [tongue for tongue in languages if ner or installed_model(tongue) is not None]
    wanted = names and ner is not False and bool(tongues)
    recognisers.update(more or {})
    return LocalDetector(recognisers, model=(KINDS, LanguageModel(tongues).find) if wanted else None, **options)


def detector_for(policy: Policy) -> LocalDetector | None:
    """Return the detector a policy needs, or None where it has no `privacy` section.

    Where its rules ask for names by a language model and none is installed, every scan raises, which denies what the
    rules govern: names are never skipped in silence (`privacy.names: lists` accepts word lists instead).
    """
    from agent_os.effects.detectors.custom import CustomRecogniser, ListedTexts  # noqa: PLC0415
    from agent_os.effects.detectors.ner import installed_model, missing_model  # noqa: PLC0415
    from agent_os.policy.privacy import wants_names  # noqa: PLC0415

    sections = [(section, layer) for section, layer, _ in policy.sections("privacy")]
    if not sections:
        return None
    more: Recognisers = {}
    ways: set[str] = set()
    languages: dict[str, None] = {}
    timeout_s = 0.0
    for number, (section, _layer) in enumerate(sections):
        if isinstance(section, (list, tuple)):
            ways.add("model" if wants_names(section) else "off")
            languages["en"] = None
            continue
        languages.update(dict.fromkeys(section.languages))
        way = {True: "model", False: "off"}.get(section.names, section.names)
        ways.add(way if wants_names(section.rules) else "off")
        timeout_s = min(timeout_s or section.timeout, section.timeout)
        for index, spec in enumerate(section.recognizers):
            more[f"custom-{number}-{index}"] = (frozenset({spec.entity}), CustomRecogniser(spec).find)
        if section.deny_list:
            more[f"listed-{number}"] = (frozenset(section.deny_list), ListedTexts(section.deny_list).find)
    missing = None
    if "model" in ways:
        missing = next((missing_model(tongue) for tongue in languages if installed_model(tongue) is None), None)
    detector = local_detector(
        ner=None,
        names=ways != {"off"},
        languages=tuple(languages),
        more=more,
        allowed=_allowed(sections),
        timeout_s=timeout_s,
        missing=missing,
    )
    for _unit, path, name, hint in unknown_entities(policy, detector.entities):
        detector.demand(EffectError(f"nothing here finds {name!r}, which {path} asks for: {hint}"))
    return detector


def unknown_entities(policy: Policy, entities: Collection[str] | None = None) -> list[tuple[Unit, str, str, str]]:
    """Return (file, key path, name, hint) of every entity that a policy's rules name and nothing finds.

    `entities` are those of the detector; without them this machine's are asked for.
    """
    from agent_os.policy.entities import declared, named, unknown  # noqa: PLC0415

    units = [unit for layer in policy.layers for unit in layer.units]
    if not any(True for unit in units for _ in named(unit.file)):
        return []
    found = local_detector(ner=None).entities if entities is None else frozenset(entities)
    own = found.union(*(declared(unit.file) for unit in units))
    return [(unit, *item) for unit in units for item in unknown(unit.file, own)]


def _allowed(sections: list[tuple[Any, Any]]) -> frozenset[str]:
    """Return the texts that every layer with a privacy section allows (within a layer the lists are united)."""
    by_layer: dict[int, set[str]] = {}
    for section, layer in sections:
        texts = () if isinstance(section, (list, tuple)) else section.allow_list
        by_layer.setdefault(id(layer), set()).update(text.casefold() for text in texts)
    return frozenset(set.intersection(*by_layer.values()))


def router_for(
    policy: Policy, principal: Principal, *, vault: Any = None, key: bytes | None = None
) -> SessionRouter | None:
    """Return the privacy router of a session, or None where the policy has no `privacy` section.

    With `scope: user` or `tenant` the pseudonyms live in the `vault` of the state directory (encrypted, under a key
    of their own, for as long as `keep` says) and every session of that scope shares them; a
    session's own end with it. `key` is for embedding applications that hold the tenant's key themselves.
    """
    from agent_os.guards.privacy.pseudonyms import PseudonymBook  # noqa: PLC0415
    from agent_os.guards.privacy.router import SessionRouter  # noqa: PLC0415

    sections = [section for section, _, _ in policy.sections("privacy")]
    if not sections:
        return None
    settings = next((item for item in sections if not isinstance(item, (list, tuple))), None)
    width = settings.scope if settings is not None else "session"
    realistic = settings is not None and settings.pseudonyms == "realistic"
    scope = {
        "session": f"{principal.owner}/{principal.session}",
        "user": principal.owner,
        "tenant": principal.tenant,
    }[width]
    local = local_model(policy)
    if width == "session" or vault is None:
        return SessionRouter(PseudonymBook(key or os.urandom(32), scope=scope, realistic=realistic), local=local)
    shelf = _Shelf(vault, f"privacy/{width}/{scope}", settings.keep if settings is not None else None)
    book = PseudonymBook(key or shelf.key(), scope=scope, realistic=realistic)
    book.load(shelf.entries)
    shared = width == "tenant" and realistic
    return SessionRouter(book, local=local, keep=shelf.keep, kept=shelf.kept, shared=shared)


class _Shelf:
    """One scope of pseudonyms in the vault: read when a session opens, written as pseudonyms are issued."""

    def __init__(self, vault: Any, scope: str, seconds: float | None) -> None:
        self._vault, self._scope, self._seconds = vault, scope, seconds
        self.entries: dict[str, str] = _at_once(vault.load(scope))
        self._writing: set[Any] = set()

    def key(self) -> bytes:
        """Return the scope's pseudonym key, drawn when the scope is new."""
        import base64  # noqa: PLC0415

        known = self.entries.pop(_KEY_ENTRY, "")
        if known:
            return base64.b64decode(known)
        key = os.urandom(32)
        self._put({_KEY_ENTRY: base64.b64encode(key).decode()})
        return key

    def keep(self, fresh: Sequence[Entry]) -> None:
        """Store issued pseudonyms; the write is under way when this returns."""
        self._put({item.pseudonym: item.to_text() for item in fresh})

    async def kept(self) -> None:
        """Wait until everything issued so far is stored. Raises what a write raised."""
        import asyncio  # noqa: PLC0415

        await asyncio.gather(*self._writing)

    def _put(self, entries: dict[str, str]) -> None:
        import asyncio  # noqa: PLC0415
        import time  # noqa: PLC0415

        until = {"expires_at": time.time() + self._seconds} if self._seconds and _KEY_ENTRY not in entries else {}
        work = self._vault.put(self._scope, entries, **until)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            asyncio.run(work)
            return
        task = loop.create_task(work)
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)


def _at_once(work: Any) -> Any:
    """Return the result of a coroutine that never waits (the vault reads without a thread); else raises EffectError."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    work.close()
    raise EffectError("the vault cannot be read at once")


def local_model(policy: Policy) -> tuple[str, str] | None:
    """Return (provider, model) of the first provider of the policy that keeps data on this machine."""
    from agent_os.policy.privacy import LOCAL, provider_place  # noqa: PLC0415

    for section, _, _ in policy.sections("models"):
        for name, provider in section.providers.items():
            model: Any = provider.model or next(iter(provider.models), None)
            if model and provider_place(provider) == LOCAL:
                return name, str(model)
    return None


# ---- pseudonyms that outlive a process ------------------------------------------------------------------------------

_KEY_ENTRY = "\x00key"


class KeptBook:
    """A book of pseudonyms in the vault of the state directory, under a name; encrypted at rest, forgotten by its key."""

    def __init__(self, name: str, *, realistic: bool = False, create: bool = True) -> None:
        """Open the book called `name`. Raises EffectError where there is none and `create` is False."""
        import asyncio  # noqa: PLC0415
        import base64  # noqa: PLC0415

        from agent_os.core.errors import EffectError  # noqa: PLC0415
        from agent_os.effects.stores.keys import Keys  # noqa: PLC0415
        from agent_os.effects.stores.state import StateDatabase  # noqa: PLC0415
        from agent_os.guards.privacy.pseudonyms import PseudonymBook  # noqa: PLC0415
        from agent_os.runtime.state import state_directory  # noqa: PLC0415

        path = state_directory()
        self._stores = StateDatabase.open(path, Keys.open(path / "keys", environment=os.environ))
        self._scope, self._run = f"book/{name}", asyncio.run
        entries = self._run(self._stores.vault.load(self._scope))
        if not entries and not create:
            self._stores.close()
            raise EffectError(f"there are no pseudonyms under the name {name!r}")
        key = entries.pop(_KEY_ENTRY, "")
        if not key:
            key = base64.b64encode(os.urandom(32)).decode()
            self._run(self._stores.vault.put(self._scope, {_KEY_ENTRY: key}))
        self.book = PseudonymBook(base64.b64decode(key), scope=self._scope, realistic=realistic)
        self.book.load(entries)

    def save(self) -> None:
        """Store what was issued since the last call."""
        fresh = self.book.take_fresh()
        if fresh:
            self._run(self._stores.vault.put(self._scope, {item.pseudonym: item.to_text() for item in fresh}))

    def forget(self) -> bool:
        """Destroy the book's key and entries: nothing can be restored any more."""
        return bool(self._run(self._stores.vault.forget(self._scope)))

    def close(self) -> None:
        """Close the vault."""
        self._stores.close()


def files_to_scan(paths: list[str]) -> Any:
    """Yield the text files of paths (effects/detectors/tree.py: TextFile)."""
    from agent_os.effects.detectors.tree import text_files  # noqa: PLC0415

    for path in paths:
        yield from text_files(path)


def names_are_reduced() -> bool:
    """Whether no language model is installed, so that names come from lists and the words around them only."""
    from agent_os.effects.detectors.ner import installed_model  # noqa: PLC0415

    return installed_model() is None
