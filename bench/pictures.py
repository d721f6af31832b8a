"""What is found in pictures, and what is not: drawn pictures of every kind, planted values, processor time a picture.

`python -m bench.pictures [--count N] [--json]`. Each picture holds four planted values (card number, IBAN, mail address, key) and
ordinary lines with numbers that are none. Recall counts values of which a finding covers every character; false alarms are findings
that touch no planted value. The pictures are made anew from their seed; decoding and reading run here, without their own process.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import random
import sys
import time
from collections.abc import Callable
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from agent_os.effects.pictures import worker
from agent_os.guards.privacy.accounts import iban_check_digits
from agent_os.guards.privacy.pictures import shapes
from agent_os.runtime.privacy import local_detector

KINDS = frozenset({"CREDIT_CARD", "IBAN_CODE", "EMAIL_ADDRESS"})
SEED = 211
Draw = Callable[[list[str], random.Random], bytes]


def _values(rng: random.Random) -> list[str]:
    body = "4" + "".join(str(rng.randrange(10)) for _ in range(14))
    total = sum(sum(divmod(int(digit) * (2 - index % 2), 10)) for index, digit in enumerate(body))
    number = body + str(-total % 10)
    account = f"{rng.randrange(10**8):08d}{rng.randrange(10**10):010d}"
    iban = f"DE{iban_check_digits('DE', account)}{account}"
    key = "ghp_" + "".join(rng.choice("ABCDEFGHJKMNPQRSTUVWXYZabcdefghjkmnpqrstuvwxyz23456789") for _ in range(36))
    return [
        " ".join(number[at : at + 4] for at in range(0, 16, 4)),
        " ".join(iban[at : at + 4] for at in range(0, 22, 4)),
        f"person{rng.randrange(100)}@corp.example",
        key,
    ]


def _lines(values: list[str], rng: random.Random) -> list[str]:
    card, iban, mail, key = values
    return [
        f"Invoice {rng.randrange(10**5)} of {rng.randrange(1, 28)} March",
        f"paid by card {card}",
        f"{rng.randrange(2, 90)} boxes at {rng.randrange(100)}.{rng.randrange(10, 99)} EUR each",
        f"account {iban}",
        f"write to {mail} please",
        "weights 12 18 22 31 and 40 kg, room 4711",
        f"key {key}",
    ]


def drawing(
    size: int = 20, *, ink: str = "black", paper: str = "white", turn: float = 0, noise: int = 0, quality: int = 0
) -> Draw:
    """Return who draws lines of letters of `size` pixels, then turns, dirties and compresses the picture."""

    def draw(lines: list[str], rng: random.Random) -> bytes:
        font = ImageFont.load_default(size)
        page = Image.new("RGB", (60 + size * 26, 40 + 2 * size * len(lines)), paper)
        for number, line in enumerate(lines):
            ImageDraw.Draw(page).text((30, 20 + number * 2 * size), line, font=font, fill=ink)
        if turn:
            page = page.rotate(turn, expand=True, fillcolor=paper, resample=Image.Resampling.BICUBIC)
        if noise:
            page = Image.blend(page, Image.effect_noise(page.size, 120).convert("RGB"), noise / 100)
        sink = io.BytesIO()
        page.save(sink, "JPEG" if quality else "PNG", **({"quality": quality} if quality else {}))
        return sink.getvalue()

    return draw


SETS: dict[str, Draw] = {
    "plain, 20 pixels": drawing(),
    "large, 40 pixels": drawing(40),
    "small, 12 pixels": drawing(12),
    "tiny, 8 pixels": drawing(8),
    "white on black": drawing(ink="white", paper="black"),
    "faint (#b0b0b0 on white)": drawing(ink="#b0b0b0"),
    "very faint (#e8e8e8 on white)": drawing(ink="#e8e8e8"),
    "turned 7 degrees": drawing(turn=7),
    "turned 45 degrees": drawing(turn=45),
    "on its side": drawing(turn=90),
    "on its head": drawing(turn=180),
    "JPEG of quality 20": drawing(quality=20),
    "noise over it (30 %)": drawing(noise=30),
}


def measure(count: int) -> dict[str, Any]:
    """Return, for every set, recall of planted values, false alarms and seconds of processor time a picture."""
    reader, detector = worker.engine(), local_detector(ner=False, names=False)
    worker.warmed(reader)
    rows: dict[str, Any] = {}
    for name, draw in SETS.items():
        rng = random.Random(SEED)
        found = false = 0
        longest = spent = 0.0
        for _ in range(count):
            values = _values(rng)
            data = draw(_lines(values, rng), rng)
            begun = time.process_time()
            lines = worker.read(reader, worker.pixels(data)[1])
            longest = max(longest, time.process_time() - begun)
            spent += time.process_time() - begun
            text = "\n".join(line["text"] for line in lines)
            items = [*asyncio.run(detector.scan({"": text})), *shapes(text, "")]
            told = {
                _solid(text[item.start : item.end])
                for item in items
                if item.type in KINDS or item.type[:7] == "SECRET_"
            }
            wanted = [_solid(value) for value in values]
            found += sum(any(value in one for one in told) for value in wanted)
            false += sum(not any(_near(one, value) for value in wanted) for one in told)
        rows[name] = {
            "recall": round(found / (4 * count), 2), "false alarms": false,
            "seconds": round(spent / count, 2), "most": round(longest, 2),
        }  # fmt: skip
        print(f"{name:32}", "  ".join(f"{key} {value}" for key, value in rows[name].items()), file=sys.stderr)
    return rows


def _solid(text: str) -> str:
    return "".join(text.split())


def _near(one: str, value: str) -> bool:
    return any(value[at : at + 5] in one for at in range(0, len(value) - 4))


def main() -> None:
    """Print the table, a row as it comes; with `--json` all of it at the end."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, default=6)
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    rows = measure(chosen.count)
    if chosen.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
