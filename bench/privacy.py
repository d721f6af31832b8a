"""The privacy router against stock presidio-analyzer, in one run: throughput, latency, quality, secrets, false alarms.

`python -m bench.privacy [--quick] [--json]`. Ratios in one run are the result; absolute figures belong to this machine, and
are processor time but for the latency, so that a busy machine does not decide them. The
quality part needs the package `presidio-evaluator` (its generated template sentences); without it that part says so.
Seeds used while building the recognisers were 11 to 13; the bench uses others.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import logging
import random
import re
import statistics
import sys
import sysconfig
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from agent_os.effects.detectors.ner import installed_model
from agent_os.runtime.privacy import local_detector
from bench.privacy_secrets import generate

SEEDS = (101, 102)
Span = tuple[str, int, int]
_PROSE = (
    "the invoice of last quarter was sent twice and the second copy had a wrong total, please have a look at it when there is time. "
    "we will pay {amount} euros to the account {iban} before {date}, the reference is {number}. "
    "if anything is unclear write to {mail} or call {phone} during the day; the server at {ip} keeps the scans for ninety days. "
)


def _plain_text(size: int, seed: int) -> str:
    """Return text without names, with an identifier here and there."""
    rng = random.Random(seed)
    out: list[str] = []
    while sum(map(len, out)) < size:
        out.append(
            _PROSE.format(
                amount=rng.randrange(10, 9000), iban="DE89370400440532013000", date=f"2026-0{rng.randrange(1, 9)}-1{rng.randrange(9)}",
                number=rng.randrange(10**5), mail=f"office{rng.randrange(99)}@corp.example", phone=f"+49 30 90{rng.randrange(10000, 99999)}", ip=f"10.0.{rng.randrange(255)}.7",
            )
        )  # fmt: skip
    return "".join(out)[:size]


def stock() -> Callable[[str], list[Span]] | None:
    """Return stock presidio-analyzer in its default set-up over the installed model, or None without a model."""
    name = installed_model()
    if name is None:
        return None
    logging.disable(logging.ERROR)
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import NlpEngineProvider

    provider = NlpEngineProvider(
        nlp_configuration={"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": name}]}
    )
    engine = AnalyzerEngine(nlp_engine=provider.create_engine(), supported_languages=["en"])
    return lambda text: [(item.entity_type, item.start, item.end) for item in engine.analyze(text, "en")]


def _seconds(work: Callable[[], Any], rounds: int = 3) -> float:
    times = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def throughput(baseline: Callable[[str], list[Span]] | None, size: int) -> dict[str, Any]:
    """Text without names: our detector (cache empty each time) against stock, and recall of the planted identifiers."""
    text = _plain_text(size, 7)
    result: dict[str, Any] = {"characters": len(text)}
    for label, ner in (("pattern", False), ("with model", True)):
        if ner and installed_model() is None:
            continue
        detector = local_detector(ner=ner)
        detector._scan(text[:1000])
        result[f"ours, {label}: ms per kB"] = _seconds(lambda detector=detector: detector._scan(text)) * 1e6 / len(text)
    found = {(item.type, item.start) for item in local_detector(ner=False).scan_text(text)}
    planted = [(kind, match.start()) for kind, pattern in _PLANTED.items() for match in re.finditer(pattern, text)]
    result["recall, ours"] = sum(place in found for place in planted) / len(planted)
    if baseline is not None:
        baseline("warm up")
        started = time.process_time()
        theirs = {(kind, start) for kind, start, _ in baseline(text)}
        result["stock: ms per kB"] = (time.process_time() - started) * 1e6 / len(text)
        result["recall, stock"] = sum(place in theirs for place in planted) / len(planted)
        for label in ("pattern", "with model"):
            ours = result.get(f"ours, {label}: ms per kB")
            if ours:
                result[f"times faster, {label}"] = result["stock: ms per kB"] / ours
    return result


_PLANTED = {
    "IBAN_CODE": r"DE89370400440532013000", "EMAIL_ADDRESS": r"office\d+@corp\.example", "PHONE_NUMBER": r"\+49 30 90\d{5}", "IP_ADDRESS": r"10\.0\.\d+\.7", "DATE_TIME": r"2026-0\d-1\d",
}  # fmt: skip


def conversation(baseline: Callable[[str], list[Span]] | None, turns: int) -> dict[str, Any]:
    """A growing conversation with names, every turn scanned whole: incremental against stock."""
    rng = random.Random(3)
    names = ["Maria Schmidt", "Kuyra Bazhaev", "John Doe", "Aisha Khan", "Pierre Dubois"]
    messages = [
        f"{rng.choice(names)} wrote about order {rng.randrange(10**6)}: " + _plain_text(300, index)
        for index in range(turns)
    ]
    result: dict[str, Any] = {"turns": turns}
    detector = local_detector(ner=installed_model() is not None)
    detector.scan_text("warm up the model for Maria Schmidt of Berlin, who is not in any list at all, Xyzzyq")

    def ours() -> None:
        for last in range(1, turns + 1):
            asyncio.run(
                detector.scan({f"/messages/{index}/content": text for index, text in enumerate(messages[:last])})
            )

    result["ours: s"] = _seconds(ours, 1)
    if baseline is not None:
        started = time.process_time()
        for last in range(1, turns + 1):
            baseline("\n".join(messages[:last]))
        result["stock: s"] = time.process_time() - started
        result["times faster"] = result["stock: s"] / result["ours: s"]
    return result


def latency() -> dict[str, Any]:
    """Added latency of a 2 kB prompt that was seen but for its last message, without the model."""
    detector = local_detector(ner=False)
    messages = [_plain_text(300, index) for index in range(6)]
    samples = []
    for index in range(200):
        texts = {
            f"/messages/{place}/content": text
            for place, text in enumerate([*messages, f"{index} " + _plain_text(200, index)])
        }
        start = time.perf_counter()
        detector._scan_all(texts)
        samples.append((time.perf_counter() - start) * 1e3)
    samples.sort()
    return {"p50 ms": statistics.median(samples), "p99 ms": samples[int(len(samples) * 0.99)]}


def secrets(count: int, code_bytes: int) -> dict[str, Any]:
    """Recall on generated keys, false alarms on the standard library's code."""
    detector = local_detector(ner=False)
    samples = generate(SEEDS[0], count)
    missed: collections.Counter[str] = collections.Counter()
    for sample in samples:
        items = [item for item in detector.scan_text(sample.text) if item.type.startswith("SECRET_")]
        if not any(item.start < sample.end and sample.start < item.end for item in items):
            missed[sample.kind] += 1
    files = [path for path in Path(sysconfig.get_paths()["stdlib"]).rglob("*.py") if "site-packages" not in str(path)]
    random.Random(SEEDS[1]).shuffle(files)
    read = alarms = 0
    for path in files:
        text = path.read_text("utf-8", "replace")
        read += len(text)
        alarms += sum(item.type.startswith("SECRET_") for item in detector.scan_text(text))
        if read > code_bytes:
            break
    return {
        "keys": count, "recall": 1 - sum(missed.values()) / count, "missed": dict(missed), "code characters": read, "false alarms per 100 kB": alarms * 1e5 / read,
    }  # fmt: skip


