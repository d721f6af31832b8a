"""Text in pictures and PDFs: read in a process of its own, judged like any text, painted over, sent as pixels alone."""

from __future__ import annotations

import asyncio
import base64
import io
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from PIL import Image, ImageDraw, ImageFont

from agent_os import DeniedError
from agent_os.core.reading import Reading
from agent_os.effects.pictures import reader as reading
from agent_os.effects.pictures import worker
from agent_os.effects.pictures.reader import PictureReader
from agent_os.guards.confine.seccomp import compile_rules, reading_rules
from tests.unit.adapters.langchain.sessions import session
from tests.unit.adapters.langchain.test_media import WORDS, Seer

POLICY = """
models: {providers: {seer: {kind: langchain, models: ['*'], destination: external}}}
privacy:
  names: lists
  read: [pictures, documents]
  rules:
    - {find: [EMAIL_ADDRESS, CREDIT_CARD, IBAN_CODE], to: external, do: redact}
    - {find: [SECRET], to: any, do: deny}
"""
READER = PictureReader()


def drawn(*lines: str, kind: str = "PNG", turn: int = 0, **options: Any) -> bytes:
    """Return a picture of some lines of text."""
    page = Image.new("RGB", (560, 40 + 40 * len(lines)), "white")
    for number, line in enumerate(lines):
        ImageDraw.Draw(page).text((20, 15 + number * 40), line, font=ImageFont.load_default(22), fill="black")
    sink = io.BytesIO()
    page.rotate(turn, expand=True).save(sink, kind, **options)
    return sink.getvalue()


def read(data: bytes) -> Reading:
    """Return what a picture says."""
    return asyncio.run(READER.read({"": data}))[""]


def part(data: bytes, kind: str) -> dict[str, Any]:
    """Return LangChain's block for some bytes."""
    if kind == "PDF":
        return {"type": "file", "base64": base64.b64encode(data).decode(), "mime_type": "application/pdf"}
    return {"type": "image", "base64": base64.b64encode(data).decode(), "mime_type": f"image/{kind.lower()}"}


def sent(folder: Path, data: bytes, kind: str = "PNG", policy: str = POLICY) -> bytes:
    """Return the bytes a model saw of a picture. Raises DeniedError."""
    with session(folder, "{}", policy) as system:
        inner = Seer(seen=[])
        system.model(inner).invoke([HumanMessage([WORDS, part(data, kind)])])
        return base64.b64decode(inner.seen[0][1]["base64"])


@pytest.mark.parametrize("kind", ["PNG", "PDF"])
def test_what_may_not_leave_is_painted_over_and_the_rest_goes(tmp_path: Path, kind: str) -> None:
    """The card number is gone from the pixels, the words around it are there."""
    lines = ("Invoice 2291 of March", "Card 4539 1488 0343 6467, thank you")
    went = sent(tmp_path, drawn(*lines, kind=kind), kind)
    said = read(went).text
    assert "Invoice 2291" in said and "thank you" in said and "6467" not in said and "4539" not in said
    assert went[:4] == (b"%PDF" if kind == "PDF" else b"\x89PNG")


def test_a_picture_without_findings_goes_as_pixels_alone(tmp_path: Path) -> None:
    """ATTACK: data in the metadata and behind the picture's end stays here; the picture itself looks the same."""
    tagged = Image.Exif()
    tagged[0x010E] = "IBAN DE89370400440532013000"
    picture = drawn("Sales by quarter", kind="JPEG", exif=tagged) + b"PK\x03\x04 ada@corp.example"
    went = sent(tmp_path, picture, "JPEG")
    assert b"DE8937" in picture and b"DE8937" not in went and b"ada@" not in went
    before, after = Image.open(io.BytesIO(picture)), Image.open(io.BytesIO(went))
    assert before.size == after.size and after.format == "JPEG" and read(went).text == "Sales by quarter"


