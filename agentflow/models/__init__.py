"""Models: what answers an agent's requests, and how a name such as `"openai:gpt-4o-mini"` becomes one."""

from agentflow.models._base import AsyncModelStream, Model
from agentflow.models._fallback import FallbackModel
from agentflow.models._named import resolve

__all__ = ["AsyncModelStream", "FallbackModel", "Model", "resolve"]
