"""The process that evaluates Rego modules: a loop over standard input and output, started as a program of its own.

It imports nothing of this project and is killed when it is late, so whatever a module or an input does to the engine (a
stack overflow, a loop without end, a huge allocation) ends this process and nothing else. One thread, one engine a
layer, modules and data loaded once. Messages are lines of JSON; an evaluation's input is the line after its message, so
that it goes to the engine as it is.
"""

from __future__ import annotations

import json
import resource
import sys
from typing import Any

MEMORY_BYTES = 1 << 30
"""Address space of the process: an allocation beyond it ends the process."""
ANSWERS = ("allow", "ask", "deny", "obligations")


def _load(layers: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    import regorus  # noqa: PLC0415

    engines: dict[str, Any] = {}
    trees: dict[str, Any] = {}
    for layer in layers:
        engine = regorus.Engine()
        for name, text in layer["modules"]:
            engine.add_policy(name, text)
        engine.add_data_json(json.dumps(layer["data"]))
        trees[layer["layer"]] = json.loads(engine.get_ast_as_json())
        engines[layer["layer"]] = engine
    return engines, trees


def _evaluate(engine: Any, package: str, rules: list[str], text: str) -> dict[str, Any]:
    engine.set_input_json(text)
    answer = {}
    for rule in rules:
        value = engine.eval_rule_as_json(f"data.{package}.{rule}")
        if value not in (None, "", "null", '"<undefined>"'):
            answer[rule] = json.loads(value)
    return answer


def main() -> None:
    """Answer messages until standard input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    engines: dict[str, Any] = {}
    while True:
        line = source.readline()
        if not line:
            return
        message = json.loads(line)
        try:
            if message["op"] == "load":
                engines, trees = _load(message["layers"])
                answer: dict[str, Any] = {"trees": trees}
            else:
                text = source.readline().decode()
                engine = engines[message["layer"]]
                answer = {"answer": _evaluate(engine, message["package"], message["rules"], text)}
        except Exception as error:
            answer = {"error": str(error).partition("Stack backtrace")[0].strip()[:500] or type(error).__name__}
        sink.write(json.dumps(answer).encode() + b"\n")
        sink.flush()


if __name__ == "__main__":
    main()
