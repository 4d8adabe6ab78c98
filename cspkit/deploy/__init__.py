"""Pruned models in use: packed files, and a runtime that streams."""

from cspkit.deploy.packing import PackError, load, pack
from cspkit.deploy.runtime import SparseTransducer

__all__ = ["PackError", "SparseTransducer", "load", "pack"]
