"""Reads the text in pictures and PDF pages: implements `core.reading.MediaReader` with the package rapidocr.

Its models come inside its wheel; nothing is downloaded and nothing is sent anywhere. The bytes are decoded in a process of
their own for each picture (`worker.py`: no files, no sockets, no programs, bounded time and memory), forked from one that has
loaded the models and never sees a picture. Readings are remembered under a keyed digest, bounded, so that a conversation's
pictures are read once. Fails closed: what is not read has an `error`, which the policy takes as unreadable. Threats: a flaw in
a decoder, a bomb, a picture that takes for ever, one caller's picture seen by another's.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.util
import json
import os
import platform
import socket
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from agent_os.core.errors import AgentOSError, EffectError, MissingPartError
from agent_os.core.reading import Line, Quad, Reading
from agent_os.guards.confine.seccomp import compile_rules, reading_rules

PART_BYTES_MAX: Final = 24 * 1024 * 1024
PARTS_MAX: Final = 16
"""Pictures and documents of one action that are read; more, and those beyond it are not."""
SECONDS_MAX: Final = 60
"""For one picture or document, in its process, of the clock and of the processor; then it is ended and the part is not read."""
START_SECONDS_MAX: Final = 60.0
AT_ONCE_MAX: Final = 2
ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
KEPT_READINGS_MAX: Final = 256
LINE_CHARS_MAX: Final = 4096
CLEAR_MIN: Final = 0.6
"""A line that was read with less confidence is not clear, and is painted over."""
_PARTS: Final = ("rapidocr", "onnxruntime", "cv2", "PIL", "pypdfium2")
_WORKER: Final = str(Path(__file__).with_name("worker.py"))
_ENVIRONMENT: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def installed() -> bool:
    """Return whether every part of the extra `[ocr]` is here."""
    return all(importlib.util.find_spec(name) is not None for name in _PARTS)


class _Forking:
    """The process with the models, one for this process, started with the first picture and ended with its control socket."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.places = threading.BoundedSemaphore(AT_ONCE_MAX)

    def channel(self) -> socket.socket:
        """Return a socket to a fresh child. Raises MissingPartError, EffectError."""
        with self._lock:
            if self._control is None or self._process is None or self._process.poll() is not None:
                self._control = self._start()
            ours, theirs = socket.socketpair()
            try:
                socket.send_fds(self._control, [b"."], [theirs.fileno()])
            except OSError:
                ours.close()
                raise EffectError("the reader of pictures has ended") from None
            finally:
                theirs.close()
            return ours

    def _start(self) -> socket.socket:
        if not installed():
            raise MissingPartError("the reader of pictures", "ocr")
        if self._control is not None:
            self._control.close()
        control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", _WORKER],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=_ENVIRONMENT,
                close_fds=True,
            )
        control.settimeout(START_SECONDS_MAX)
        try:
            ready = control.recv(16)
        except TimeoutError:
            ready = b""
        if ready != b"ready":
            self._process.kill()
            self._process.wait()
            control.close()
            raise EffectError("the reader of pictures does not start")
        return control


_FORKING: Final = _Forking()


