"""What a tool server is given: manifest and policy and, for a sub-agent, what the sub-agent holds; never more than any of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_os.core.manifest import Needs
from agent_os.core.principal import Capability
from agent_os.guards.confine.inputs import Confinement, within
from agent_os.guards.confine.server import HeldRights, held_rights, server_confinement

WS = "/home/ana/work"
POLICY = Confinement(include_workdir=True, read_only=("/usr", "/etc/app", f"{WS}/fixed"), network=True)
ALL = Needs(read=(".",), write=(".",), hosts=("**",), secrets=("A", "B"))


def folders(path: str) -> bool:
    return "." not in path.rsplit("/", 1)[-1]


def held(*capabilities: Capability) -> HeldRights:
    return held_rights(capabilities, is_folder=folders)


def every(path: str) -> tuple[Capability, ...]:
    scope = frozenset({path})
    return tuple(Capability(verb, scope) for verb in ("fs.read", "fs.list", "fs.write", "fs.delete"))


def test_a_caller_with_a_folder_gets_that_folder() -> None:
    """Of a wish for the whole workspace a sub-agent's server gets what the sub-agent holds, and nothing of /etc."""
    found = server_confinement(POLICY, ALL, ("/code",), WS, held(*every(f"{WS}/inbox/")))
    assert found.refused == ()
    assert (found.confinement.include_workdir, found.confinement.read_write) == (False, (f"{WS}/inbox",))
    assert set(found.confinement.read_only) == {"/usr", "/code"}
    assert (found.confinement.network, found.secrets) == (False, ())


def test_the_session_gets_what_manifest_and_policy_share() -> None:
    """Without a narrower caller the whole wish is granted, the read-only folder inside it kept."""
    found = server_confinement(POLICY, ALL, (), WS)
    assert found.confinement.include_workdir
    assert f"{WS}/fixed" in found.confinement.read_only
    assert (found.confinement.network, found.secrets) == (True, ("A", "B"))


@pytest.mark.parametrize("verbs", [("fs.read",), ("fs.list",), ("fs.write", "fs.delete"), ("fs.read", "fs.write")])
def test_a_part_of_the_rights_to_a_folder_mounts_nothing(verbs: tuple[str, ...]) -> None:
    """A mounted folder can be listed and read (and deleted in, if writable): a part of that is no right to the mount."""
    rights = held(*(Capability(verb, frozenset({f"{WS}/inbox/"})) for verb in verbs))
    assert (rights.read, rights.write) == ((), ())


def test_an_exact_target_is_a_file_and_no_folder() -> None:
    """A right to exactly one path mounts a file; of a folder it would mount what lies below, so it mounts nothing."""
    rights = held(Capability("fs.read", frozenset({f"{WS}/inbox", f"{WS}/inbox/a.txt"})))
    assert rights.read == (f"{WS}/inbox/a.txt",)


def test_a_right_below_a_read_only_folder_is_read_only() -> None:
    """The policy's nearest grant says what is writable, however deep the caller's right or the manifest's wish lies."""
    deep = f"{WS}/fixed/deep"
    found = server_confinement(POLICY, ALL, (), WS, held(*every(f"{deep}/")))
    assert found.confinement.read_write == ()
    assert deep in found.confinement.read_only
    wish = server_confinement(POLICY, Needs(write=("fixed/deep",)), (), WS)
    assert wish.refused == (f"write {deep}",)
    assert wish.confinement.read_write == ()


def test_secrets_and_network_are_the_callers() -> None:
    """A caller with one secret and one host gets the one name, and a network behind its own door."""
    rights = held(Capability("secret.use", frozenset({"A"})), Capability("net.connect", frozenset({"a.example:443"})))
    found = server_confinement(POLICY, ALL, (), WS, rights)
    assert (found.secrets, found.confinement.network) == (("A",), True)
    offline = replace(POLICY, network=False)
    assert server_confinement(offline, ALL, (), WS, rights).confinement.network is False


PATHS = st.lists(st.sampled_from(["a", "b", "c"]), max_size=3).map(lambda parts: "/".join([WS, *parts]))


@given(
    st.lists(PATHS, max_size=3), st.lists(PATHS, max_size=3), st.lists(PATHS, max_size=3), st.lists(PATHS, max_size=3)
)
def test_never_more_than_any_of_the_three(
    wished: list[str], writable: list[str], read_only: list[str], own: list[str]
) -> None:
    """Every path that a sub-agent's server may write is wished for, granted by the nearest grant, and held; reads likewise."""
    policy = Confinement(include_workdir=False, read_write=tuple(writable), read_only=tuple(read_only))
    rights = held(*(capability for path in own for capability in every(f"{path}/")))
    made = server_confinement(policy, Needs(read=tuple(wished), write=tuple(wished)), (), WS, rights).confinement
    for path in (*made.read_write, *made.read_only):
        assert any(within(path, wish) for wish in wished)
        assert any(within(path, other) for other in own)
        assert any(within(path, grant) for grant in (*writable, *read_only))
    for path in made.read_write:
        near = max((len(grant) for grant in writable if within(path, grant)), default=0)
        assert near > max((len(grant) for grant in read_only if within(path, grant)), default=0)