# ---- quality --------------------------------------------------------------------------------------------------------

_SAME = {"STREET_ADDRESS": "LOCATION", "GPE": "LOCATION", "ZIP_CODE": "LOCATION", "DOMAIN_NAME": "URL"}
_LEFT_OUT = frozenset({"TITLE"})
_WORD = re.compile(r"\w+")


def quality(baseline: Callable[[str], list[Span]] | None, sentences: int) -> dict[str, Any]:
    """F2 over words by entity, and precision of PERSON, on generated template sentences."""
    try:
        documents = [item for seed in SEEDS for item in _sentences(seed, sentences)]
    except ImportError:
        return {"left out": "presidio-evaluator is not installed"}
    result: dict[str, Any] = {"sentences": len(documents)}
    runs: list[tuple[str, Callable[[str], list[Span]]]] = []
    for label, ner in (("ours, pattern", False), ("ours, with model", True)):
        if not ner or installed_model() is not None:
            detector = local_detector(ner=ner)
            runs.append(
                (label, lambda text, detector=detector: [(i.type, i.start, i.end) for i in detector.scan_text(text)])
            )
    if baseline is not None:
        runs.append(("stock", baseline))
    for label, find in runs:
        result[label] = _scored(documents, find)
    return result


def _sentences(seed: int, count: int) -> list[tuple[str, list[Span]]]:
    import numpy
    from presidio_evaluator.data_generator import PresidioSentenceFaker

    random.seed(seed)
    numpy.random.seed(seed)
    faker = PresidioSentenceFaker("en_US", lower_case_ratio=0.05, random_seed=seed)
    made = faker.generate_new_fake_sentences(num_samples=count)
    return [
        (item.full_text, [(span.entity_type, span.start_position, span.end_position) for span in item.spans])
        for item in made
    ]


