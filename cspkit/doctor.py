"""Checks of `cspkit doctor`: does this machine have what cspkit and its notebooks need?"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

MEMORY_GB = 4.0
DISK_GB = 1.0
MISSING = "not installed"
EXTRAS = {
    "study": "comparisons",
    "scale": "pieces of words, downloads and clusters",
    "teach": "notebooks and `cspkit compare`",
}


class Finding(NamedTuple):
    """One requirement, whether it is met, and what was found."""

    requirement: str
    ok: bool
    found: str


def examine() -> list[Finding]:
    """Check Python, packages, threads, memory, disk, data and kernel; change nothing."""
    return [_python(), *_packages(), _threads(), _memory(), _disk(), *_data(), _kernel()]


def _python() -> Finding:
    return Finding("Python 3.11 or later", sys.version_info >= (3, 11), sys.version.split()[0])


def _packages() -> list[Finding]:
    """One finding for each package of the core, and one for each extra."""
    try:
        from packaging.requirements import Requirement

        requirements = [*map(Requirement, importlib.metadata.requires("cspkit") or [])]
    except ImportError as error:  # packaging or the metadata of cspkit is missing
        return [Finding("packages", False, f"{error}; install cspkit with pip or `make install`")]
    core: list[Finding] = []
    extras: dict[str, list[Finding]] = {extra: [] for extra in EXTRAS}
    for requirement in requirements:
        marker = requirement.marker
        if marker is None or marker.evaluate({"extra": ""}):
            core.append(_package(requirement.name, requirement.specifier))
            continue
        for extra, members in extras.items():
            if marker.evaluate({"extra": extra}) and requirement.name != "cspkit":
                members.append(_package(requirement.name, requirement.specifier))
    return core + [_extra(*extra) for extra in extras.items()]


def _package(name, specifier) -> Finding:
    label = f"{name} {specifier}"
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(label, False, MISSING)
    return Finding(label, specifier.contains(version, True), version)


def _extra(name: str, members: list[Finding]) -> Finding:
    """Packages of an extra may be missing, but must not have a wrong version."""
    label = f"cspkit[{name}], optional, for {EXTRAS[name]}"
    lacking = [f"{member.requirement}: {member.found}" for member in members if not member.ok]
    ok = all(member.ok or member.found == MISSING for member in members)
    return Finding(label, ok, "; ".join(lacking) or "installed")


def _threads() -> Finding:
    try:
        from cspkit.threads import threads_asked

        return Finding("torch threads", True, f"{threads_asked()} of {os.cpu_count()} cores")
    except (ImportError, ValueError) as error:
        return Finding("torch threads", False, str(error))


def _memory() -> Finding:
    label = f"memory, at least {MEMORY_GB:g} GB"
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    except (ValueError, OSError, AttributeError):
        return Finding(label, True, "not known on this system")
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
    label = "Jupyter kernel python3"
    try:
        from jupyter_client.kernelspec import KernelSpecManager
    except ImportError:
        return Finding(label, True, f"{MISSING} (optional, for the notebooks)")
    names = sorted(KernelSpecManager().find_kernel_specs())
    found = ", ".join(names) or "none; install ipykernel with pip or `make install`"
    return Finding(label, "python3" in names, found)
