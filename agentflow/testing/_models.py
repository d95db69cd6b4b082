"""Which model answers in a test, and that none is asked over the network."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from agentflow import models
from agentflow._agent import overridden
from agentflow.exceptions import UsageError
from agentflow.models._base import real_requests

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agentflow._agent import Agent
    from agentflow.models import Model

__all__ = ["no_model_requests", "override_models"]


@contextmanager
def override_models(chosen: str | Model | Mapping[Agent[Any], str | Model]) -> Iterator[None]:
    """Put models in force in place of the agents' own, for a block.

    It holds in this thread or task and in what they start with their context, as steps, maps and background runs do.

    ```python
    from agentflow import Agent
    from agentflow.testing import ScriptedModel, override_models

    writer = Agent("openai:gpt-4o")
    critic = Agent("openai:gpt-4o")

    with override_models({writer: ScriptedModel(["A poem."]), critic: ScriptedModel(["Too short."])}):
        assert critic.run(writer.run("Write.").output).output == "Too short."
    ```

    Args:
        chosen: One model for every agent, or a model for each of some agents.

    Raises:
        UsageError: If a model's name has an unknown provider.
    """
    each: Mapping[Any, str | Model] = chosen if isinstance(chosen, Mapping) else {None: chosen}
    with overridden({agent: models.resolve(model) for agent, model in each.items()}):
        yield


@contextmanager
def no_model_requests(reason: str = "this test makes none (no_model_requests)") -> Iterator[None]:
    """Refuse every model request that would go over the network, in this whole process, for a block.

    Scripted models, functions and `TestModel` answer as before.

    ```python
    import pytest

    from agentflow import Agent
    from agentflow.exceptions import UsageError
    from agentflow.testing import no_model_requests

    with no_model_requests(), pytest.raises(UsageError, match="was refused"):
        Agent("openai:gpt-4o").run("Say hello")
    ```

    Args:
        reason: Why, for the message; say what to do instead.
    """
    if not reason:
        raise UsageError("no_model_requests(reason=''): say why, it is what the failing test shows")
    before, real_requests.refused_because = real_requests.refused_because, reason
    try:
        yield
    finally:
        real_requests.refused_because = before
