"""From policy files to a confinement, and to the narrower one of a tool server."""

from __future__ import annotations

from agent_os.core.manifest import Needs
from agent_os.guards.confine import Confinement
from agent_os.guards.confine.compile import confinement_of
from agent_os.guards.confine.server import server_confinement
from agent_os.policy import Policy

WS = "/ws"


def confinement(*texts: str) -> Confinement:
    policies = [Policy.parse("version: 1\n" + text) for text in texts]
    policy = policies[0] if len(policies) == 1 else Policy.layered(policies)
    return confinement_of([[unit.file for unit in layer.units] for layer in policy.layers], WS)


def test_an_empty_policy_grants_nothing() -> None:
    """Without a filesystem section there is no workspace, no path and no network."""
    got = confinement("tools: {x: {deny: true}}")
    assert (got.include_workdir, got.read_only, got.read_write, got.network) == (False, (), (), False)


def test_paths_limits_and_ports_come_over() -> None:
    """Relative paths are taken against the workspace, globs kept apart, limits and endpoint ports found."""
    got = confinement(
        "filesystem_policy: {include_workdir: true, read_only: [/usr, data], deny: [private, '**/*.pem'], max_file_bytes: 1MiB}\n"
        "process: {run_as_user: sandbox, limits: {memory: 64MiB, processes: 9, wall_time: 5s}, env: [MY_*]}\n"
        "network_policies: {n: {endpoints: [{host: a.example, ports: [8443, 9443], protocol: tcp}]}}"
    )
    assert got.read_only == ("/usr", "/ws/data")
    assert got.hidden == ("/ws/private",)
    assert got.hidden_globs == ("/ws/**/*.pem", "/ws/*.pem")
    assert (got.limits.memory_bytes, got.limits.processes, got.limits.wall_seconds) == (64 << 20, 9, 5.0)
    assert got.limits.file_bytes == 1 << 20
    assert (got.network, got.ports) == (True, (8443, 9443))
    assert got.environment == ("MY_*",)


def test_a_file_says_its_own_limits_beside_what_it_extends() -> None:
    """One value of a file stands before the same of what it extends, smaller or larger; what it does not say stays."""
    pack = (
        "version: 1\nprocess: {run_as_user: sandbox, limits: {memory: 4GiB, processes: 9}, set_env: {A: pack, B: pack}}"
    )
    own = (
        "version: 1\nextends: [pack:p]\nfilesystem_policy: {quota: 1MiB}\n"
        "process: {run_as_user: 1234, limits: {memory: 8GiB, wall_time: 5s}, set_env: {A: own}}"
    )
    policy = Policy.parse(own, resolve_pack=lambda _name, _file: (pack, "p.yaml"))
    got = confinement_of([[unit.file for unit in layer.units] for layer in policy.layers], WS)
    limits = got.limits
    assert (limits.memory_bytes, limits.processes, limits.wall_seconds, limits.disk_bytes) == (8 << 30, 9, 5.0, 1 << 20)
    assert (got.user, dict(got.values)) == ("1234", {"A": "own", "B": "pack"})


def test_a_layer_can_only_take_away() -> None:
    """Two files as layers grant what both grant."""
    wide = "filesystem_policy: {include_workdir: true, read_only: [/usr, /etc], read_write: [/data]}"
    tight = "filesystem_policy: {read_only: [/usr/lib], read_write: [/data/in], hidden: [/data/in/x]}"
    got = confinement(wide, tight)
    assert (got.include_workdir, got.read_only, got.read_write) == (False, ("/usr/lib",), ("/data/in",))
    assert got.hidden == ("/data/in/x",)


def test_a_server_gets_what_it_asks_and_the_policy_grants() -> None:
    """System folders and its own code, its wishes where granted; variables, sockets and a terminal of the policy are not its."""
    policy = Confinement(
        True, ("/usr", "/srv/models"), ("/data",), environment=("A",), values={"B": "1"}, sockets=("/s",)
    )
    found = server_confinement(
        policy, Needs(read=("docs", "/srv/models", "/root"), write=("/data/out", "/etc")), ("/code",), WS
    )
    got = found.confinement
    assert got.read_only == ("/usr", "/ws/docs", "/srv/models", "/code")
    assert got.read_write == ("/data/out",)
    assert got.include_workdir is False
    assert (got.environment, dict(got.values), got.sockets, got.terminal) == ((), {}, (), False)
    assert sorted(found.refused) == ["read /root", "write /etc"]


def test_a_wish_cannot_climb() -> None:
    """`..` in a wish is resolved before it is judged."""
    policy = Confinement(True, ("/usr",))
    found = server_confinement(policy, Needs(read=("../other", "a/../../etc")), (), WS)
    assert len(found.refused) == 2
    assert found.confinement.read_only == ("/usr",)


def test_no_hosts_no_network() -> None:
    """A server that names no host gets no network, whatever the policy grants."""
    policy = Confinement(True, ("/usr",), network=True, ports=(443,))
    assert server_confinement(policy, Needs(), (), WS).confinement.network is False
    assert server_confinement(policy, Needs(hosts=("a.example",)), (), WS).confinement.network is True
