"""`agentos demo`: the guided tour on real files, with neither key nor network. Shows; `runtime/demo/invoices.py` does."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

if TYPE_CHECKING:
    from agent_os.runtime.demo.agents import Step
    from agent_os.runtime.demo.invoices import Call, Tour

FOLDER: Final = "demo-output"
FOLDER_OPTION = typer.Option(None, "--folder", help=f"Where to work; default: ./{FOLDER}/<time>.")
COLOURS: Final = {"allow": "green", "ask": "yellow", "deny": "red"}
MARKS: Final = {"allow": "allow", "ask": "ask  ", "deny": "DENY "}


def demo(
    model: str | None = typer.Option(
        None, "--model", "-m", help="A LangChain model (openai:…, anthropic:…, nvidia:…); default: the scripted clerk."
    ),
    folder: Path | None = FOLDER_OPTION,
    as_json: bool = typer.Option(False, "--json", help="Print what happened as JSON."),
    show_files: bool = typer.Option(True, "--files/--no-files", help="Print the files the agent wrote."),
) -> None:
    """Watch an agent do real work on real files under a policy, while a mail in its inbox tries to hijack it."""
    from agent_os.runtime.demo.invoices import run_tour  # noqa: PLC0415

    where = folder or Path(FOLDER) / time.strftime("%Y%m%d-%H%M%S")
    if where.exists() and (not where.is_dir() or any(where.iterdir())):
        raise typer.BadParameter(f"{where} is no empty folder", param_hint="--folder")
    where.mkdir(parents=True, exist_ok=True)
    if as_json:
        tour = run_tour(where.resolve(), model=model)
        typer.echo(json.dumps(tour.to_json(), indent=2, ensure_ascii=False))
    else:
        screen = _Screen()
        screen.opening(model, where)
        tour = run_tour(where.resolve(), model=model, tell=screen.heard)
        screen.closing(tour, show_files)
    raise typer.Exit(0 if tour.held else 1)


class _Screen:
    """What the tour prints: rich on a terminal, plain text elsewhere."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415

        self._console = Console(highlight=False, soft_wrap=True)
        self._second = False
        self._wide = max(shutil.get_terminal_size((110, 30)).columns, 60)

    def line(self, text: str = "", style: str = "") -> None:
        """Print one line as it is (no markup)."""
        self._console.print(text, style=style or None, markup=False)

    def heading(self, text: str) -> None:
        """Print a heading."""
        self.line()
        self.line(text, "bold")

    def opening(self, model: str | None, where: Path) -> None:
        """Say what will happen."""
        self.line("Agent OS: the invoice desk", "bold")
        self.line(
            "An agent reads an inbox of invoices, reconciles them with a ledger, queues payments and writes a proposal.\n"
            "One mail tells it to steal customer data, run a program and pay somebody else. The policy is policy.yaml."
        )
        if model is None:
            self.line(
                "The model is SCRIPTED and HIJACKED ON PURPOSE: it obeys whatever a mail tells it. (--model: a real one.)",
                "bold yellow",
            )
        else:
            self.line(f"The model is {model}.")
        self.line(f"Working in {where}")
        self.heading("What the agent did, and the rule that decided each call")

    def heard(self, what: Call | str | Step) -> None:
        """Print one call, a step of the second part, or the agent's last words."""
        if isinstance(what, str):
            self.line(f"  agent: {what}", "italic")
            return
        from agent_os.runtime.demo.agents import Step  # noqa: PLC0415 - the runtime is loaded by then

        if isinstance(what, Step):
            self._step(what)
            return
        text = f"  {MARKS.get(what.verdict, what.verdict):5}  {what.tool:14} {what.about}"
        self.line(_cut(text, self._wide), COLOURS.get(what.verdict, ""))
        rules = ", ".join(what.rules) or "default deny: no rule allows it"
        self.line(_cut(f"         by {rules}", self._wide), "dim")
        for item in what.provenance:
            place = f"{item['argument'].lstrip('/')} comes from {_short(item['source'])}"
            self.line(_cut(f"         {place}: “{item['quote']}”", self._wide), "red")
        if what.answered_by:
            answer = "denied" if what.said else "approved"
            self.line(f"         a person must answer; this demo answers as {what.answered_by}: {answer}", "yellow")
        elif what.verdict == "deny":
            self.line(_cut(f"         the agent was told: {what.said}", self._wide), "dim")

    def closing(self, tour: Tour, show_files: bool) -> None:
        """Print files, counts, the audit's verification, the tampering and what was promised."""
        self.heading("What it wrote")
        for name, content in tour.files.items():
            self.line(f"  {tour.folder}/desk/{name}  ({len(content.encode())} bytes)")
            if show_files and name.endswith((".csv", ".md")):
                for row in content.splitlines():
                    self.line(f"    {row}", "dim")
        if tour.prompts:
            self.heading("What the model got to see")
            self.line(f"  in the mail:    {tour.prompts['in_the_mail']}")
            self.line(f"  for the model:  {tour.prompts['for_the_model']}")
            self.line(
                f"  {tour.prompts['bytes']} bytes of prompts, {tour.prompts['pseudonyms']} pseudonyms, "
                f"{tour.prompts['accounts_seen']} real bank accounts; the payments above have the real ones again"
            )
        self.heading("Decisions by kind of action (every effect inside a tool is judged as well)")
        self.line(f"  {'kind':14} {'allowed':>8} {'asked':>6} {'denied':>7}")
        for kind, count in sorted(tour.counts.items()):
            self.line(f"  {kind:14} {count['allowed']:8} {count['asked']:6} {count['denied']:7}")
        self.heading("The audit")
        good = "verifies: nothing edited, dropped, reordered, inserted or cut off"
        self.line(f"  {tour.records} records, hash-chained and signed: {good if tour.verified else 'DOES NOT VERIFY'}",
                  "green" if tour.verified else "red")  # fmt: skip
        self.line(f"  now one byte of a copy is flipped ({tour.tampered}):")
        self.line(f"  found: {tour.found or 'NOTHING'}", "green" if tour.found else "red")
        self.heading("In short")
        for what, held in tour.checks:
            self.line(f"  {'yes' if held else 'NO '}  {what}", "green" if held else "red")
        if tour.skipped:
            self.heading("Not part of this tour, because it is not installed")
            for what in tour.skipped:
                self.line(f"  {what}", "dim")
        self.heading("Next")
        state = f"{tour.folder}/state"
        command = own_command()
        self.line(f"  AGENTOS_STATE={state} {command} audit tail    every record of this run")
        self.line(f"  {command} policy check {tour.folder}/desk/policy.yaml    what the policy says")
        self.line(f"  {command} init    a policy for the folder you are in")
        self.line(f"  {command} run -- PROGRAM    any program in the sandbox")
        self.line(f"  ({tour.seconds:.1f} s)", "dim")

    def _step(self, step: Step) -> None:
        """Print a step of the second part."""
        if not self._second:
            self._second = True
            self.heading("Agents as processes: the month's close, in a worker of its own (policy: agents.yaml)")
        mark = MARKS.get(step.verdict, "     ")
        self.line(_cut(f"  {mark}  {step.who:14} {step.what}", self._wide), COLOURS.get(step.verdict, "cyan"))
        if step.by:
            self.line(_cut(f"         by {step.by}", self._wide), "dim")


def _short(source: str) -> str:
    """Return a source without the folder the tour runs in and the number of the call."""
    return source.partition("#")[0].rpartition("/desk/")[2] or source


def _cut(text: Any, width: int) -> str:
    shown = "".join(char if char.isprintable() else " " for char in str(text))
    return shown if len(shown) <= width else shown[: width - 1] + "…"


def own_command() -> str:
    """Return how this command is called from here: by its name where it is found, else by its path."""
    if shutil.which("agentos"):
        return "agentos"
    beside = Path(sys.executable).with_name("agentos")
    return str(beside) if beside.exists() else f"{sys.executable} -m agent_os"
