"""Published OpenShell and NemoClaw policies, unchanged, enforced end to end with curl."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FOLDERS = [ROOT.parent / "shared" / "conformance" / "openshell" / "policies"]
OWN = """
network_policies:
  tracker:
    endpoints:
      - host: "*.tracker.example"
        port: 443
        protocol: rest
        enforcement: enforce
        rules: [{allow: {method: GET, path: "/**"}}, {allow: {method: POST, path: "/issues"}}]
        deny_rules: [{method: GET, path: "/admin/**"}]
"""


def unshared() -> bool:
    tool = shutil.which("unshare")
    return tool is not None and subprocess.run([tool, "-rn", "true"], capture_output=True, check=False).returncode == 0


pytestmark = [pytest.mark.kernel, pytest.mark.skipif(not unshared(), reason="no network namespace of our own here")]


def enforce(policy: Path, folder: Path, requests: list[str]) -> list[list[object]]:
    """Put requests through a guard under a policy file; a status and the upstream's first line for each."""
    argv = ["unshare", "-rn", sys.executable, "-m", "tests.e2e.network.public", str(policy), str(folder)]
    done = subprocess.run(
        argv, input="\n".join(requests), capture_output=True, text=True, timeout=60, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_policy_for_public_hosts(tmp_path: Path) -> None:
    """Methods, paths, wildcards and deny rules of a file hold on the wire, port 443 and public address as written."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\n" + OWN)
    found = enforce(
        policy,
        tmp_path,
        [
            "GET https://a.tracker.example/x",
            "POST https://a.tracker.example/issues",
            "POST https://a.tracker.example/other",
            "GET https://a.tracker.example/admin/users",
            "GET https://a.tracker.example/%61dmin/users",
            "GET https://a.b.tracker.example/x",
            "GET https://tracker.example/x",
        ],
    )
    assert [status for status, _ in found] == [200, 200, 403, 403, 403, 403, 403]
    assert found[0][1] == "GET /x HTTP/1.1"
    assert found[2][1] == ""


@pytest.mark.skipif(not FOLDERS[0].is_dir(), reason="the conformance folder is not here")
def test_a_nemoclaw_preset(tmp_path: Path) -> None:
    """The Jira preset as published: reading and posting pass, deleting and other hosts do not."""
    preset = next(FOLDERS[0].glob("*presets__jira.yaml"))
    found = enforce(
        preset,
        tmp_path,
        [
            "GET https://team.atlassian.net/rest/api/3/issue/X-1",
            "POST https://team.atlassian.net/rest/api/3/issue",
            "DELETE https://team.atlassian.net/rest/api/3/issue/X-1",
            "GET https://api.atlassian.com/me",
            "GET https://evil.example/",
        ],
    )
    assert [status for status, _ in found] == [200, 200, 403, 200, 403]
    assert found[2][1] == ""
