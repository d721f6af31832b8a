"""Which requests are calls of a language model: known inference APIs by method and path. Pure.

Threat: model traffic that passes as ordinary HTTP, so that budgets, routes and privacy rules for models never see it.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class InferenceApi(NamedTuple):
    """A known API: its id, what is asked of it, and whether answers may come as a stream."""

    protocol: str
    kind: str
    streams: bool


_EXACT: Final = {
    ("POST", "/v1/chat/completions"): InferenceApi("openai_chat_completions", "chat_completion", True),
    ("POST", "/v1/completions"): InferenceApi("openai_completions", "completion", True),
    ("POST", "/v1/responses"): InferenceApi("openai_responses", "responses", True),
    ("POST", "/v1/embeddings"): InferenceApi("openai_embeddings", "embeddings", False),
    ("POST", "/v1/messages"): InferenceApi("anthropic_messages", "messages", True),
    ("GET", "/v1/models"): InferenceApi("model_discovery", "models_list", False),
}
_MODEL: Final = InferenceApi("model_discovery", "models_get", False)
_BEDROCK: Final = {
    "invoke": InferenceApi("aws_bedrock_invoke", "messages", False),
    "invoke-with-response-stream": InferenceApi("aws_bedrock_invoke_stream", "messages", True),
}


def detect_inference(method: str, path: str) -> InferenceApi | None:
    """Return the inference API a request is a call of, or None. A query string in `path` is ignored."""
    method, path = method.upper(), path.partition("?")[0]
    found = _EXACT.get((method, path))
    if found is not None:
        return found
    if method == "GET" and path.startswith("/v1/models/"):
        return _MODEL
    if method == "POST" and path.startswith("/model/"):
        model, slash, action = path[len("/model/") :].partition("/")
        if model and slash:
            return _BEDROCK.get(action)
    return None