def test_a_secret_in_a_picture_is_denied_with_its_kind(tmp_path: Path) -> None:
    """A rule that denies sees what a picture says, lying on its side too; nothing reaches the model."""
    with pytest.raises(DeniedError, match="SECRET_AWS_ACCESS_KEY found"):
        sent(tmp_path, drawn("the key is", "AKIAIOSFODNN7EXAMQLE", turn=90))


def test_a_number_read_with_one_wrong_digit_is_painted_over_too(tmp_path: Path) -> None:
    """In a picture the form of a card number or IBAN counts: its check digit may have been misread. A short number stays."""
    went = sent(tmp_path, drawn("Card 4539 1488 0343 6468", "IBAN DE88 3704 0044 0532 0130 00", "Order 22917"))
    said = read(went).text
    assert "1488" not in said and "0532" not in said and "Order 22917" in said


HOSTILE = {
    "too many pixels": (
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\xff\xff\x00\x00\xff\xff\x08\x02\x00\x00\x00" + bytes(64),
        "more than 40000000 pixels|no whole",
    ),
    "cut off": (drawn("Sales")[:-200], "no whole PNG"),
    "several frames": (
        drawn("Sales", kind="GIF", save_all=True, append_images=[Image.new("RGB", (560, 80))]),
        "more than one frame",
    ),
    "a vector picture": (b"<svg xmlns='http://www.w3.org/2000/svg'><text>ada@corp.example</text></svg>", "no whole"),
    "another format": (drawn("Sales", kind="BMP"), "no whole"),
    "a broken PDF": (b"%PDF-1.7 nothing", "no whole PDF"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_not_read_is_denied_with_the_reason(name: str) -> None:
    """ATTACK: bombs, cut, animated and unknown pictures; the reader says why, and goes on reading others."""
    data, why = HOSTILE[name]
    assert re.search(why, read(data).error)
    assert read(drawn("Sales")).text == "Sales"


def test_without_the_extra_it_is_denied_with_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A policy that lets pictures be read opens nothing where nobody can."""
    monkeypatch.setattr(reading, "_FORKING", reading._Forking())
    monkeypatch.setattr(reading, "installed", lambda: False)
    with pytest.raises(DeniedError, match=r"agent-os-runtime\[ocr\]"):
        sent(tmp_path, drawn("Sales"))


def test_a_picture_that_takes_too_long_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """ATTACK: the kernel ends its process; nobody waits."""
    monkeypatch.setattr(reading, "SECONDS_MAX", 1)
    noise = Image.effect_noise((2000, 2000), 90)
    sink = io.BytesIO()
    noise.save(sink, "PNG")
    assert "took more than 1 s" in read(sink.getvalue()).error


def test_the_process_that_decodes_can_open_start_and_reach_nothing() -> None:
    """ATTACK: a flaw in a decoder: no file, no socket, no program, no more time; what it was given still works."""
    tries = {
        "open('/etc/hostname')": "PermissionError", "socket.socket()": "PermissionError", "os.fork()": "PermissionError",
        "os.execv('/bin/true', ['true'])": "PermissionError", "os.unlink('/tmp/none')": "PermissionError",
        "signal.setitimer(signal.ITIMER_REAL, 99)": "itimer_error", "os.write(1, b'')": "none",
    }  # fmt: skip
    program = "import os, socket, signal, sys; sys.path.insert(0, sys.argv[1]); import worker\n"
    program += "worker.confine(bytes.fromhex(sys.argv[2]), 20)\n"
    for code in tries:
        program += f"try:\n    {code}\n    print('none')\nexcept Exception as error:\n    print(type(error).__name__)\n"
    rules = compile_rules(reading_rules(), platform.machine()).hex()
    where = str(Path(worker.__file__).parent)
    run = subprocess.run(
        [sys.executable, "-I", "-c", program, where, rules], capture_output=True, text=True, timeout=60
    )
    said = run.stdout.split()
    assert len(said) == len(tries), run.stderr
    assert all(name in wanted.split("|") for name, wanted in zip(said, tries.values(), strict=True)), said
