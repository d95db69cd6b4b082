"""What model requests used, counted: the one value of the messages that runs know too, in a module that costs little to load."""

from contextvars import ContextVar
from typing import Final

from pydantic import BaseModel, ConfigDict

from agentflow._words import amount

__all__ = ["AROUND", "Usage", "spent"]


class Usage(BaseModel):
    """What one or more model requests used; usages can be added.

    `input_tokens` and `output_tokens` are all there were; the others are shares of them, not extras.
    `cost` is in US dollars, and None where the price of a request is not known: a sum with such a request is not known either.

    ```python
    from agentflow.messages import Usage

    usage = Usage(requests=1, input_tokens=10, output_tokens=5) + Usage(requests=1, input_tokens=7)
    assert usage.total_tokens == 22
    ```

    Attributes:
        requests: How many answers were paid.
        input_tokens: What the models read.
        output_tokens: What they wrote.
        cached_input_tokens: Input that was read from the provider's prompt cache, mostly at a lower price.
        cache_write_tokens: Input that was written to that cache, at some providers at a higher price.
        reasoning_tokens: Output that was reasoning.
        audio_input_tokens: Input that was sound.
        audio_output_tokens: Output that was sound.
        cost: US dollars.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)  # built when first used, not at import

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    cost: float | None = None

    @property
    def total_tokens(self) -> int:
        """Input and output tokens together."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: "Usage") -> "Usage":
        counted = {name: getattr(self, name) + getattr(other, name) for name in Usage.model_fields if name != "cost"}
        costs = [each.cost for each in (self, other) if each.cost is not None or each.requests or each.total_tokens]
        known = [cost for cost in costs if cost is not None]
        return Usage(**counted, cost=sum(known) if known and len(known) == len(costs) else None)


AROUND: Final[ContextVar[tuple[list[Usage], ...]]] = ContextVar("agentflow_conversations_around", default=())
"""What the conversations have spent whose tools are running here; a background run is no part of them."""


def spent(usage: Usage, *, requests: bool = True) -> str:
    """Return in words what model requests used; empty if there were none.

    Args:
        usage: What they used.
        requests: Whether to say how many there were.
    """
    counts = [(usage.requests if requests else 0, "request"), (usage.total_tokens, "token")]
    words = [amount(count, what) for count, what in counts if count]
    return ", ".join(words if usage.cost is None else [*words, f"${usage.cost:.4f}"])
