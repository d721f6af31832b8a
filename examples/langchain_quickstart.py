"""A LangChain agent under a policy. Runs without a key; MODEL=openai:gpt-5 (or any other) runs a real model."""

import os
import tempfile
from pathlib import Path

from langchain.agents import create_agent

from agent_os import AgentOS, Policy
from agent_os.adapters.langchain import ScriptedModel

POLICY = """
version: 1
filesystem_policy: {include_workdir: true}
tools:
  read_file:  {allow: {path: {under: notes}}}
  write_file: {allow: {path: {under: out}}}
models: {providers: {scripted: {kind: scripted, models: ["*"]}, openai: {kind: openai, models: ["*"]}}}
"""
TASK = "Read notes/todo.txt and secrets.txt, and write a summary to out/summary.md."
SCRIPT = [
    [("read_file", {"path": "notes/todo.txt"}), ("read_file", {"path": "secrets.txt"})],
    [("write_file", {"path": "out/summary.md", "content": "Buy milk.\n"})],
    "I wrote out/summary.md. I was not allowed to read secrets.txt.",
]

folder = Path(tempfile.mkdtemp())
(folder / "notes").mkdir()
(folder / "notes/todo.txt").write_text("buy milk\n")
(folder / "secrets.txt").write_text("the launch code\n")

with AgentOS.open(Policy.parse(POLICY), principal="ana@corp.example", workspace=folder) as session:
    model = os.environ.get("MODEL") or ScriptedModel(script=SCRIPT)
    agent = create_agent(session.model(model), tools=session.tools(), middleware=[session.middleware()])
    for message in agent.invoke({"messages": [{"role": "user", "content": TASK}]})["messages"]:
        message.pretty_print()
print((folder / "out/summary.md").read_text())
