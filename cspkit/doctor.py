"""Does this machine have what the workbook needs?"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

MEMORY_GB = 4.0
DISK_GB = 1.0


class Finding(NamedTuple):
    """One requirement, whether it is met, and what was found."""

    requirement: str
    ok: bool
    found: str


def examine() -> list[Finding]:
    """Check Python, packages, threads, memory, disk, corpus and kernel; change nothing."""
    return [_python(), *_packages(), _threads(), _memory(), _disk(), *_data(), _kernel()]


def _python() -> Finding:
    return Finding("Python 3.11 or later", sys.version_info >= (3, 11), sys.version.split()[0])


def _packages() -> list[Finding]:
    from packaging.requirements import Requirement

    findings = []
    for text in importlib.metadata.requires("cspkit") or []:
        requirement = Requirement(text)
        if requirement.marker is not None and "extra" in str(requirement.marker):
            continue
        label = f"{requirement.name} {requirement.specifier}"
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            findings.append(Finding(label, False, "not installed; run `make install`"))
        else:
            findings.append(Finding(label, requirement.specifier.contains(version, True), version))
    return findings


def _threads() -> Finding:
    asked = os.environ.get("CSPKIT_THREADS", "1")
    if not re.fullmatch("[1-9][0-9]*", asked):
        return Finding("torch threads", False, f"CSPKIT_THREADS is {asked!r}: expected 1, 2, ...")
    return Finding("torch threads", True, f"{asked} of {os.cpu_count()} cores")


def _memory() -> Finding:
    label = f"memory, at least {MEMORY_GB:g} GB"
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    except (ValueError, OSError, AttributeError):
        return Finding(label, True, "this system does not tell")
    return Finding(label, total >= MEMORY_GB, f"{total:.1f} GB")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    return Finding(f"disk, at least {DISK_GB:g} GB free here", free >= DISK_GB, f"{free:.1f} GB")


def _data() -> list[Finding]:
    return [_checksums("corpus checksum", "digits"), _checksums("dense checkpoint", "models")]


def _checksums(requirement: str, folder: str) -> Finding:
    try:
        from cspkit.asr.corpus import data_folder, verify_checksums

        verify_checksums(data_folder() / folder)
    except (ImportError, OSError, ValueError) as error:
        return Finding(requirement, False, str(error))
    return Finding(requirement, True, "as recorded")


def _kernel() -> Finding:
    try:
        from jupyter_client.kernelspec import KernelSpecManager
    except ImportError as error:
        return Finding("Jupyter kernel python3", False, str(error))
    names = KernelSpecManager().find_kernel_specs()
    found = ", ".join(sorted(names)) or "none; run `make install`"
    return Finding("Jupyter kernel python3", "python3" in names, found)
