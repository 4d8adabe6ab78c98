"""Pruned models in use: packed files, a runtime that streams, reports, and exports."""

from cspkit.deploy.container import PackError
from cspkit.deploy.export import to_csr, to_onnx
from cspkit.deploy.packing import load, pack
from cspkit.deploy.reporting import Report, report
from cspkit.deploy.runtime import SparseTransducer

__all__ = ["PackError", "Report", "SparseTransducer", "load", "pack", "report", "to_csr", "to_onnx"]
