"""Durable, cached, streaming multi-agent workflows in plain Python functions."""
