"""Results leaf by leaf: labels by path, structures in text, bounds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent_os.core.label import Confidentiality, Integrity
from agent_os.core.manifest import Effect, Result, ToolSpec
from agent_os.guards.flow import forms, leaves

SPEC = ToolSpec(
    name="list_mail",
    effect=Effect.READ,
    results={
        "$[*].id": Result(integrity="trusted", handle=True),
        "$[*].shared.*~": Result(integrity="trusted"),
        "$[*].shared.*": Result(integrity="known"),
        "$[*].pin": Result(integrity="trusted", confidentiality="secret"),
    },
)
ROWS = [{"id": "m1", "body": "text", "shared": {"bob@x.example": "r"}, "pin": "9911"}]


def labels(value: Any, spec: ToolSpec = SPEC) -> dict[str, Integrity]:
    """Return integrity by pointer."""
    return {
        leaf.pointer: leaf.label.integrity for leaf in leaves.walk(value, spec, 1, "s") if not isinstance(leaf, str)
    }


def test_paths_label_leaves() -> None:
    """The manifest's paths label leaves and keys; what no path fits is untrusted."""
    found = [leaf for leaf in leaves.walk(ROWS, SPEC, 1, "s") if not isinstance(leaf, str)]
    by_value = {leaf.value: leaf for leaf in found}
    assert by_value["m1"].label.integrity is Integrity.TRUSTED
    assert by_value["text"].label.integrity is Integrity.UNTRUSTED
    assert by_value["bob@x.example"].label.integrity is Integrity.TRUSTED
    assert by_value["r"].label.integrity is Integrity.KNOWN
    assert by_value["9911"].label.confidentiality is Confidentiality.SECRET
    assert by_value["m1"].label.sources == ("s",)


def test_pointers_are_rfc_6901() -> None:
    """Keys with `/` and `~` are escaped."""
    assert set(labels({"a/b": {"c~d": 1}})) == {"/a~1b/c~0d"}


@pytest.mark.parametrize("text", [json.dumps(ROWS), "- id: m1\n  body: text\n  pin: '9911'\n"])
def test_printed_structures_are_read(text: str) -> None:
    """JSON and YAML text of a container is labelled like what it stands for."""
    assert labels(forms.structured(text))["/0/id"] is Integrity.TRUSTED


@pytest.mark.parametrize(
    "text", ["hello: world", "{not json", "- just a dash", "a: &x [1]\nb: *x\n", "[1, 2", "plain", "1.5"]
)
def test_other_text_stays_text(text: str) -> None:
    """Prose, broken JSON and YAML aliases are one text."""
    assert forms.structured(text) == text


def test_dates_in_yaml_stay_text() -> None:
    """A printed date is what was printed."""
    assert forms.structured("- at: 2024-01-02\n  b: 1\n") == [{"at": "2024-01-02", "b": 1}]


def test_prose_in_a_trusted_field_is_untrusted() -> None:
    """A name that holds sentences is text."""
    found = labels([{"id": "this id tells you to write to somebody else at once"}])
    assert found["/0/id"] is Integrity.UNTRUSTED


def test_the_most_specific_path_holds() -> None:
    """A path without a star wins over one with it."""
    spec = ToolSpec(name="t", results={"$.*": Result(), "$.id": Result(integrity="trusted")})
    assert labels({"id": "a", "x": "b"}, spec) == {"/id": Integrity.TRUSTED, "/x": Integrity.UNTRUSTED}


def test_bounds_hand_the_rest_over_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the number of leaves, what is left comes back as untrusted text."""
    monkeypatch.setattr(leaves, "LEAVES_MAX", 3)
    rest = [leaf for leaf in leaves.walk([["a"], ["b"], ["c"], ["d"], ["e"]], SPEC, 1, "s") if isinstance(leaf, str)]
    assert any("e" in text for text in rest)


def test_what_is_shared_is_taken_once_and_what_is_too_large_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A structure that doubles at each level costs its size, not its expansion; past the bound the rest is declared."""
    shared: Any = ["x"]
    for _ in range(40):
        shared = [shared, shared]
    assert len(list(leaves.walk(shared, SPEC, 1, "s"))) < 200
    monkeypatch.setattr(leaves, "LEAVES_MAX", 3)
    assert leaves.TRUNCATED in list(leaves.walk([["a", "b", "c", "d"], ["e", "f", "g", "h", "i"]], SPEC, 1, "s"))
