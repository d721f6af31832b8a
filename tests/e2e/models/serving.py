"""A gateway served in a thread of its own, so that unmodified synchronous clients can talk to it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent_os import Policy
from agent_os.runtime.audit import open_audit
from agent_os.runtime.serving.start import Serving, start_serving


@contextmanager
def serving(folder: Path, text: str, **options: Any) -> Iterator[Serving]:
    """Serve the gateway of a policy on a free port; options are those of `start_serving`."""
    workspace = folder / "ws"
    workspace.mkdir(exist_ok=True)
    policy = Policy.parse(text)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    opened = asyncio.run_coroutine_threadsafe(
        start_serving(
            policy, principal="ana@corp.example", workspace=workspace, state=folder / "state", port=0, **options
        ),
        loop,
    ).result(20)
    try:
        yield opened
    finally:
        asyncio.run_coroutine_threadsafe(opened.aclose(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def records(folder: Path, kind: str) -> list[Mapping[str, Any]]:
    """Return the audit's records of one type."""
    reader = open_audit(environment={"AGENTOS_STATE": str(folder / "state")})
    return [record for record in reader.records() if record["type"] == kind]
