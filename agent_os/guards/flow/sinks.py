"""What a text or a file is to whoever meets it later: an image that loads by itself, a file that runs, one that instructs. Pure.

Some places turn text into power without anybody deciding it: a reader's program fetches an image and so carries data out, a
git hook or a build file runs, an agent's instructions are obeyed, an invitation is believed. Each has a class of its own in
the policy (`flow:`). Threats: data carried out in the address of an image (also of a reference-style or an HTML one, in any
entity spelling), code and orders planted for the next session or the next person.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from agent_os.core.manifest import Effect, ToolSpec
from agent_os.guards.confine.protect import protection_of
from agent_os.guards.flow.lexicon import bag
from agent_os.guards.flow.naming import name_words

TAG_CHARS_MAX: Final = 4_000
"""An HTML tag longer than this is looked through up to here."""

_RUNS: Final = frozenset({
    "makefile", "gnumakefile", "justfile", "rakefile", "dockerfile", "jenkinsfile", "vagrantfile", "procfile", "taskfile.yml",
    "docker-compose.yml", "docker-compose.yaml", "compose.yaml", "compose.yml", ".gitlab-ci.yml", ".travis.yml",
    "azure-pipelines.yml", "bitbucket-pipelines.yml", ".pre-commit-config.yaml", "conftest.py", "sitecustomize.py",
    "usercustomize.py", "setup.py", "setup.cfg", "pyproject.toml", "tox.ini", "noxfile.py", "package.json", "gulpfile.js",
    "gruntfile.js", "build.gradle", "build.gradle.kts", "build.rs", "pom.xml", "cmakelists.txt", "crontab", "authorized_keys",
    "rc.local", ".xinitrc", ".vimrc", ".gdbinit", ".bazelrc", "workspace.bazel",
})  # fmt: skip
_RUNS_BELOW: Final = (
    ".github/workflows/", ".github/actions/", ".circleci/", ".buildkite/", "cron.d/", "cron.daily/", "cron.hourly/",
    "init.d/", "systemd/", "autostart/", "launchagents/", "launchdaemons/", "hooks/", "site-packages/",
)  # fmt: skip
_RUNS_AS: Final = (".pth", ".service", ".timer", ".desktop", ".plist", ".reg", ".lnk")
_ORDERS: Final = frozenset({
    "agents.md", "claude.md", "gemini.md", "copilot-instructions.md", "skill.md", ".cursorrules", ".windsurfrules",
    ".clinerules", "policy.yaml", "policy.yml", "tool.yaml", "mcp.json",
})  # fmt: skip
_ORDERS_AS: Final = (".rego", ".policy.yaml", ".policy.yml", ".mdc")
_CODE_AS: Final = (
    ".py", ".pyw", ".sh", ".bash", ".zsh", ".fish", ".js", ".mjs", ".cjs", ".jsx", ".ts", ".tsx", ".rb", ".pl", ".php", ".ps1",
    ".bat", ".cmd", ".vbs", ".wsf", ".lua", ".go", ".rs", ".java", ".kt", ".swift", ".c", ".cc", ".cpp", ".cs", ".sql", ".r",
    ".jl", ".tf", ".ipynb", ".exe", ".dll", ".so", ".jar", ".mk", ".cmake", ".docm", ".xlsm",
)  # fmt: skip
_SHOWN_AS: Final = (
    ".md", ".markdown", ".mdx", ".html", ".htm", ".xhtml", ".svg", ".rst", ".adoc", ".eml", ".ipynb", ".css", ".xml"
)  # fmt: skip

_IMAGE: Final = re.compile(r"!\[[^\]\n]{0,400}\]\(\s*<?([^)\s>]{1,2000})")
_IMAGE_REF: Final = re.compile(r"!\[([^\]\n]{0,400})\](?:\[([^\]\n]{0,400})\])?")
_REFERENCE: Final = re.compile(r"^ {0,3}\[([^\]\n]{1,400})\]:\s*<?([^\s>]{1,2000})", re.M)
_TAG: Final = re.compile(
    r"<(?:img|image|iframe|frame|video|audio|source|track|embed|object|link|script|input|body|table|td|use|base|meta)\b",
    re.I,
)
_ATTRIBUTE: Final = re.compile(
    r"(?:src|srcset|href|data|poster|background|xlink:href|content)\s*=\s*[\"']?([^\"'>]{1,2000})", re.I
)
_CSS: Final = re.compile(r"(?:url\(\s*|@import\s+)[\"']?([^\"')\s]{1,2000})", re.I)
_ADDRESS: Final = re.compile(r"(?:[a-z][a-z0-9+.-]{1,12}:)?[\\/]{2}[^\s\"'<>,;)]{1,2000}", re.I)

INVITE_WORDS: Final = bag("calendar event meeting appointment invite invitation")
GUESTS: Final = bag("participants attendees guests invitees invited")
LATER_WORDS: Final = bag("cron crontab schedule scheduled job timer reminder")
MEMORY_WORDS: Final = bag("memory memories remember memorize memorise")


def loaded(text: str) -> list[str]:
    """Return the addresses that a reader's program would fetch by itself: images, frames, styles, scripts; other hosts' only."""
    if "![" not in text and "<" not in text and "(" not in text and "&" not in text and "@import" not in text:
        return []
    found: list[str] = []
    plain = html.unescape(text) if "&" in text else text
    for part in dict.fromkeys((text, plain)):
        found += _IMAGE.findall(part)
        if "![" in part:
            named = {" ".join(name.lower().split()): address for name, address in _REFERENCE.findall(part)}
            for alt, name in _IMAGE_REF.findall(part) if named else ():
                found += [address for key in (name or alt,) if (address := named.get(" ".join(key.lower().split())))]
        for tag in _tags(part):
            found += [address for value in _ATTRIBUTE.findall(tag) for address in _ADDRESS.findall(value)]
        if "url(" in part.lower() or "@import" in part.lower():
            found += _CSS.findall(part)
    return [address for address in dict.fromkeys(found) if _ADDRESS.match(address)]


def _tags(text: str) -> Iterator[str]:
    """Yield what stands in each tag that can load something; no character is looked at twice."""
    match = _TAG.search(text)
    while match is not None:
        end = text.find(">", match.end(), match.end() + TAG_CHARS_MAX)
        end = end if end >= 0 else match.end() + TAG_CHARS_MAX
        yield text[match.end() : end]
        match = _TAG.search(text, end)


@lru_cache(maxsize=4096)
def written_as(path: str) -> str:
    """Return the class of what is written to a path: `autorun_write`, `policy_write`, `code_write`, or nothing."""
    parts = [part for part in path.lower().replace("\\", "/").split("/") if part not in ("", ".")]
    if not parts:
        return ""
    name, whole = parts[-1], "/".join(parts)
    if name in _ORDERS or name.endswith(_ORDERS_AS):
        return "policy_write"
    below = any(f"/{folder}" in f"/{whole}" for folder in _RUNS_BELOW)
    if below or name in _RUNS or name.endswith(_RUNS_AS) or name.startswith(("makefile.", "dockerfile.")):
        return "autorun_write"
    if any(protection_of("/".join(parts[:end])) is not None for end in range(1, len(parts) + 1)):
        return "autorun_write"
    return "code_write" if name.endswith(_CODE_AS) else ""


def is_shown(path: str) -> bool:
    """Return whether what is written to a path is rendered where it is read, so that what it names is fetched."""
    return path.lower().endswith(_SHOWN_AS)


def is_invitation(spec: ToolSpec, names: frozenset[str]) -> bool:
    """Return whether a call puts something into other people's calendars; `names` are those of its arguments."""
    words = frozenset(name_words(spec.name)) | frozenset(spec.objects)
    return bool(words & INVITE_WORDS) and (spec.effect is Effect.SEND or bool(names & GUESTS))


def runs_later(spec: ToolSpec) -> bool:
    """Return whether a call arranges for something to run later."""
    return spec.effect is Effect.EXECUTE and bool(frozenset(name_words(spec.name)) & LATER_WORDS)


def is_memory(spec: ToolSpec) -> bool:
    """Return whether a call writes into what later sessions remember."""
    return spec.effect is not Effect.READ and bool(frozenset(name_words(spec.name)) & MEMORY_WORDS)
