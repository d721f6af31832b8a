"""No link of a document leads nowhere: files are there, and so are the headings that anchors name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path.relative_to(ROOT)
    for pattern in ("*.md", "docs/**/*.md", "policies/**/*.md", "tools/**/*.md", "bench/**/*.md", "examples/**/*.md")
    for path in ROOT.glob(pattern)
)


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as code hosts make them."""
    plain = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    heads = re.findall(r"^#+ +(.*)$", plain, re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative target exists, and each anchor is a heading of its page."""
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.S | re.M)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        there = (ROOT / page).parent / name if name else ROOT / page
        assert there.exists(), f"{page} names {target}"
        if anchor:
            assert anchor in anchors(there.read_text(encoding="utf-8")), f"{page} names {target}"


def test_pages_were_found() -> None:
    """The documents, the packs' and the tools' pages are among them."""
    assert {Path("README.md"), Path("docs/policy.md"), Path("policies/baseline/README.md")} <= set(PAGES)


def test_every_document_is_reached_from_the_readme() -> None:
    """A page of docs/ that the README does not name is read by nobody."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [page for page in PAGES if page.parent == Path("docs") and f"({page})" not in readme]
    assert not missing
