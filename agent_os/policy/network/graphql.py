"""GraphQL over HTTP and WebSocket: a request to the operations that rules judge. Pure.

Form of an action's `graphql` field: `{"operations": [operation, ...]}` or `{"operations": [], "error": "why"}`, an
operation being `{"operation_type", "operation_name", "fields", "persisted_query", "persisted_query_hash",
"persisted_query_id"}`. `fields` are the root fields by
their real names, fragments expanded. Threat: an alias that hides a mutation, a second query in a duplicate parameter, a
document with several operations, a hash that stands for an unknown query. Source: GraphQL October 2021, GraphQL over
HTTP draft, Apollo automatic persisted queries.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

from agent_os.policy.network.jsonrpc import BodyError, check_spelling, parse_json

MAX_TOKENS: Final = 20_000
MAX_DOCUMENT_CHARS: Final = 262_144
MAX_DEPTH: Final = 128
MAX_BATCH: Final = 64
_IDS: Final = ("id", "documentId", "queryId", "doc_id")
_MEMBERS: Final = frozenset({"query", "operationName", "variables", "extensions", *_IDS})
_BRACKETS: Final = re.compile(r"[{}\[\]()]")
_REPEATED: Final = frozenset(name.casefold() for name in _MEMBERS - {"variables"})
Info = dict[str, Any]


def classify(method: str, query: Mapping[str, list[str]], body: bytes | str) -> Info:
    """Return the operations of a GraphQL request over HTTP. Never raises: what cannot be read is an `error`."""
    try:
        if method.upper() == "GET":
            if body:
                raise BodyError("GraphQL GET has a body")
            return {"operations": [_from_query(query)]}
        if method.upper() != "POST":
            raise BodyError("GraphQL is spoken with GET and POST")
        if any(name.casefold() in _REPEATED for name in query):
            raise BodyError("GraphQL POST repeats parameters in its query")
        if not body:
            raise BodyError("GraphQL POST has no body")
        return {"operations": _envelopes(parse_json(body))}
    except BodyError as error:
        return {"operations": [], "error": str(error)}


def classify_message(text: bytes | str) -> Info | None:
    """Return the operations of a GraphQL-over-WebSocket client message, or None for a message that carries none.

    Both protocols in use are read: `graphql-transport-ws` (`subscribe`) and `subscriptions-transport-ws` (`start`).
    """
    try:
        value = parse_json(text)
        kind = value.get("type") if isinstance(value, dict) else None
        if kind in ("subscribe", "start"):
            return {"operations": [_envelope(value.get("payload"))]}
        if kind in ("connection_init", "ping", "pong", "complete", "stop", "connection_terminate"):
            return None
        raise BodyError("message is not GraphQL over WebSocket")
    except BodyError as error:
        return {"operations": [], "error": str(error)}


def _envelopes(value: Any) -> list[Info]:
    if isinstance(value, list):
        if not value or len(value) > MAX_BATCH:
            raise BodyError(f"GraphQL batch must hold 1 to {MAX_BATCH} requests")
        return [_envelope(item) for item in value]
    return [_envelope(value)]


def _envelope(value: Any) -> Info:
    if not isinstance(value, dict):
        raise BodyError("GraphQL request is not an object")
    check_spelling(value, _MEMBERS)
    if isinstance(value.get("extensions"), dict):
        check_spelling(value["extensions"], frozenset({"persistedQuery"}))
    ids = {value[name] for name in _IDS if isinstance(value.get(name), str) and value[name]}
    if len(ids) > 1:
        raise BodyError("GraphQL request has several persisted query ids")
    for name in ("query", "operationName"):
        if value.get(name) is not None and not isinstance(value[name], str):
            raise BodyError(f"GraphQL {name} is not a text")
    return _operation(value.get("query"), value.get("operationName"), value.get("extensions"), next(iter(ids), ""))


def _from_query(query: Mapping[str, list[str]]) -> Info:
    check_spelling(query, _MEMBERS)
    values = {}
    for name in ("query", "operationName", "extensions", *_IDS):
        given = query.get(name, [])
        if len(given) > 1:
            raise BodyError(f"GraphQL parameter {name} is given twice")
        if given and given[0]:
            values[name] = given[0]
    ids = [values[name] for name in _IDS if name in values]
    if len(ids) > 1:
        raise BodyError("GraphQL request has several persisted query ids")
    extensions = parse_json(values["extensions"]) if "extensions" in values else None
    return _operation(values.get("query"), values.get("operationName"), extensions, next(iter(ids), ""))


def _operation(query: str | None, name: str | None, extensions: Any, persisted_id: str) -> Info:
    persisted = extensions.get("persistedQuery") if isinstance(extensions, dict) else None
    digest = persisted.get("sha256Hash") if isinstance(persisted, dict) else None
    digest = digest if isinstance(digest, str) else ""
    if query is not None and query.strip():
        if digest and digest.lower() != hashlib.sha256(query.encode("utf-8", "surrogatepass")).hexdigest():
            raise BodyError("GraphQL hash is not that of the query beside it")
        info = _document(query, name)
    elif digest or persisted_id:
        info = {"operation_type": "", "fields": []}
        if name:
            info["operation_name"] = name
    else:
        raise BodyError("GraphQL request has neither a query nor a persisted query")
    info["persisted_query"] = bool(digest or persisted_id)
    if digest:
        info["persisted_query_hash"] = digest
    if persisted_id:
        info["persisted_query_id"] = persisted_id
    return info


def _document(text: str, name: str | None) -> Info:
    from graphql import language, parse  # noqa: PLC0415  (loaded only where a policy inspects GraphQL)
    from graphql.error import GraphQLError  # noqa: PLC0415

    if _nesting(text) > MAX_DEPTH:
        raise BodyError("GraphQL document is nested too deeply")
    try:
        document = parse(text, no_location=True, max_tokens=MAX_TOKENS)
    except (GraphQLError, RecursionError):
        raise BodyError("GraphQL document cannot be parsed") from None
    operations, fragments = [], {}
    for definition in document.definitions:
        if isinstance(definition, language.OperationDefinitionNode):
            operations.append(definition)
        elif isinstance(definition, language.FragmentDefinitionNode):
            if definition.name.value in fragments:
                raise BodyError("GraphQL document defines a fragment twice")
            fragments[definition.name.value] = definition
        else:
            raise BodyError("GraphQL document is not executable")
    if not operations:
        raise BodyError("GraphQL document has no operation")
    if name:
        operations = [item for item in operations if item.name and item.name.value == name]
        if len(operations) != 1:
            raise BodyError("GraphQL operationName does not name one operation")
    elif len(operations) > 1:
        raise BodyError("GraphQL document has multiple operations and no operationName")
    operation = operations[0]
    info: Info = {"operation_type": operation.operation.value}
    if operation.name:
        info["operation_name"] = operation.name.value
    info["fields"] = sorted(_root_fields(operation.selection_set, fragments, language))
    return info


def _nesting(text: str) -> int:
    if len(text) > MAX_DOCUMENT_CHARS or sum(map(text.count, "{[(")) > MAX_TOKENS:
        raise BodyError("GraphQL document is too long")
    level = deepest = 0
    for bracket in _BRACKETS.findall(text):
        level += 1 if bracket in "{[(" else -1
        deepest = max(deepest, level)
    return deepest


def _root_fields(selection: Any, fragments: dict[str, Any], language: Any) -> set[str]:
    fields: set[str] = set()
    pending, visited = [selection], set()
    while pending:
        for item in pending.pop().selections:
            if isinstance(item, language.FieldNode):
                fields.add(item.name.value)
            elif isinstance(item, language.InlineFragmentNode):
                pending.append(item.selection_set)
            elif item.name.value not in fragments:
                raise BodyError("GraphQL document spreads an unknown fragment")
            elif item.name.value not in visited:
                visited.add(item.name.value)
                pending.append(fragments[item.name.value].selection_set)
    return fields
