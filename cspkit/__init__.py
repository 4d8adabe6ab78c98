"""Compressed-sensing-based pruning of speech recognisers: a workbook and its package.

Stages, in the order that data flows: `cspkit.recovery` (sparse recovery, NumPy),
`cspkit.training` (the one training loop), `cspkit.asr` (a compact RNN-Transducer on spoken
digits), `cspkit.pruning` (the methods), `cspkit.teach` (what the notebooks need).
"""

__version__ = "0.1.0"
