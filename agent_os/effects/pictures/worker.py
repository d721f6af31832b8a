"""The program that reads pictures: started once, it loads the reading models and forks one child for every picture.

It imports nothing of this project. The first process never touches a byte of a picture; each child takes exactly one
request from a socket of its own and ends, so whatever a picture does to a decoder (a flaw, a loop, a huge allocation) meets a
process that has seen no other picture, opens no file, makes no socket, starts nothing, and is ended by the kernel when it is
late. Requests: a line of JSON with the size of the picture's bytes, then the bytes; answers alike.

`read` answers the lines of text with the place of every character; `paint` answers the picture's pixels alone, made anew
(no metadata, no hidden layers, nothing behind its end, at most SIDE_MAX pixels a side), with polygons painted black.
"""

from __future__ import annotations

import ctypes
import io
import json
import os
import resource
import signal
import socket
import struct
from typing import Any

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
PIXELS_MAX = 40_000_000
"""A picture says its size before anything is unpacked; a larger one is not."""
SIDE_MAX = 2000
"""Pixels of the longer side of what is read and of what goes on."""
SIDE_MIN = 720
"""Smaller pictures are read enlarged: models read smaller letters than this reader."""
PAGES_MAX = 12
PAGE_SCALE = 2.0
"""Pages of documents are drawn with 144 dots an inch."""
LINES_MAX = 4000
CLEAR_MIN = 0.85
"""A line that was read with less confidence may be turned, or is not clear."""
TURNED_SHARE = 0.5
DATA_BYTES_MAX = 3 << 30
REQUEST_BYTES_MAX = 64 << 20
_PR_SET_DUMPABLE, _PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 4, 1, 38, 22


class UnreadError(Exception):
    """The picture is not read; the message says why, and holds nothing of it."""


# ---- pixels ---------------------------------------------------------------------------------------------------------


def pixels(data: bytes) -> tuple[str, list[Any]]:
    """Return the format and the pages of a picture or document as plain pixels, flattened on white, bounded."""
    if b"%PDF-" in data[:1024]:
        return "PDF", _pages(data)
    from PIL import Image, ImageOps  # noqa: PLC0415

    Image.MAX_IMAGE_PIXELS = PIXELS_MAX
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        if image.width * image.height > PIXELS_MAX:
            raise UnreadError(f"it has more than {PIXELS_MAX} pixels")
        if getattr(image, "n_frames", 1) > 1:
            raise UnreadError("it has more than one frame")
        kind = str(image.format)
        image.load()
        return kind, [_bounded(_flat(ImageOps.exif_transpose(image)))]
    except UnreadError:
        raise
    except Image.DecompressionBombError:
        raise UnreadError(f"it has more than {PIXELS_MAX} pixels") from None
    except Exception:
        raise UnreadError(f"it is no whole {', '.join(FORMATS)} or PDF") from None


def _flat(image: Any) -> Any:
    from PIL import Image  # noqa: PLC0415

    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(ground, image).convert("RGB")
    if image.mode.startswith(("I", "F")):  # 16 bits and more a pixel
        low, high = image.getextrema()
        image = image.point(lambda value: (value - low) * (255.0 / max(high - low, 1)), "F") if high > 255 else image
        return image.convert("L").convert("RGB")
    return image.convert("RGB")


def _bounded(image: Any) -> Any:
    if max(image.size) > SIDE_MAX:
        image.thumbnail((SIDE_MAX, SIDE_MAX))
    return image


def _pages(data: bytes) -> list[Any]:
    import pypdfium2  # noqa: PLC0415

    try:
        document = pypdfium2.PdfDocument(data)
        count = len(document)
    except Exception:
        raise UnreadError("it is no whole PDF, or encrypted") from None
    if not 0 < count <= PAGES_MAX:
        raise UnreadError(f"it has more than {PAGES_MAX} pages, or none")
    document.init_forms()  # what was filled in is seen too
    pages = []
    for page in document:
        wide, high = page.get_size()
        if not (0 < wide < 1e5 and 0 < high < 1e5):
            raise UnreadError("a page has no size")
        scale = min(PAGE_SCALE, SIDE_MAX / max(wide, high))
        pages.append(_bounded(page.render(scale=scale, fill_color=(255, 255, 255, 255)).to_pil().convert("RGB")))
    return pages


# ---- reading --------------------------------------------------------------------------------------------------------


