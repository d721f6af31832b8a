"""Every bound of the egress guard in one place; docs/limits.md says what happens at each. Pure values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * 1024

READ_HIGH_BYTES: Final = 256 * KIB
"""Unread bytes a stream holds before it stops reading from its socket (pull mode)."""
WRITE_HIGH_BYTES: Final = 256 * KIB
WRITE_LOW_BYTES: Final = 64 * KIB
SPLICE_FROM_BYTES: Final = 64 * KIB
"""A relayed piece of this size is bulk: the direction is offered to the kernel."""
METERS_MAX: Final = 65_536
"""Destinations with a byte budget of which the bytes are counted; a further one is denied."""
HELLO_BYTES_MAX: Final = 20 * KIB
"""A TLS ClientHello (post-quantum ones are about 2 KiB)."""
ADDRESSES_MAX: Final = 32
"""Addresses of one name that are judged; a name with more is refused."""
ADDRESS_FORMS_KEPT: Final = 4096
"""Hosts of which it is remembered whether they are addresses, and of which kind."""
SYNTHETIC_NAMES_MAX: Final = 4096
"""Distinct names one sandbox may look up: what a DNS exfiltration channel could carry is bounded by this."""
NAMES_LOOKED_UP_MAX: Final = 2048
"""Distinct names of one session that are asked of a resolver (labels under a wildcard carry data to its owner)."""
DNS_MESSAGE_BYTES_MAX: Final = 1232
DNS_TCP_QUERIES_MAX: Final = 64
LEAF_CONTEXTS_MAX: Final = 1024
PROCESS_CACHE_MAX: Final = 4096
ANCESTORS_MAX: Final = 32
EXECUTABLE_BYTES_MAX: Final = 1024 * MIB
FLOW_HISTORY_MAX: Final = 512
FLOW_LOG_BYTES_MAX: Final = 64 * MIB
OBSERVED_MAX: Final = 10_000
"""Distinct actions that observe mode keeps for `policy learn`."""
FOLLOW_BYTES: Final = 64 * KIB
"""Bytes of a followed body that are put together before a look, if they are there already."""
FOLLOW_HELD_BYTES: Final = 2 * MIB
"""Memory that one followed body is counted with."""
FOLLOW_QUIET_SECONDS: Final = 0.5
"""After so long without a byte what waits in a followed body goes on: it was looked at, and nothing followed."""
FOLLOW_BEGIN_SECONDS: Final = 0.5
"""How long the head of a followed text waits for its first bytes: what is found in them is still a 403."""
DENIALS_KEPT_MAX: Final = 64
"""Kinds of denials that are counted for the end of a run."""
UNTRUSTING_MAX: Final = 1024
"""Hosts as which a session's programs took no certificate of the guard's, that are remembered."""
ADMISSIONS_MAX: Final = 3
"""Times one action is judged because the policy was reloaded while its intent became durable."""
INFORMATIONAL_MAX: Final = 8
"""1xx responses before a final one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds an operator may set; seconds and bytes."""

    head_bytes: int = 16 * KIB
    """Request or response line with all fields; more is 431 (request) or 502 (response)."""
    head_seconds: float = 15.0
    """From the first byte of a head to its last (slow-loris): 408 and close."""
    handshake_seconds: float = 15.0
    connect_seconds: float = 15.0
    idle_seconds: float = 300.0
    """Without a byte in either direction: close."""
    keep_alive_seconds: float = 75.0
    """A connection between two requests: close."""
    total_seconds: float = 24 * 3600.0
    body_inspect_bytes: int = 4 * MIB
    """A request body that policy must read whole; a longer one is 413."""
    inspect_bytes_total: int = 256 * MIB
    """Bodies read whole at one time, over all connections: past it a request is refused (503)."""
    request_bytes: int = 0
    """Largest request body; 0: no limit of the guard's."""
    response_bytes: int = 0
    """Largest response body; 0: no limit of the guard's."""
    inflate_ratio: int = 200
    inflate_bytes: int = 256 * MIB
    """A compressed body may grow by this factor and to this size (archive bombs): abort."""
    message_bytes: int = 1 * MIB
    """A WebSocket message that policy must read; a longer one closes with 1009."""
    connections: int = 8192
    connections_per_agent: int = 4096
    drain_seconds: float = 10.0
    whole_seconds: float = 120.0
    """From the first to the last byte of a body that must be read whole (a slow body holds memory): refused."""
    stage_seconds: float = 5.0
    """Deadline of one content stage for one body: past it the body is refused."""
    destination_bytes: int = 0
    """Bytes up and down per agent session and destination until the guard stops; 0: no limit of the guard's."""
