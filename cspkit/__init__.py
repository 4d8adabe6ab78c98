"""Compressed-sensing-based pruning of speech recognisers: a workbook and its package.

The stages, in the order in which data flows: `cspkit.recovery` (sparse recovery, NumPy),
`cspkit.training` (the training loop), `cspkit.asr` (a compact RNN-Transducer for spoken digits),
`cspkit.pruning` (the pruning methods), `cspkit.study` (fair comparisons of methods),
`cspkit.teach` (figures and exercise checks of the notebooks).
"""

__version__ = "0.2.0"
