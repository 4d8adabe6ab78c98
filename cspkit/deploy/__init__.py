"""Pruned models in use: packed files."""

from cspkit.deploy.packing import PackError, load, pack

__all__ = ["PackError", "load", "pack"]
