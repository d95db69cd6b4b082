"""What tests of workflows need: models without a network, a store of their own, and steps that fail, crash or are replaced on demand.

With the pytest plugin, which is there as soon as agentflow is installed, each test has a store of its own and asks no real model.
"""

from agentflow.models._scripted import FunctionModel, ScriptedModel
from agentflow.testing._auto import TestModel
from agentflow.testing._calls import assert_hit, assert_ran
from agentflow.testing._clock import VirtualClock
from agentflow.testing._events import capture_events
from agentflow.testing._models import no_model_requests, override_models
from agentflow.testing._steps import SimulatedCrash, crash_after, fail_step, replace_step
from agentflow.testing._stores import fresh_store, make_context

__all__ = [
    "FunctionModel",
    "ScriptedModel",
    "SimulatedCrash",
    "TestModel",
    "VirtualClock",
    "assert_hit",
    "assert_ran",
    "capture_events",
    "crash_after",
    "fail_step",
    "fresh_store",
    "make_context",
    "no_model_requests",
    "override_models",
    "replace_step",
]
