"""Chat models by name: LangChain's own, and those of providers that the policy names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from langchain_core.language_models import BaseChatModel

from agent_os.adapters.langchain.session import Session
from agent_os.core.errors import ActionError, EffectError


def named(session: Session, name: str, options: Mapping[str, Any]) -> BaseChatModel:
    """Return the model of a name: LangChain's, else `PROVIDER:MODEL` of the policy. Raises ActionError, EffectError."""
    endpoints = getattr(getattr(session, "providers", None), "endpoints", {})
    provider, _, wanted = name.partition(":")
    try:
        return named_model(name, **options)
    except (ActionError, EffectError):
        if provider not in endpoints or not wanted:
            raise
        from agent_os.adapters.langchain.provider import ProviderModel  # noqa: PLC0415 - only where LangChain has none

        return ProviderModel(session=session, provider=provider, model_name=wanted, options=dict(options))


def named_model(name: str, **options: Any) -> BaseChatModel:
    """Return the LangChain chat model of a name such as `openai:gpt-5`. Raises EffectError naming what to install."""
    from langchain.chat_models import init_chat_model  # noqa: PLC0415

    try:
        return cast("BaseChatModel", init_chat_model(name, **options))
    except ImportError as error:
        package = getattr(error, "name", None) or f"langchain-{name.split(':', maxsplit=1)[0]}"
        raise EffectError(f"the model needs a package: pip install {package.replace('_', '-')}") from None
    except ValueError:
        hint = "PROVIDER:MODEL, of LangChain or of the policy's models.providers"
        raise ActionError(f"{name!r} is no known model", field="model", hint=hint) from None
