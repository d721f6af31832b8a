"""Language models on this machine: llama.cpp through `xllamacpp`, weights from the models folder of the state directory.

Nothing leaves the process. The engine opens a loopback port of its own, so it gets a random key that nobody is told.
Threats: weights that somebody swapped (those the runtime fetches are pinned by hash), a name that climbs out of the folder,
a prompt that keeps the machine busy for ever (one call at a time, answers bounded, a deadline after which nobody waits).
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from agent_os.core.errors import EffectError, MissingPartError

CONTEXT_TOKENS: Final = 4096
ANSWER_TOKENS_MAX: Final = 1024
THREADS_MAX: Final = 8
WAITING_MAX: Final = 32
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class LocalModels:
    """Engines by model name, loaded when first asked; one call at a time each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._engines: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._turns: dict[tuple[asyncio.AbstractEventLoop, str], asyncio.Lock] = {}
        self._waiting = 0

    def names(self) -> list[str]:
        """Return the models whose weights are here."""
        return sorted(path.stem for path in self._folder.glob("*.gguf")) if self._folder.is_dir() else []

    async def answer(self, model: str, body: Mapping[str, Any]) -> Any:
        """Return a chat completion. Raises MissingPartError, EffectError."""
        async with self._turn(model):
            return await asyncio.to_thread(self._run, model, _bounded(body), None)

    async def stream(self, model: str, body: Mapping[str, Any]) -> AsyncIterator[str]:
        """Yield the chunks of a chat completion as JSON texts."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        left = threading.Event()

        def heard(chunk: Any) -> bool:
            for each in chunk if isinstance(chunk, list) else [chunk]:
                loop.call_soon_threadsafe(pieces.put_nowait, json.dumps(each))
            return left.is_set()  # true ends the answer: nobody listens any more

        async with self._turn(model):
            work = asyncio.ensure_future(asyncio.to_thread(self._run, model, {**_bounded(body), "stream": True}, heard))
            work.add_done_callback(lambda _: pieces.put_nowait(None))
            try:
                while (piece := await pieces.get()) is not None:
                    yield piece
                await work
            finally:
                left.set()

    @asynccontextmanager
    async def _turn(self, model: str) -> AsyncIterator[None]:
        """Wait for this model's turn; a call too many is refused at once."""
        if self._waiting >= WAITING_MAX:
            raise EffectError("too many calls wait for the local model")
        self._waiting += 1
        try:
            async with self._turns.setdefault((asyncio.get_running_loop(), model), asyncio.Lock()):
                yield
        finally:
            self._waiting -= 1

    def _run(self, model: str, body: Mapping[str, Any], heard: Callable[[Any], bool] | None) -> Any:
        engine = self._engine(model)
        try:
            return (
                engine.handle_chat_completions(dict(body), heard)
                if heard
                else engine.handle_chat_completions(dict(body))
            )
        except (ValueError, RuntimeError):
            raise EffectError("the local model refused the request") from None

    def _engine(self, model: str) -> Any:
        with self._lock:
            engine = self._engines.get(model)
            if engine is None:
                engine = self._engines[model] = _load(self.weights(model))
            return engine

    def weights(self, model: str) -> Path:
        """Return the file of a model's weights. Raises EffectError naming how to get them."""
        if not _NAME.fullmatch(model):
            raise EffectError("the name of a local model is letters, digits, dots and dashes")
        path = self._folder / f"{model}.gguf"
        if not path.is_file():
            raise EffectError(f"the weights of {model!r} are not here: agentos models pull {model}")
        return path


def installed() -> bool:
    """Return whether the engine is installed."""
    return importlib.util.find_spec("xllamacpp") is not None


def _load(path: Path) -> Any:
    if not installed():
        raise MissingPartError("the engine of local models", "local")
    import xllamacpp  # noqa: PLC0415

    settings = xllamacpp.CommonParams()
    settings.model.path = str(path)
    settings.n_ctx = CONTEXT_TOKENS
    settings.n_parallel = 1
    settings.cpuparams.n_threads = max(1, min((os.cpu_count() or 1) // 2, THREADS_MAX))  # threads of it wait spinning
    settings.warmup = False
    settings.verbosity = -1
    settings.endpoint_slots = False
    settings.ui = False
    settings.api_keys = [secrets.token_urlsafe(32)]
    try:
        return xllamacpp.Server(settings)
    except (RuntimeError, ValueError):
        raise EffectError(f"the weights cannot be loaded: {path.name}") from None


def _bounded(body: Mapping[str, Any]) -> dict[str, Any]:
    most = body.get("max_tokens") or ANSWER_TOKENS_MAX
    return {**body, "max_tokens": min(int(most), ANSWER_TOKENS_MAX)}
