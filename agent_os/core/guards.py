"""What the guards of one session are to its monitor, as protocols: the privacy router, the flow guard, a classifier.

`agent_os/guards/` implements the first two; a classifier is the application's. A guard that fails denies (fail closed).
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

from agent_os.core.action import Action
from agent_os.core.decision import Obligation
from agent_os.core.facts import Finding
from agent_os.core.label import Label
from agent_os.core.ports import Outcome


class TextRestorer(Protocol):
    """Puts originals back into one stream of text, cut anywhere."""

    def feed(self, chunk: str) -> str:
        """Return what may be shown after this chunk."""
        ...

    def finish(self) -> str:
        """Return what was held back; the stream ends."""
        ...


class PrivacyRouter(Protocol):
    """Rewrites what leaves and restores what comes back, for one session."""

    def texts(self, action: Action) -> Mapping[str, str]:
        """Return the texts of an action to be scanned, by RFC 6901 pointer into its arguments."""
        ...

    def before(self, action: Action) -> Mapping[str, str]:
        """Return what the session's last call of the same kind to the same place held, by pointer; empty for the first."""
        ...

    def rewrite(self, action: Action, findings: Sequence[Finding], obligations: Sequence[Obligation]) -> Action:
        """Return the action with the obligations carried out; raises EffectError where it cannot."""
        ...

    def restore(self, value: Any, action: Action) -> Any:
        """Return a value that comes back from an action with originals put back where they are allowed."""
        ...

    def stream(self, *, escape: str = "none") -> TextRestorer:
        """Return a restorer for one stream that comes back (`json`: the partial arguments of a tool call)."""
        ...


@runtime_checkable
class Classifier(Protocol):
    """Says how much texts look like orders to the agent. A guess: what it says can only restrict."""

    @property
    def name(self) -> str: ...

    @property
    def threshold(self) -> float:
        """The score from which a text is suspected."""
        ...

    async def score(self, texts: Sequence[str]) -> float:
        """Return the highest score of some texts, from 0 to 1; whatever it raises counts as suspicion."""
        ...


class FlowGuard(Protocol):
    """Keeps labels and provenance of one session and judges the arguments of an action.

    Order of calls: `prompt` for each message of the user; for each action `facts` before `decide`, then, only if it was
    carried out, `observing` to its end. What an action returned is known to later actions and to no earlier one.
    """

    @property
    def context(self) -> Label:
        """The join of everything the agent has read."""
        ...

    def distrust(self) -> None:
        """Let everything but the prompt count as tainted from here on: what was read elsewhere is not known here."""
        ...

    def prompt(self, text: str) -> None:
        """Take a message of the user: trusted text. The effects it asks for are the scope of the session."""
        ...

    @property
    def prompts(self) -> tuple[str, ...]:
        """The messages of the user, oldest first."""
        ...

    @property
    def task(self) -> str:
        """The last of them, or nothing."""
        ...

    def untrusted(self, text: str, source: str) -> None:
        """Take text that reaches the model beside the results of actions (a memory, a tool's description, a file name)."""
        ...

    def examined(self, action: Action, outcome: Outcome) -> Mapping[str, str] | None:
        """Return the texts of an outcome by RFC 6901 pointer, for detectors; None: more than they may be given."""
        ...

    def observing(
        self, action: Action, outcome: Outcome, found: Sequence[Any] | None = ()
    ) -> Generator[None, None, Outcome]:
        """Take the outcome of an action that was carried out, in pieces; the value is the outcome with its labels, per JSON
        leaf. `found` is what detectors found in the `examined` texts (`guards/flow/found.py`); None: nobody could look.
        """
        ...

    @property
    def busy(self) -> bool:
        """Whether an outcome is being taken: what is judged now would not know all of it."""
        ...

    def recall(self, action: Action, outcome: Outcome) -> None:
        """Take a recorded outcome that is returned again without its effect: what was read then has been read."""
        ...

    def begin_handles(self, number: int) -> None:
        """Number what is handed out by reference from here on, so that another session's handles mean nothing here."""
        ...

    def resolve(self, action: Action) -> Action:
        """Return the action with the handles among its arguments filled in, before it is judged. Raises ActionError."""
        ...

    def inside(self, action: Action, *, warned: bool = False) -> AbstractContextManager[None]:
        """Mark what happens in here as a tool's own doing; `warned`: a rule had something against it and only recorded it."""
        ...

    def facts(self, action: Action) -> tuple[Mapping[str, Label], Label, tuple[Any, ...]]:
        """Return labels of the arguments by RFC 6901 pointer, the join of the context, and FlowConcern values."""
        ...

    @property
    def watched(self) -> tuple[str, ...]:
        """Folders and files, absolute, in which a program's changes are to be told to this guard."""
        ...

    def programs_wrote(self, paths: Sequence[str] | None) -> None:
        """Take which files a program changed; None: nobody can say. Raises EffectError when it cannot be kept."""
        ...

    def unlooked(self, action: Action, outcome: Outcome) -> Sequence[str]:
        """Return the texts of an outcome that an advisory classifier should look at: untrusted ones that are now read."""
        ...

    def suspect(self, action: Action, why: str) -> None:
        """Take a classifier's suspicion of what an action returned: later effects are a concern."""
        ...

    def answer(self, text: str) -> tuple[Any, ...]:
        """Return the FlowConcern values of what the agent says to its user."""
        ...

    def child(self, task: str) -> FlowGuard:
        """Return the guard of a sub-agent: it knows what this one knows, and its scope lies within this one's."""
        ...