def engine() -> Any:
    """Return the reader with its models, which come inside its package."""
    from rapidocr import RapidOCR  # noqa: PLC0415

    return RapidOCR(
        params={
            "Global.log_level": "critical",
            "Global.text_score": 0.0,
            "Global.use_cls": False,
            "Global.max_side_len": SIDE_MAX,
            "Det.limit_type": "max",
            "Det.limit_side_len": SIDE_MAX,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )


def read(reader: Any, pages: list[Any]) -> list[dict[str, Any]]:
    """Return the lines of text of all pages: page, text, score, the quad of the line and of each character."""
    lines: list[dict[str, Any]] = []
    for number, page in enumerate(pages):
        found = _upright(reader, page)
        lines += [{"page": number, **line} for line in found]
        if len(lines) > LINES_MAX:
            raise UnreadError(f"it has more than {LINES_MAX} lines")
    return lines


def _upright(reader: Any, page: Any) -> list[dict[str, Any]]:
    """Return the lines of a page, which may lie on its side or on its head."""
    best = _lines(reader, page, 0)
    if not best or _clear(best) > TURNED_SHARE:
        return best
    for turn in (1, 2, 3):
        other = _lines(reader, page, turn)
        if _clear(other) > _clear(best):
            best = other
    return best


def _clear(lines: list[dict[str, Any]]) -> float:
    chars = sum(len(line["text"]) for line in lines)
    clear = sum(len(line["text"]) for line in lines if line["score"] >= CLEAR_MIN)
    return clear / chars if chars else 0.0


def _lines(reader: Any, page: Any, turn: int) -> list[dict[str, Any]]:
    import numpy  # noqa: PLC0415

    wide, high = page.size
    grown = 2 if max(wide, high) < SIDE_MIN else 1
    image = page.resize((wide * grown, high * grown), 3) if grown > 1 else page
    array = numpy.ascontiguousarray(numpy.rot90(numpy.asarray(image), turn)[:, :, ::-1])
    said = reader(array, return_word_box=True, return_single_char_box=True)
    if said.txts is None or said.boxes is None:
        return []

    def back(quad: Any) -> list[list[int]]:
        return [_turned(float(x) / grown, float(y) / grown, turn, wide, high) for x, y in quad]

    lines = []
    for text, score, box, chars in zip(said.txts, said.scores, said.boxes, said.word_results, strict=True):
        line: dict[str, Any] = {"text": text, "score": round(float(score), 3), "box": back(box), "chars": []}
        if chars and "".join(char for char, _, _ in chars).replace(" ", "") == text.replace(" ", ""):
            line["chars"] = [back(quad) for char, _, quad in chars for _ in char.replace(" ", "")]
        lines.append(line)
    return lines


def _turned(x: float, y: float, turn: int, wide: int, high: int) -> list[int]:
    """Return a place of a page that was turned `turn` times counter-clockwise, as it is on the page."""
    if turn == 1:
        x, y = wide - y, x
    elif turn == 2:
        x, y = wide - x, high - y
    elif turn == 3:
        x, y = y, high - x
    return [round(x), round(y)]


# ---- painting -------------------------------------------------------------------------------------------------------


def paint(kind: str, pages: list[Any], polygons: list[Any]) -> bytes:
    """Return the pages as bytes of their format, with polygons (page, points) painted black."""
    from PIL import ImageDraw  # noqa: PLC0415

    drawing = [ImageDraw.Draw(page) for page in pages]
    for page, points in polygons:
        drawing[page].polygon([(float(x), float(y)) for x, y in points], fill="black", outline="black", width=3)
    sink = io.BytesIO()
    if kind == "PDF":
        pages[0].save(sink, "PDF", save_all=True, append_images=pages[1:], resolution=72 * PAGE_SCALE)
    elif kind in ("JPEG", "WEBP"):
        pages[0].save(sink, kind, quality=92)
    else:
        pages[0].save(sink, kind)
    return sink.getvalue()


# ---- processes ------------------------------------------------------------------------------------------------------


def answer(reader: Any, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the answer to one request, and bytes."""
    try:
        kind, pages = pixels(data)
        if request["op"] == "read":
            return {"lines": read(reader, pages)}, b""
        return {}, paint(kind, pages, request["polygons"])
    except UnreadError as error:
        return {"error": str(error)}, b""
    except MemoryError:
        return {"error": "it needs too much memory"}, b""
    except Exception as error:
        return {"error": f"the reader failed: {type(error).__name__}"}, b""


def serve_one(reader: Any, channel: socket.socket) -> None:
    """Take one request, answer it, and end. Nothing of a picture is read before the process is confined."""
    with channel.makefile("rwb") as stream:
        request = json.loads(stream.readline(1 << 20))
        confine(bytes.fromhex(request["filter"]), int(request["seconds"]))
        size = int(request["size"])
        if not 0 <= size <= REQUEST_BYTES_MAX:
            return
        said, made = answer(reader, request, stream.read(size))
        stream.write(json.dumps({**said, "size": len(made)}).encode() + b"\n" + made)


def confine(program: bytes, seconds: int) -> None:
    """Give up files, sockets, processes and time beyond `seconds`; raises OSError where the kernel does not do it."""
    signal.setitimer(signal.ITIMER_REAL, seconds)
    for limit, most in (
        (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_DATA, DATA_BYTES_MAX), (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):  # fmt: skip
        resource.setrlimit(limit, (most, most))
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(program, len(program))
    holder = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer)))
    for option, value, place in (
        (_PR_SET_DUMPABLE, 0, 0), (_PR_SET_NO_NEW_PRIVS, 1, 0), (_PR_SET_SECCOMP, 2, ctypes.addressof(holder)),
    ):  # fmt: skip
        if libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(place), 0, 0):
            raise OSError(ctypes.get_errno(), "the reader cannot be confined")


def warmed(reader: Any) -> None:
    """Load all that is loaded at first use: a confined child can open no file any more."""
    from PIL import Image, ImageDraw  # noqa: PLC0415

    page = Image.new("RGB", (320, 60), "white")
    ImageDraw.Draw(page).text((20, 20), "warm 12", fill="black")
    for kind in (*FORMATS, "PDF"):
        pixels(paint(kind, [page.copy()], [(0, [(1, 1), (2, 1), (2, 2), (1, 2)])]))
    read(reader, [page])


def main() -> None:
    """Fork a child for every socket that comes over the control socket (descriptor 0); end with it."""
    libc = ctypes.CDLL(None)
    control = socket.socket(fileno=os.dup(0))
    import cv2  # noqa: PLC0415

    cv2.setNumThreads(1)
    reader = engine()
    warmed(reader)
    control.sendall(b"ready")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        _, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not descriptors:
            return
        child = os.fork()
        if child == 0:
            control.close()
            os.close(0)
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            try:
                serve_one(reader, socket.socket(fileno=descriptors[0]))
            finally:
                os._exit(0)
        os.close(descriptors[0])


if __name__ == "__main__":
    main()
