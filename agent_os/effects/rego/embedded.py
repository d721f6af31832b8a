"""Rego modules evaluated beside this process: a worker that can be killed, one for all layers of a policy.

Every evaluation has a budget; a worker that misses it, dies or answers nonsense is killed and started again for the
next one, and the action at hand gets a failure, which denies. Modules are refused before they are ever evaluated when
their syntax trees show recursion or builtins that are not known good (guards/rego_modules.py). Threat: a module or an input that
crashes, stalls or exhausts the engine, and a late answer that is taken for the answer to another question.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from agent_os.core.errors import EffectError, MissingPartError, Problem
from agent_os.core.facts import ExternalVerdict
from agent_os.core.ports import Clock
from agent_os.guards.rego import RegoLayer, failed, verdict_of
from agent_os.guards.rego_modules import MAX_MODULE_CHARS, defined_rules, module_problems

START_S: Final = 5.0
"""Longest time a worker may take to start and load its modules."""
WAIT_S: Final = 1.0
"""Longest wait for the evaluations of other actions."""
ANSWER_BYTES_MAX: Final = 1 << 20
TREE_BYTES_MAX: Final = 64 << 20
STARTS_MAX: Final = 10
"""Starts of a worker within STARTS_WINDOW_S; more, and every evaluation fails until the window has passed."""
STARTS_WINDOW_S: Final = 60.0
_WORKER: Final = str(Path(__file__).with_name("worker.py"))


class EmbeddedRego:
    """The layers of a policy that are evaluated in process (beside it, in truth)."""

    def __init__(self, layers: Sequence[RegoLayer], clock: Clock) -> None:
        self._layers = list(layers)
        self._clock = clock
        self._process: asyncio.subprocess.Process | None = None
        self._start: asyncio.Future[None] | None = None
        self._closed = False
        self._lock = asyncio.Lock()
        self._starts: deque[float] = deque()
        self._refused: dict[int, str] = {}
        self._defines: dict[int, frozenset[str]] = {}
        self.problems: list[Problem] = []

    async def check(self) -> list[Problem]:
        """Load every module and return what refuses it; layers with problems fail every evaluation.

        Raises MissingPartError when the engine is not installed, EffectError when no worker can be started.
        """
        async with self._lock:
            await self._started()
        return self.problems

    async def evaluate(self, layer: RegoLayer, text: str) -> ExternalVerdict:
        """Return a layer's verdict on an action given as JSON text. Never raises, but for cancellation."""
        if layer.missing:
            return failed(layer, layer.missing)
        if problem := layer.distorts(text):
            return failed(layer, problem)
        try:
            async with asyncio.timeout(WAIT_S):
                await self._lock.acquire()
        except TimeoutError:
            return failed(layer, "too many evaluations are waiting")
        try:
            await self._started()
            if layer.number in self._refused:
                return failed(layer, self._refused[layer.number])
            defines = self._defines[layer.number]
            message = {"op": "evaluate", "layer": str(layer.number), "package": layer.package, "rules": sorted(defines)}
            answer = await self._ask(message, text, timeout_s=layer.timeout_s, most=ANSWER_BYTES_MAX)
        except TimeoutError:
            return failed(layer, f"took longer than {layer.timeout_s * 1000:.0f} ms")
        except EffectError as error:
            return failed(layer, str(error))
        finally:
            self._lock.release()
        if "error" in answer:
            return failed(layer, f"evaluation failed: {str(answer['error'])[:200]}")
        return verdict_of(layer, answer.get("answer"), defines=defines)

    async def _started(self) -> None:
        """Wait for a worker with its modules. A start goes on when who waits for it goes away: the next one needs it."""
        if self._closed:
            raise EffectError("the Rego engines are closed")
        alive = self._process is not None and self._process.returncode is None
        if self._start is None or (self._start.done() and not alive):
            self._start = asyncio.ensure_future(self._restart())
            self._start.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.shield(self._start)

    async def _restart(self) -> None:
        if importlib.util.find_spec("regorus") is None:
            raise MissingPartError("the embedded Rego engine", "rego")
        now = self._clock.monotonic()
        while self._starts and now - self._starts[0] > STARTS_WINDOW_S:
            self._starts.popleft()
        if len(self._starts) >= STARTS_MAX:
            raise EffectError("the Rego worker died too often")
        self._starts.append(now)
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            _WORKER,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={},
            limit=TREE_BYTES_MAX,
        )
        await self._load()

    async def _load(self) -> None:
        """Load the layers one by one into a fresh worker, so that one broken module does not take the others along."""
        self._refused, self._defines, self.problems = {}, {}, []
        good: list[RegoLayer] = []
        for layer in self._layers:
            problems = await self._examine(layer)
            if problems:
                self.problems += problems
                self._refused[layer.number] = f"refused: {problems[0].message}"[:200]
            else:
                good.append(layer)
        answer = await self._ask(
            {"op": "load", "layers": [_form(layer) for layer in good]}, None, START_S, TREE_BYTES_MAX
        )
        if "error" in answer:
            raise EffectError(f"the modules do not load together: {str(answer['error'])[:200]}")

    async def _examine(self, layer: RegoLayer) -> list[Problem]:
        if layer.missing:
            return [Problem(layer.missing, code="rego-missing")]
        if sum(len(text) for _, text in layer.modules) > MAX_MODULE_CHARS:
            return [Problem(f"{layer.engine}: modules are longer than {MAX_MODULE_CHARS} characters", code="rego-size")]
        answer = await self._ask({"op": "load", "layers": [_form(layer)]}, None, START_S, TREE_BYTES_MAX)
        if "error" in answer:
            return [Problem(f"{layer.engine}: {_first_line(str(answer['error']))}", code="rego-syntax")]
        trees = answer["trees"][str(layer.number)]
        self._defines[layer.number] = defined_rules(trees, layer.package)
        return await asyncio.to_thread(module_problems, trees, layer.package)

    async def _ask(
        self, message: Mapping[str, Any], text: str | None, timeout_s: float, most: int
    ) -> Mapping[str, Any]:
        """Send one message and return its answer; whatever goes wrong ends the worker, so that no answer comes late."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise EffectError("the Rego worker is not running")
        try:
            process.stdin.write(
                json.dumps(message).encode() + b"\n" + (text.encode() + b"\n" if text is not None else b"")
            )
            async with asyncio.timeout(timeout_s):
                await process.stdin.drain()
                line = await process.stdout.readline()
            if not line.endswith(b"\n") or len(line) > most:
                raise EffectError("the Rego worker died")
            answer = json.loads(line)
        except TimeoutError:
            await self._kill()
            raise
        except (OSError, ValueError, EffectError) as error:
            await self._kill()
            raise error if isinstance(error, EffectError) else EffectError("the Rego worker died") from None
        except BaseException:  # cancelled while an answer is on its way: it must not be read as the next one
            await asyncio.shield(self._kill())
            raise
        if not isinstance(answer, dict):
            await self._kill()
            raise EffectError("the Rego worker answered nonsense")
        return answer

    async def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def aclose(self) -> None:
        """End the worker; every evaluation after this fails."""
        self._closed = True
        if self._start is not None and not self._start.done():
            self._start.cancel()
            await asyncio.wait([self._start])
        async with self._lock:
            await self._kill()


def _form(layer: RegoLayer) -> dict[str, Any]:
    return {
        "layer": str(layer.number),
        "package": layer.package,
        "modules": [list(module) for module in layer.modules],
        "data": dict(layer.data),
    }


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines)[:300] or "cannot be parsed"
