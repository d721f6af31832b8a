"""An advisory classifier of prompt injection: implements `core.ports.Classifier` with the package stackone-defender.

A small model that comes inside the package's wheel and runs on this machine's processor: nothing is downloaded, nothing is
sent anywhere. What it says is a guess, and attackers move second: it can only ever add a question (`flow.classifier`).
Threat: a guess that is taken for a boundary; a classifier that hangs or fails, and lets through what it never saw.
"""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from agent_os.core.errors import EffectError, MissingPartError

NAME: Final = "stackone-defender"
_PARTS: Final = ("stackone_defender", "onnxruntime", "tokenizers", "numpy")
_THREADS: Final = ThreadPoolExecutor(1, thread_name_prefix="classifier")
"""One for the process: a model that is at work keeps later texts waiting, and their deadline with them."""


def installed() -> bool:
    """Return whether every part of the extra `[classifier]` is here."""
    return all(importlib.util.find_spec(name) is not None for name in _PARTS)


class Defender:
    """The model, loaded with the first text. `threshold` is the score from which a text is suspected."""

    name = NAME

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self._model: Any = None

    async def score(self, texts: Sequence[str]) -> float:
        """Return the highest score of some texts, from 0 to 1. Raises MissingPartError, EffectError."""
        return await asyncio.get_running_loop().run_in_executor(_THREADS, self._score, tuple(texts))

    def _score(self, texts: tuple[str, ...]) -> float:
        if self._model is None:
            self._model = _load()
        highest = 0.0
        for text in texts:
            said = self._model.classify_by_chunks(text)
            if said.get("skipped") and text.strip():
                raise EffectError("the classifier did not look at a text")
            highest = max(highest, float(said["score"]))
        return highest


def _load() -> Any:
    if not installed():
        raise MissingPartError("the injection classifier", "classifier")
    from stackone_defender.classifiers.tier2_classifier import (  # noqa: PLC0415 - seconds, and only where a policy asks
        create_tier2_classifier,
    )

    model = create_tier2_classifier()
    model.warmup()
    return model
