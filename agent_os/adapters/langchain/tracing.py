"""Keeps LangChain's tracing from sending prompts and results away.

LangSmith's tracer is switched on by an environment variable and exports raw prompts, arguments and results from inside
the callback machinery, beside every guard. While a session governs a process, tracing is off in that process.
"""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import BaseCallbackManager
from langchain_core.tracers.langchain import LangChainTracer


def silence_tracing() -> None:
    """Switch LangSmith tracing off for this process, whatever the environment says."""
    from langsmith import run_trees  # noqa: PLC0415

    run_trees.configure(enabled=False)


def without_tracers(callbacks: Any) -> Any:
    """Return callbacks (a list, a manager or None) without LangSmith tracers."""
    if isinstance(callbacks, BaseCallbackManager):
        if not any(isinstance(handler, LangChainTracer) for handler in callbacks.handlers):
            return callbacks
        kept = callbacks.copy()
        kept.handlers = [handler for handler in kept.handlers if not isinstance(handler, LangChainTracer)]
        kept.inheritable_handlers = [
            handler for handler in kept.inheritable_handlers if not isinstance(handler, LangChainTracer)
        ]
        return kept
    if isinstance(callbacks, list):
        return [handler for handler in callbacks if not isinstance(handler, LangChainTracer)]
    return callbacks
