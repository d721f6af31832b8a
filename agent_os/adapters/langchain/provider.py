"""A chat model over a provider that the policy names: any server that speaks OpenAI's or Anthropic's protocol, no package more.

It only carries a call out; judging, budgets and the audit are `GovernedModel`'s around it, and it is made nowhere else. Keys
come from where the policy says and never reach it. Threat: a second way to a provider beside the door: there is none, because
what it sends is what the admitted call said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage, convert_to_openai_messages
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import Field

from agent_os.core.action import ModelCall
from agent_os.guards.models.neutral import Answer
from agent_os.guards.models.openai import PARAMS, parse_request

_SAID: Final = PARAMS | {"tools", "tool_choice", "max_tokens", "max_completion_tokens"}
"""What a call may say beside its messages; what else LangChain passes on is its own."""


class ProviderModel(BaseChatModel):
    """Calls `model_name` at `provider` through the session's client of providers; answers come whole."""

    session: Any = Field(exclude=True, repr=False)
    provider: str
    model_name: str
    options: dict[str, Any] = Field(default_factory=dict)

    @property
    def _llm_type(self) -> str:
        return "agent-os-provider"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {"ls_provider": self.provider, "ls_model_name": self.model_name, "ls_model_type": "chat"}

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind tools in the OpenAI form."""
        return self.bind(tools=[convert_to_openai_tool(given) for given in tools], **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return _result(self.session.loop.run(self.session.providers.answer(self._call(messages, stop, kwargs))))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        call = self.session.providers.answer(self._call(messages, stop, kwargs))
        return _result(await self.session.loop.call(call))

    def _call(self, messages: list[BaseMessage], stop: list[str] | None, kwargs: Mapping[str, Any]) -> ModelCall:
        """Return the call as the client of providers takes it. Raises ActionError for what cannot be said."""
        said = {
            name: value for name, value in {**self.options, **kwargs}.items() if name in _SAID and value is not None
        }
        body = {"model": self.model_name, "messages": convert_to_openai_messages(messages), "stop": stop, **said}
        request = parse_request(body)
        return ModelCall(
            model=request.model,
            provider=self.provider,
            messages=request.neutral(),
            tools=tuple(tool.name for tool in request.tools),
            max_tokens=request.max_tokens,
            principal=self.session.principal,
        )


def _result(answer: Answer) -> ChatResult:
    usage = answer.usage
    counted: Any = None
    if usage.input >= 0 and usage.output >= 0:
        counted = {
            "input_tokens": usage.input,
            "output_tokens": usage.output,
            "total_tokens": usage.input + usage.output,
            "input_token_details": {"cache_read": usage.cached},
            "output_token_details": {"reasoning": usage.reasoning},
        }
    calls: Any = [
        {"type": "tool_call", "id": str(call["id"]), "name": str(call["name"]), "args": dict(call["args"])}
        for call in answer.tool_calls
    ]
    return ChatResult(
        generations=[ChatGeneration(message=AIMessage(content=answer.text, tool_calls=calls, usage_metadata=counted))]
    )
