"""`core/tool_identity.py`: a callable's bytes change with its code, through whatever wraps it."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest

from agent_os.core.tool_identity import code_of


def _made(inner: str) -> Callable[[], str]:
    """Return a function whose inner function answers `inner`, compiled from text so that only this differs."""
    space: dict[str, Callable[[], str]] = {}
    exec(f"def outer():\n    def answer():\n        return {inner!r}\n    return answer()", space)
    return space["outer"]


def _wrapped(made: Callable[[], str]) -> Callable[[], str]:
    @functools.wraps(made)
    def run() -> str:
        return made()

    return run


class _Callable:
    def __init__(self, run: Callable[[], str]) -> None:
        self._run = run

    def __call__(self) -> str:
        return self._run()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda made: made,
        functools.partial,
        _wrapped,
        lambda made: functools.partial(_wrapped(made)),
    ],
    ids=["plain", "partial", "wrapped", "partial of wrapped"],
)
def test_a_constant_deep_inside_makes_another_tool(wrap: Callable[[Callable[[], str]], Callable[[], str]]) -> None:
    """Code that answers otherwise is other code; the same code, compiled again, is the same."""
    assert code_of(wrap(_made("a"))) == code_of(wrap(_made("a")))
    assert code_of(wrap(_made("a"))) != code_of(wrap(_made("b")))


def test_an_object_that_is_called_is_known_by_its_class() -> None:
    """A callable object is told from another class's by what calling it does."""

    class Other(_Callable):
        def __call__(self) -> str:
            return "always"

    assert code_of(_Callable(_made("a"))) == code_of(_Callable(_made("b")))
    assert code_of(_Callable(_made("a"))) != code_of(Other(_made("a")))
