"""A web page as readable text, fetched through the egress guard: which hosts and paths is the policy's to say."""

from __future__ import annotations

import html.parser
import os
import re
import sys
import urllib.error
import urllib.request
from typing import Any

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from serving import ToolError, serve, tool

BYTES_MAX = 5_000_000
TEXT_MAX = 200_000
HIDDEN = {"script", "style", "noscript", "template", "svg", "head", "iframe", "nav", "footer"}
BLOCKS = {
    "p",
    "div",
    "section",
    "article",
    "li",
    "tr",
    "br",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "pre",
    "blockquote",
    "table",
}


class Reader(html.parser.HTMLParser):
    """Collects the visible text, the title and the links of a page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.links: list[str] = []
        self.title, self.hidden, self.in_title = "", 0, False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Take the beginning of an element."""
        if tag in HIDDEN and tag != "head":
            self.hidden += 1
        values = {name: value or "" for name, value in attributes}
        if tag == "title":
            self.in_title = True
        if tag in BLOCKS:
            self.parts.append("\n")
        if tag in ("h1", "h2", "h3"):
            self.parts.append("#" * int(tag[1]) + " ")
        if tag == "a" and values.get("href") and len(self.links) < 500:
            self.links.append(values["href"][:2000])
        if tag == "img" and values.get("alt") and not self.hidden:
            self.parts.append(f"[{values['alt'][:200]}]")

    def handle_endtag(self, tag: str) -> None:
        """Take the end of an element."""
        if tag in HIDDEN and tag != "head":
            self.hidden = max(0, self.hidden - 1)
        if tag == "title":
            self.in_title = False
        if tag in BLOCKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        """Take text."""
        if self.in_title:
            self.title += data
        elif not self.hidden:
            self.parts.append(data)


def readable(source: str) -> tuple[str, str, list[str]]:
    """Return title, text and links of a page."""
    reader = Reader()
    reader.feed(source)
    text = re.sub(r"[ \t\r\f\v]+", " ", "".join(reader.parts))
    text = re.sub(r" ?\n ?", "\n", text)
    return reader.title.strip()[:500], re.sub(r"\n{3,}", "\n\n", text).strip(), reader.links


@tool("Fetch a web page and return its readable text, title and links.",
      {"url": {"type": "string", "pattern": "^https?://", "maxLength": 8192}}, ["url"])  # fmt: skip
def fetch(url: str) -> dict[str, Any]:
    if not url.lower().startswith(("http://", "https://")):
        raise ToolError("only http and https")
    request = urllib.request.Request(
        url, headers={"User-Agent": "agent-os-web/1", "Accept": "text/html,text/plain,application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            data, kind, final, status = (
                response.read(BYTES_MAX + 1),
                response.headers.get_content_type(),
                response.geturl(),
                response.status,
            )
            charset = response.headers.get_content_charset() or "utf-8"
    except urllib.error.HTTPError as error:
        raise ToolError(f"status {error.code}: {error.read(2000).decode('utf-8', errors='replace')}") from None
    except urllib.error.URLError as error:
        raise ToolError(f"not reached: {error.reason}") from None
    try:
        text = data[:BYTES_MAX].decode(charset, errors="replace")
    except LookupError:
        text = data[:BYTES_MAX].decode("utf-8", errors="replace")
    title = ""
    links: list[str] = []
    if "html" in kind:
        title, text, links = readable(text)
    return {"url": final, "status": status, "type": kind, "title": title, "text": text[:TEXT_MAX], "links": links,
            "truncated": len(data) > BYTES_MAX or len(text) > TEXT_MAX}  # fmt: skip


if __name__ == "__main__":
    serve()
