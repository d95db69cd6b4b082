"""What an answer costs: as the provider says, else by the price lists of the extra `cost`, else unknown; never a guess."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentflow.messages import ModelResponse, Usage

__all__ = ["aused_by", "used_by"]

_SELLERS: Final = {"openai-responses": "openai"}
"""By whom a provider's models are sold, where that is another name."""


def used_by(model: str, response: ModelResponse) -> Usage:
    """Return what an answer used, as at least one request, with what it costs if that is known.

    Args:
        model: The model that has answered, as users write it.
        response: The answer; the model that it names is priced first, since it is the more exact name.
    """
    usage = response.usage
    cost = usage.cost if usage.cost is not None else _listed(model, response)
    return usage.model_copy(update={"requests": max(1, usage.requests), "cost": cost})


async def aused_by(model: str, response: ModelResponse) -> Usage:
    """Do what `used_by` does; the price lists, which take most of a second to load, are first loaded in a thread."""
    if not _price_list.cache_info().currsize:
        await asyncio.to_thread(_price_list)
    return used_by(model, response)


@cache
def _price_list() -> tuple[Callable[..., Any], type[Any]] | None:
    """Return what looks prices up and what it takes, or None where the extra is not installed."""
    try:
        from genai_prices import Usage as Used, calc_price  # noqa: PLC0415 - slow to import, and an extra
    except ImportError:
        return None
    return calc_price, Used


def _listed(model: str, response: ModelResponse) -> float | None:
    usage, (provider, _, name) = response.usage, model.partition(":")
    if not name or (found := _price_list()) is None:
        return None
    calc_price, used = found
    amounts = used(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cached_input_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        input_audio_tokens=usage.audio_input_tokens,
        output_audio_tokens=usage.audio_output_tokens,
    )
    for each in filter(None, (response.model, name)):
        try:
            price = calc_price(amounts, model_ref=each, provider_id=_SELLERS.get(provider, provider))
        except LookupError:
            continue
        return float(price.total_price)
    return None
