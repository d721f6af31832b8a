"""Host patterns, selectors and the index."""

from __future__ import annotations

import pytest

from agent_os.policy.network.globs import GlobError
from agent_os.policy.network.hosts import HostIndex, HostSelector, host_matches, host_pattern, hosts_overlap
from agent_os.policy.network.overlap import host_globs_overlap, path_globs_overlap


@pytest.mark.parametrize(
    ("pattern", "host", "expected"),
    [
        ("*.Example.com", "API.example.COM", True),
        ("*.example.com", "example.com", False),
        ("**", "a.b", True),
        ("**.example.com", "x.y.example.com", True),
        ("**.example.com", "example.com", False),
        ("**", "a..b", False),
        ("t-*.example.com", "t-1.example.com", True),
        ("a.**.b", "a.x.y.b", True),
        ("a.**.b", "a.b", False),
    ],
)
def test_patterns_match_by_label(pattern: str, host: str, expected: bool) -> None:
    """A star stays in its label; a double star takes one label or more; empty labels match nothing."""
    assert host_matches(pattern, host) is expected


@pytest.mark.parametrize("pattern", ["", "a b", "a..b", "x{a,b}.c", "a[.c", "a**.c", " a"])
def test_malformed_patterns_are_refused(pattern: str) -> None:
    """A pattern that could silently never match is an error."""
    with pytest.raises(GlobError):
        host_pattern(pattern)


def test_overlap_errs_on_the_side_of_yes() -> None:
    """Two wildcard labels may share a host; different names do not."""
    assert hosts_overlap("*.example.com", "api.example.com")
    assert hosts_overlap("**.example.com", "*.api.example.com")
    assert not hosts_overlap("*.example.com", "a.b.example.com")
    assert not hosts_overlap("*.example.com", "*.other.com")


def test_exclusion_wins_in_a_selector() -> None:
    """A host that is included and excluded is not selected; a wildcard with an excluded host may still match."""
    selector = HostSelector(["*.example.com"], ["api.example.com"])
    assert selector.matches("www.example.com")
    assert not selector.matches("api.example.com")
    assert not selector.may_match(host_pattern("api.example.com"))
    assert selector.may_match(host_pattern("*.example.com"))


def test_the_index_finds_what_could_match_and_nothing_else() -> None:
    """Exact names, wildcards by their last labels and hostless entries come back in the order they were added."""
    index: HostIndex[str] = HostIndex()
    index.add("", [443], "any")
    index.add("*.example.com", [443, 80], "wild")
    index.add("api.example.com", [443], "exact")
    index.add("*.example.org", [443], "other")
    index.add("api.example.com", [8443], "port")
    assert list(index.find("api.example.com", 443)) == ["any", "wild", "exact"]
    assert list(index.find("api.example.com", 80)) == ["wild"]
    assert list(index.find("nothing.test", 443)) == ["any"]
    assert list(index.find("nothing.test", 22)) == []


def test_endpoint_hosts_and_paths_that_share_a_text_overlap() -> None:
    """Conflict checks see wildcards, classes and question marks."""
    assert host_globs_overlap("*.example.com", "api.*.com")
    assert not host_globs_overlap("*.example.com", "*.example.org")
    assert host_globs_overlap("", "anything")
    assert path_globs_overlap("/v?", "/v1")
    assert path_globs_overlap("/v[12]", "/v[23]")
    assert not path_globs_overlap("/v[12]", "/v[34]")
    assert path_globs_overlap("/v[!0]", "/v1")
    assert not path_globs_overlap("/graphql", "/repos/**")
