"""How a name such as `"openai:gpt-4o-mini"` becomes a model."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from agentflow.exceptions import UsageError
from agentflow.models._base import Model

__all__ = ["resolve"]

_PROVIDERS: Final = {
    "anthropic": ("agentflow.models.anthropic", "AnthropicModel"),
    "google": ("agentflow.models.google", "GoogleModel"),
    "ollama": ("agentflow.models.ollama", "OllamaModel"),
    "openai": ("agentflow.models.openai", "OpenAIModel"),
    "openai-responses": ("agentflow.models.openai_responses", "OpenAIResponsesModel"),
}


def resolve(model: str | Model) -> Model:
    """Return the model of a name; its provider is imported when its first model is asked for.

    A key is not needed yet: it is looked up when the model is first asked something.

    ```python
    from agentflow.models import resolve

    assert resolve("openai:gpt-4o-mini").name == "openai:gpt-4o-mini"
    ```

    Args:
        model: `"provider:model"`, or a model, which is returned as it is.

    Raises:
        UsageError: If there is no such provider, or no name behind it.
    """
    if isinstance(model, Model):
        return model
    provider, _, name = model.partition(":")
    if provider not in _PROVIDERS or not name:
        raise UsageError(
            f"no model {model!r}: write 'provider:name' with one of the providers {_known()}, or pass a Model"
        )
    module, attribute = _PROVIDERS[provider]
    made: Model = getattr(import_module(module), attribute)(name)
    return made


def _known() -> str:
    """Return the providers for an error message."""
    return ", ".join(repr(provider) for provider in sorted(_PROVIDERS))
