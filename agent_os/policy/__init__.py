"""Policies: parse, compile, decide. Pure: no clock, no I/O; files and packs are read by the runtime.

`import agent_os.policy` stays light: pydantic and YAML are imported by the first `Policy.parse`.
"""

from agent_os.policy.engine import decide
from agent_os.policy.policy import Policy

parse = Policy.parse

__all__ = ["Policy", "decide", "parse"]
