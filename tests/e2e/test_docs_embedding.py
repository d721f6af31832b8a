"""The Python in docs/embedding.md runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "embedding.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.S | re.M)
POLICY = """
version: 1
filesystem_policy: {include_workdir: true}
tools: {read_file: {allow: true}, pay: {allow: {amount: {max: 1000}}}}
"""
PRINTED = ["an invoice", "paid 20\n() this tool is allowed when amount is at most 1000", "True \nFalse "]


@pytest.mark.parametrize("number", range(len(PRINTED)))
def test_block(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each block prints what it is there to show."""
    assert len(BLOCKS) == len(PRINTED)
    work = tmp_path / "work"
    (work / "inbox").mkdir(parents=True)
    (work / "inbox" / "a.txt").write_text("an invoice")
    (work / "policy.yaml").write_text(POLICY)
    monkeypatch.chdir(work)
    monkeypatch.setenv("AGENTOS_STATE", str(tmp_path / "state"))
    exec(compile(BLOCKS[number], "embedding.md", "exec"), {})
    assert PRINTED[number] in capsys.readouterr().out
