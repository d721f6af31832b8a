"""The `process` section: which programs may be started. Pure.

An allow names a program exactly: an absolute path or glob, or a bare name that resolves to a system folder. A deny or
ask looks through wrappers and shells (`env curl`, `sh -c "ls; curl"`): a word of theirs that names the program counts,
which errs to the strict side. What an interpreter is told in its own language cannot be seen here: that program meets
the sandbox.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from agent_os.core import canonical
from agent_os.core.action import Action, ProcessExec
from agent_os.core.decision import Verdict
from agent_os.core.errors import ActionError
from agent_os.core.facts import Facts
from agent_os.policy.globs import PatternError, compile_any, compile_glob
from agent_os.policy.lists import ListSection, Tell, list_rule, present
from agent_os.policy.rule import Context

if TYPE_CHECKING:
    from agent_os.policy.schema.filesystem import Process

KINDS: Final = frozenset({"process.exec"})
SYSTEM_FOLDERS: Final = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_WRAPPERS: Final = (
    "env time nohup nice ionice timeout flock xargs sudo doas su stdbuf setsid chroot strace ltrace gdb busybox toybox "
    "command exec builtin unshare nsenter script watch parallel find fd entr systemd-run runuser setpriv prlimit "
    "taskset chrt numactl unbuffer expect tmux screen ssh make bwrap firejail proot fakeroot faketime "
    "sh bash dash zsh ksh fish ash csh tcsh"
)
WRAPPERS: Final = frozenset(_WRAPPERS.split())
"""Programs that start others named in their arguments."""
MAX_WORDS: Final = 10_000
_WORDS: Final = re.compile(r"[^\s;&|()<>$`\"'{}=,\\]+")


def compile_process(process: Process, context: Context) -> ListSection:
    """Return the compiled section; what cannot be compiled is recorded in the context."""
    rules = []
    for effect in (Verdict.ALLOW, Verdict.ASK, Verdict.DENY):
        for index, entry in enumerate(getattr(process, effect.value)):
            path = f"process.{effect.value}[{index}]"
            try:
                test = _allow(entry) if effect is Verdict.ALLOW else _restrict(entry)
            except PatternError as error:
                context.problem(path, str(error))
                continue
            binary = entry if isinstance(entry, str) else entry.binary
            rules.append(list_rule(entry, effect, path, test, context, words=binary, what=f"the program {binary}"))
    return ListSection("process", KINDS, present(rules), "program")


def _program(pattern: str) -> Callable[[str, str], bool]:
    """Return the test (program, workspace) of an allowed program: its absolute path, or its bare name if unresolved.

    A pattern that begins with `./` is taken against the workspace.
    """
    if pattern.startswith("./"):
        below = compile_glob(pattern[2:])

        def inside(program: str, workspace: str) -> bool:
            base = workspace.rstrip("/") + "/"
            return program.startswith(base) and below(program[len(base) :])

        return inside
    if "/" in pattern:
        whole = compile_glob(pattern)
        return lambda program, _workspace: whole(program)
    name = compile_glob(pattern)

    def match(program: str, _workspace: str) -> bool:
        folder, slash, base = program.rpartition("/")
        return name(base) and (not slash or folder in SYSTEM_FOLDERS)

    return match


def _allow(entry: Any) -> Tell:
    if isinstance(entry, str):
        program, rule = _program(entry), None
    else:
        program, rule = _program(entry.binary), entry
    arguments = None if rule is None or rule.args is None else _in_order(rule.args)
    forbidden = compile_any(rule.deny_args, crossing=True) if rule is not None and rule.deny_args else None
    names = compile_any(rule.env) if rule is not None and rule.env is not None else None

    def test(action: Action, facts: Facts) -> bool | None:
        if not isinstance(action, ProcessExec):
            return False
        target = _resolved(action, facts.workspace)
        if target is None or not program(target, facts.workspace):
            return False
        given = action.argv[1:]
        if arguments is None:
            # A wrapper allowed by name alone would allow everything it can start.
            if given and target.rpartition("/")[2] in WRAPPERS:
                return False
        elif not arguments(given):
            return False
        if forbidden is not None and any(forbidden(item) for item in given):
            return False
        if names is not None and not all(names(name) for name in action.env):
            return False
        return rule is None or rule.cwd is None or _below(action.cwd, rule.cwd, facts.workspace)

    return test


def _resolved(action: ProcessExec, workspace: str) -> str | None:
    """Return the program as a canonical absolute path or a bare name; None for what cannot be made canonical."""
    if action.binary_path or "/" not in action.argv[0]:
        return action.target
    try:
        return canonical.path(action.argv[0], root=action.cwd or workspace)
    except ActionError:
        return None


def _in_order(patterns: Sequence[str]) -> Any:
    rest = bool(patterns) and patterns[-1] == "**"
    fixed = [compile_glob(pattern, crossing=True) for pattern in (patterns[:-1] if rest else patterns)]

    def match(given: Sequence[str]) -> bool:
        if len(given) < len(fixed) or (not rest and len(given) != len(fixed)):
            return False
        return all(matches(item) for matches, item in zip(fixed, given, strict=False))

    return match


def _restrict(entry: Any) -> Tell:
    binary = entry if isinstance(entry, str) else entry.binary
    if not isinstance(entry, str) and entry.deny_args:
        raise PatternError("deny_args narrows an allow; a deny names its arguments in args")
    whole = compile_glob(binary, crossing=True) if "/" in binary else None
    base = compile_glob(binary.rpartition("/")[2])
    wanted = [] if isinstance(entry, str) or entry.args is None else [item for item in entry.args if item != "**"]
    arguments = [compile_glob(pattern, crossing=True) for pattern in wanted]
    cwd = None if isinstance(entry, str) else entry.cwd

    def names(word: str) -> bool:
        return (whole is not None and whole(word)) or (
            base(word.rpartition("/")[2]) and (whole is None or "/" not in word)
        )

    def test(action: Action, facts: Facts) -> bool | None:
        if not isinstance(action, ProcessExec):
            return False
        words: Sequence[str] = action.argv[1:]
        programs = [action.target, action.argv[0], _resolved(action, facts.workspace) or action.argv[0]]
        if any(program.rpartition("/")[2] in WRAPPERS for program in programs):
            words = [word for item in words for word in _WORDS.findall(item)]
            if len(words) > MAX_WORDS:
                return None
            programs.extend(words)
        if not any(names(program) for program in programs):
            return False
        position = 0
        for matches in arguments:  # in order, with anything between: options may stand anywhere
            while position < len(words) and not matches(words[position]):
                position += 1
            if position == len(words):
                return False
            position += 1
        return cwd is None or _below(action.cwd, cwd, facts.workspace)

    return test


def _below(folder: str, base: str, workspace: str) -> bool | None:
    if not folder:
        return None
    try:
        root = canonical.path(base, root=workspace)
    except ActionError:
        return None
    return folder == root or folder.startswith(root.rstrip("/") + "/")
