"""`Policy`: a parsed, checked and compiled policy. Pure: packs and data files come through functions the caller gives.

`Policy.parse` reports every problem at once, with file, line, column and hint. Threats: include loops, path traversal
in `extends` and data files, packs that widen what a file says (their rules are united and the strictest wins).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from agent_os.core import canonical
from agent_os.core.errors import ActionError, Place, PolicyError, Problem
from agent_os.policy.prices import Prices

if TYPE_CHECKING:
    from agent_os.policy.compile import Layer, Unit
    from agent_os.policy.rule import Origins
    from agent_os.policy.schema import PolicyFile

MAX_UNITS: Final = 32
MAX_EXTENDS_DEPTH: Final = 8
MAX_LAYERS: Final = 16

ResolvePack = Callable[[str, str], tuple[str, str]]
"""(reference, referring file) -> (text, name of the file). Raises PolicyError when there is none."""
ResolveData = Callable[[str, str], Any]
"""(path beside the policy, policy file) -> plain JSON. Raises PolicyError."""


@dataclass(frozen=True, slots=True)
class PolicyLayer:
    """One layer: the policy file first, then everything it extends."""

    name: str
    semantics: str
    units: tuple[Unit, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """A policy ready to decide. Immutable; equal digests mean equal decisions.

    `layers` are the files it is made of, `compiled` what `decide` walks, `origins` rule id -> where it stands,
    `engines` the external engines whose verdict must be among the facts.
    """

    layers: tuple[PolicyLayer, ...]
    digest: str
    compiled: tuple[Layer, ...]
    origins: Origins
    engines: tuple[tuple[str, frozenset[str]], ...] = ()
    revision: int = field(default=0)
    prices: Prices = field(default_factory=Prices)
    """What calls of models cost, by every file of every layer."""

    @staticmethod
    def parse(
        text: str,
        semantics: str | None = None,
        file: str = "<policy>",
        resolve_pack: ResolvePack | None = None,
        resolve_data: ResolveData | None = None,
    ) -> Policy:
        """Return the policy in a text. `semantics` (`strict`, `openshell`) given here wins over the file's.

        Raises PolicyError with every problem found: file, line, column, what was expected, the nearest known key.
        """
        if semantics not in (None, "strict", "openshell"):
            raise PolicyError(Problem("semantics must be strict or openshell", Place(file)))
        units = _Loader(resolve_pack, resolve_data).load(text, file)
        top = units[0].file
        chosen = semantics or top.semantics or "strict"
        name = top.name or _stem(file)
        return _build((PolicyLayer(name, chosen, tuple(units)),))

    @staticmethod
    def layered(policies: Sequence[Policy]) -> Policy:
        """Return the intersection of policies (organisation, team, user): each must allow, so each can only narrow.

        Raises PolicyError for none, or for more than MAX_LAYERS.
        """
        layers = [layer for policy in policies for layer in policy.layers]
        if not layers or len(layers) > MAX_LAYERS:
            raise PolicyError(f"needs 1 to {MAX_LAYERS} policies")
        if len(layers) == 1:
            return policies[0]
        names: set[str] = set()
        unique = []
        for layer in layers:
            name, count = layer.name, 1
            while name in names:
                count += 1
                name = f"{layer.name}#{count}"
            names.add(name)
            unique.append(replace(layer, name=name))
        return _build(tuple(unique))

    @property
    def document(self) -> PolicyFile:
        """The file of the first layer, as parsed."""
        return self.layers[0].units[0].file

    @property
    def semantics(self) -> str:
        """`openshell` only if every layer says so."""
        return "openshell" if all(layer.semantics == "openshell" for layer in self.layers) else "strict"

    @property
    def rules(self) -> tuple[str, ...]:
        """Every rule id this policy can answer with, in file order."""
        return tuple(self.origins)

    def sections(self, key: str) -> Iterator[tuple[Any, PolicyLayer, Unit]]:
        """Yield a section of every file of every layer that has it, the outermost file first."""
        for layer in self.layers:
            for unit in layer.units:
                section = getattr(unit.file, key)
                if section is not None:
                    yield section, layer, unit

    def offers(self, tool: str, server: str = "") -> bool:
        """Return whether some call of this tool could be allowed; False means that showing it to a model is pointless.

        Only ever used to hide: a tool that is offered is still judged call by call.
        """
        target = f"{server}/{tool}" if server else tool
        for layer in self.compiled:
            sections = [governed.section for governed in layer.by_kind.get("tool.call", ())]
            answers = [section.offers(target, tool) for section in sections if hasattr(section, "offers")]
            if not any(answers) and not layer.trial and (answers or not layer.abstains):
                return False
        return True

    def resolvable(self, host: str) -> bool:
        """Return whether some connection to this canonical name could be allowed; if not, nobody needs its address.

        A name says something to whoever runs its name server, so a name no rule can allow is never asked for.
        """
        for layer in self.compiled:
            sections = [governed.section for governed in layer.by_kind.get("net.connect", ())]
            answers = [section.resolvable(host) for section in sections if hasattr(section, "resolvable")]
            if not any(answers) and not layer.trial and (answers or not layer.abstains):
                return False
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Policy) and other.digest == self.digest

    def __hash__(self) -> int:
        return hash(self.digest)


def _stem(file: str) -> str:
    name = file.rsplit("/", 1)[-1]
    for ending in (".yaml", ".yml", ".json"):
        name = name.removesuffix(ending)
    return name if name and not name.startswith("<") else "policy"


def _build(layers: tuple[PolicyLayer, ...]) -> Policy:
    from agent_os.policy.compile import compile_layer  # noqa: PLC0415  (pulls in pydantic)

    compiled, problems = [], []
    origins: dict[str, Any] = {}
    prices = Prices([unit.file.models for layer in layers for unit in layer.units if unit.file.models is not None])
    for index, layer in enumerate(layers):
        prefix = f"{layer.name}/" if len(layers) > 1 else ""
        done, rules, found = compile_layer(
            layer.name, layer.units, index=index, prefix=prefix, semantics=layer.semantics, prices=prices
        )
        compiled.append(done)
        origins.update(rules)
        problems.extend(found)
    if problems:
        raise PolicyError(sorted(problems, key=lambda item: (item.place.file, item.place.line, item.place.column)))
    # The name of a lone layer is the name of its file: two copies of one text are one policy.
    named = len(layers) > 1
    form: list[Any] = [1]
    for layer in layers:
        form.append([layer.name if named else "", layer.semantics, [_unit_form(unit) for unit in layer.units]])
    try:
        digest = canonical.json_digest(form)
    except ActionError as error:
        raise PolicyError(Problem(str(error), Place(layers[0].units[0].document.file))) from None
    engines = tuple(entry for layer in compiled for entry in layer.rego)
    revision = layers[0].units[0].file.revision or 0
    return Policy(layers, digest, tuple(compiled), origins, engines, revision, prices)


def _unit_form(unit: Unit) -> list[Any]:
    form = [unit.pack, unit.document.value, dict(unit.data)]
    return [*form, {path: dict(files) for path, files in unit.modules.items()}] if unit.modules else form


class _Loader:
    """Reads a file and everything it extends; collects problems over all of them."""

    def __init__(self, resolve_pack: ResolvePack | None, resolve_data: ResolveData | None) -> None:
        self._resolve_pack = resolve_pack
        self._resolve_data = resolve_data
        self._problems: list[Problem] = []
        self._units: list[Unit] = []
        self._seen: dict[str, str] = {}

    def load(self, text: str, file: str) -> list[Unit]:
        self._add(text, file, "", (), {})
        if self._problems:
            raise PolicyError(self._problems)
        return self._units

    def _add(self, text: str, file: str, pack: str, chain: tuple[str, ...], outer: Mapping[str, Any]) -> None:
        from pydantic import ValidationError  # noqa: PLC0415

        from agent_os.policy.compile import Unit  # noqa: PLC0415
        from agent_os.policy.problems import from_validation  # noqa: PLC0415
        from agent_os.policy.reader import read  # noqa: PLC0415
        from agent_os.policy.schema import PolicyFile  # noqa: PLC0415

        try:
            document = read(text, file=file)
        except PolicyError as error:
            self._problems.extend(error.problems)
            return
        if not isinstance(document.value, dict):
            self._problems.append(Problem("a policy must be a mapping", Place(file, 1, 1), "start with `version: 1`"))
            return
        try:
            parsed = PolicyFile.model_validate(document.value)
        except ValidationError as error:
            self._problems.extend(from_validation(error, document, PolicyFile))
            return
        if len(self._units) >= MAX_UNITS:
            self._problems.append(Problem(f"extends more than {MAX_UNITS} files", document.place("extends")))
            return
        data = {**self._data(parsed, document), **outer}
        self._units.append(Unit(document, parsed, pack, data, self._modules(parsed, document)))
        for index, reference in enumerate(parsed.extends):
            self._extend(reference, document, index, (*chain, file), data)

    def _extend(
        self, reference: str, document: Any, index: int, chain: tuple[str, ...], data: Mapping[str, Any]
    ) -> None:
        place = document.place(f"extends[{index}]")
        name = reference.removeprefix("./")
        if not reference.startswith("pack:") and (reference.startswith("/") or ".." in reference.split("/")):
            hint = "use a path beside or below this file, or pack:NAME"
            self._problems.append(Problem("extends leaves the folder of the policy", place, hint))
            return
        if len(chain) > MAX_EXTENDS_DEPTH:
            self._problems.append(Problem(f"extends deeper than {MAX_EXTENDS_DEPTH} files", place))
            return
        if self._resolve_pack is None:
            hint = "load it with agent_os.load_policy, or pass resolve_pack"
            self._problems.append(Problem("extends another file, and nothing here can read it", place, hint))
            return
        try:
            text, file = self._resolve_pack(reference, document.file)
        except PolicyError as error:
            self._problems.extend(Problem(item.message, place, item.hint, item.code) for item in error.problems)
            return
        # Which file it is decides, not how it is referred to: two folders may each have a base.yaml.
        if file in chain:
            self._problems.append(Problem("extends itself in a loop", place, " -> ".join((*chain, file))))
            return
        if file in self._seen:
            return
        self._seen[file] = name
        count = sum(1 for known in self._seen.values() if known == name)
        self._add(text, file, name if count == 1 else f"{name}#{count}", chain, data)

    def _modules(self, parsed: PolicyFile, document: Any) -> dict[str, dict[str, str]]:
        """Return the texts of the Rego modules that stand beside the file; what cannot be read here denies later."""
        found: dict[str, dict[str, str]] = {}
        for position, entry in enumerate(parsed.rego or ()):
            if entry.path is None or self._resolve_data is None:
                continue
            place = document.place(f"rego[{position}].path")
            if entry.path.startswith(("/", "~")) or ".." in entry.path.split("/"):
                hint = "use a path beside or below this file"
                self._problems.append(Problem(f"rego[{position}].path leaves the folder of the policy", place, hint))
                continue
            try:
                text = self._resolve_data(entry.path, document.file)
            except PolicyError as error:
                self._problems.extend(_of_file(entry.path, item, place) for item in error.problems)
                continue
            files = text if isinstance(text, dict) else {entry.path: text}
            if not files or not all(isinstance(module, str) for module in files.values()):
                self._problems.append(
                    Problem(f"rego[{position}].path holds no Rego module", place, "name a .rego file")
                )
                continue
            found[entry.path] = {str(name): module for name, module in files.items()}
        return found

    def _data(self, parsed: PolicyFile, document: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, source in parsed.data.items():
            path = f"data.{name}"
            if isinstance(source, list):
                found[name] = source
            elif source.values is not None:
                found[name] = source.values
            elif source.file is not None:
                if source.file.startswith(("/", "~")) or ".." in source.file.split("/"):
                    hint = "use a path beside or below this file"
                    self._problems.append(
                        Problem(f"{path} leaves the folder of the policy", document.place(path), hint)
                    )
                elif self._resolve_data is not None:
                    try:
                        found[name] = self._resolve_data(source.file, document.file)
                    except PolicyError as error:
                        place = document.place(path)
                        self._problems.extend(_of_file(source.file, item, place) for item in error.problems)
        return found


def _of_file(name: str, problem: Problem, place: Place) -> Problem:
    """Return what is wrong in a file that a policy names, at the place that names it."""
    inside = f" (line {problem.place.line})" if problem.place.line else ""
    return Problem(f"{name}{inside}: {problem.message}", place, problem.hint, problem.code)