def _scored(documents: Sequence[tuple[str, list[Span]]], find: Callable[[str], list[Span]]) -> dict[str, float]:
    hit: collections.Counter[str] = collections.Counter()
    false: collections.Counter[str] = collections.Counter()
    missed: collections.Counter[str] = collections.Counter()
    for text, spans in documents:
        gold = [(_SAME.get(kind, kind), start, end) for kind, start, end in spans]
        found = find(text)
        for word in _WORD.finditer(text):
            want, got = _label(gold, *word.span()), _label(found, *word.span())
            if want in _LEFT_OUT:
                continue
            if want and want == got:
                hit[want] += 1
            else:
                false[got] += bool(got)
                missed[want] += bool(want)
    total = (sum(hit.values()), sum(false.values()), sum(missed.values()))
    people = hit["PERSON"] + false["PERSON"]
    return {
        "precision": total[0] / (total[0] + total[1]), "recall": total[0] / (total[0] + total[2]), "F2": 5 * total[0] / (5 * total[0] + 4 * total[2] + total[1]),
        "PERSON precision": hit["PERSON"] / people if people else 0.0, "PERSON recall": hit["PERSON"] / max(1, hit["PERSON"] + missed["PERSON"]),
    }  # fmt: skip


def _label(spans: Iterable[Span], start: int, end: int) -> str:
    return next((kind for kind, low, high in spans if low < end and start < high), "")


def main(argv: Sequence[str] | None = None) -> None:
    """Run every part and print the results."""
    parser = argparse.ArgumentParser(prog="bench.privacy", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller inputs")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    small = options.quick
    baseline = stock()
    parts: list[tuple[str, Callable[[], dict[str, Any]]]] = [
        ("throughput, 1 kB", lambda: throughput(baseline, 1_000)),
        ("throughput, 50 kB", lambda: throughput(baseline, 10_000 if small else 50_000)),
        ("latency, 2 kB prompt", latency),
        ("growing conversation", lambda: conversation(baseline, 10 if small else 50)),
        ("secrets", lambda: secrets(330, 500_000 if small else 5_000_000)),
        ("quality", lambda: quality(baseline, 150 if small else 750)),
    ]
    results = {}
    for name, part in parts:
        results[name] = part()
        if not options.json:
            print(f"\n{name}")
            _show(results[name], "  ")
            sys.stdout.flush()
    if baseline is None and not options.json:
        print("\nno language model is installed: the parts against stock presidio-analyzer were left out")
    if options.json:
        print(json.dumps(results, indent=1))


def _show(rows: dict[str, Any], indent: str) -> None:
    for key, value in rows.items():
        if isinstance(value, dict) and value:
            print(f"{indent}{key}")
            _show(value, indent + "  ")
        else:
            print(f"{indent}{key:32} {value:.3f}" if isinstance(value, float) else f"{indent}{key:32} {value}")


if __name__ == "__main__":
    main()