class PictureReader:
    """Reads for one session: what it remembers is nobody else's."""

    def __init__(self) -> None:
        self._key = os.urandom(32)
        self._kept: OrderedDict[bytes, Reading] = OrderedDict()
        self._filter = compile_rules(reading_rules(), platform.machine()).hex()

    async def read(self, media: Mapping[str, bytes]) -> Mapping[str, Reading]:
        """Return what stands in each part; a failure is a reading with `error` set."""
        readings: dict[str, Reading] = {}
        for number, (pointer, data) in enumerate(media.items()):
            if number >= PARTS_MAX:
                readings[pointer] = Reading(error=f"more than {PARTS_MAX} pictures and documents in one action")
                continue
            digest = self._digest(data)
            known = self._kept.get(digest)
            if known is None:
                known = await asyncio.to_thread(self._read, data)
                self._keep(digest, known)
            readings[pointer] = known
        return readings

    async def painted(self, data: bytes, places: Sequence[tuple[int, Quad]]) -> bytes:
        """Return a part's pixels alone, made anew, with places and what is not clear painted over. Raises EffectError."""
        digest = self._digest(data)
        known = self._kept.get(digest)
        if known is None:
            known = await asyncio.to_thread(self._read, data)
        unclear = [(line.page, line.place) for line in known.lines if not line.clear]
        made = await asyncio.to_thread(self._paint, data, [*places, *unclear])
        if places or unclear:
            self._keep(self._digest(made), await asyncio.to_thread(self._read, made, ours=True))  # what is left to see
        else:
            self._keep(self._digest(made), Reading(known.text, known.lines, ours=True))
        return made

    def _read(self, data: bytes, *, ours: bool = False) -> Reading:
        try:
            said, _ = _asked({"op": "read", "filter": self._filter, "seconds": SECONDS_MAX}, data)
            return _reading(said, ours=ours)
        except AgentOSError as error:
            return Reading(error=str(error))
        except (OSError, ValueError, KeyError, TypeError) as error:
            return Reading(error=f"the reader failed: {type(error).__name__}")

    def _paint(self, data: bytes, places: Sequence[tuple[int, Quad]]) -> bytes:
        polygons = [[page, [list(point) for point in quad]] for page, quad in places]
        request = {"op": "paint", "filter": self._filter, "seconds": SECONDS_MAX, "polygons": polygons}
        try:
            said, made = _asked(request, data)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EffectError(f"the picture cannot be painted over: {type(error).__name__}") from None
        if "error" in said or not made:
            raise EffectError(f"the picture cannot be painted over: {str(said.get('error', 'no answer'))[:200]}")
        return made

    def _keep(self, digest: bytes, reading: Reading) -> None:
        if reading.error:
            return  # a busy machine is not for ever
        self._kept[digest] = reading
        if len(self._kept) > KEPT_READINGS_MAX:
            self._kept.popitem(last=False)

    def _digest(self, data: bytes) -> bytes:
        return hashlib.blake2b(data, key=self._key, digest_size=24).digest()


def _asked(request: Mapping[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return a fresh process's answer to one request, and its bytes. Raises EffectError, OSError, ValueError."""
    if len(data) > PART_BYTES_MAX:
        raise EffectError(f"it has more than {PART_BYTES_MAX} bytes")
    with _FORKING.places, _FORKING.channel() as channel:
        until = time.monotonic() + SECONDS_MAX + 5
        try:
            channel.settimeout(SECONDS_MAX + 5)
            with contextlib.suppress(BrokenPipeError):
                channel.sendall(json.dumps({**request, "size": len(data)}).encode() + b"\n" + data)
            got = bytearray()
            while block := channel.recv(1 << 16):
                got += block
                if len(got) > ANSWER_BYTES_MAX:
                    raise EffectError("the reader says too much")
                channel.settimeout(max(until - time.monotonic(), 0.01))
        except (TimeoutError, ConnectionError):
            got = bytearray()
    head, newline, made = bytes(got).partition(b"\n")
    if not newline:
        raise EffectError(f"it took more than {SECONDS_MAX} s or broke its reader")
    said = json.loads(head)
    if said.get("size") != len(made):
        raise EffectError("the reader was cut off")
    return said, made


def _reading(said: Mapping[str, Any], *, ours: bool) -> Reading:
    """Return the value of an answer, every part of it checked: the process that gave it may not be ours any more."""
    if "error" in said:
        return Reading(error=str(said["error"])[:200])
    lines: list[Line] = []
    at = 0
    for item in said["lines"]:
        text = str(item["text"])[:LINE_CHARS_MAX].replace("\n", " ")
        places = tuple(_quad(quad) for quad in item["chars"])
        solid = sum(1 for char in text if char != " ")
        clear = float(item["score"]) >= CLEAR_MIN
        lines.append(
            Line(at, text, int(item["page"]), _quad(item["box"]), places if len(places) == solid else (), clear)
        )
        at += len(text) + 1
    return Reading("\n".join(line.text for line in lines), tuple(lines), ours=ours)


def _quad(value: Any) -> Quad:
    return tuple((int(x), int(y)) for x, y in value)
