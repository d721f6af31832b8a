"""The fast path of canonical JSON writes every float exactly as RFC 8785 asks."""

from __future__ import annotations

import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from agent_os.core.canonical import json_bytes


@given(
    st.floats(allow_nan=False, allow_infinity=False) | st.floats(-1e6, 1e6) | st.integers(-(10**6), 10**6).map(float)
)
def test_floats_are_written_as_the_library_writes_them(value: float) -> None:
    """Whatever path is taken, the bytes are those of the reference library."""
    assert json_bytes({"a": [value]}) == rfc8785.dumps({"a": [value]})
