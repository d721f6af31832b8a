"""Every error the runtime raises, by who is at fault.

    AgentOSError
      PolicyError      the operator: syntax, type, unreachable rule; with file, line, column, hint
      ActionError      the agent: malformed or out of range; names the field
      DeniedError      a decision: denied, approval expired, budget spent; carries the Decision
      EffectError      the world: timed out, unreachable, not installed
        StoppedError       it was cut off, because its agent was halted, quarantined or killed
        MissingPartError   an optional part is not installed; carries the exact install line
        EnforcementError   this machine cannot enforce what the policy asks (exit status 5)
      IntegrityError   us, or tampering: stop; the agent loop never catches it

Messages are lower case, name ids and fields, and never hold a secret or an argument's value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_os.core.decision import Decision


class AgentOSError(Exception):
    """The root of every error this package raises on purpose."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a text something stands; line and column count from 1, 0 means unknown."""

    file: str = "<policy>"
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a policy file: what it is, where it stands and how to mend it."""

    message: str
    place: Place = Place()
    hint: str = ""
    code: str = "policy-invalid"

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class PolicyError(AgentOSError):
    """A policy text cannot be used; `problems` has every finding, in file order."""

    def __init__(self, problems: Problem | list[Problem] | str) -> None:
        if isinstance(problems, str):
            problems = Problem(problems)
        self.problems: list[Problem] = [problems] if isinstance(problems, Problem) else list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    @property
    def file(self) -> str:
        """The file of the first problem."""
        return self.problems[0].place.file

    @property
    def line(self) -> int:
        """The line of the first problem, from 1 (0: unknown)."""
        return self.problems[0].place.line

    @property
    def column(self) -> int:
        """The column of the first problem, from 1 (0: unknown)."""
        return self.problems[0].place.column

    @property
    def hint(self) -> str:
        """How to mend the first problem."""
        return self.problems[0].hint


class ActionError(AgentOSError):
    """An action is malformed or cannot be made canonical; `field` says which part."""

    def __init__(self, message: str, *, field: str = "", hint: str = "") -> None:
        self.field, self.hint = field, hint
        text = f"{field}: {message}" if field else message
        super().__init__(text + (f" ({hint})" if hint else ""))


class DeniedError(AgentOSError):
    """An action was denied; `decision` says by which rules and what would be allowed."""

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        super().__init__(decision.reason)


class EffectError(AgentOSError):
    """The world failed: an effect timed out, was unreachable or broke off."""


class StoppedError(EffectError):
    """What ran was ended because its agent was stopped: it may have happened, whole or in part."""


class MissingPartError(EffectError):
    """An optional part is not installed; `install` is the exact line that installs it."""

    def __init__(self, part: str, extra: str) -> None:
        self.part, self.extra = part, extra
        self.install = f"pip install 'agent-os-runtime[{extra}]'"
        super().__init__(f"{part} is not installed: {self.install}")


class EnforcementError(EffectError):
    """This machine cannot enforce what the policy asks; `missing` names the layers."""

    def __init__(self, missing: list[str], hint: str = "") -> None:
        self.missing, self.hint = list(missing), hint
        super().__init__(f"cannot enforce here: {', '.join(missing)}" + (f" ({hint})" if hint else ""))


class IntegrityError(AgentOSError):
    """An invariant of ours is broken or something was tampered with: stop."""
