"""The computer of a measurement: processor, threads and matrix library (BLAS). Speeds depend on all three."""

import functools
import platform
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import scipy.linalg  # noqa: F401 - loads SciPy's own BLAS
from threadpoolctl import threadpool_info

from tinyslm.runtime import default_threads

REGISTRY_KEY = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"  # on Windows
INTERNAL_NAMES = {"openblas": "OpenBLAS", "mkl": "MKL", "blis": "BLIS", "flexiblas": "FlexiBLAS"}


def describe_machine() -> dict:
    """{"processor": its name, "machine": its architecture, "threads": number, "blas": names of the libraries}."""
    return {
        "processor": processor_name(),
        "machine": platform.machine(),
        "threads": default_threads(),
        "blas": blas_names(threadpool_info()),
    }


@functools.cache
def processor_name() -> str:
    """The processor's name as the operating system states it; its architecture if there is none."""
    try:
        name = _name_by_system()
    except (OSError, subprocess.SubprocessError):
        name = ""
    return " ".join(name.split()) or platform.processor() or platform.machine()


def _name_by_system():
    if sys.platform == "win32":
        import winreg

        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, REGISTRY_KEY) as key:
            return str(winreg.QueryValueEx(key, "ProcessorNameString")[0])
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, timeout=5).stdout
    return name_in_cpuinfo(Path("/proc/cpuinfo").read_text(errors="replace"))


def name_in_cpuinfo(text: str) -> str:
    """The name in the text of Linux's /proc/cpuinfo, or "". Its key differs between architectures."""
    found = re.search(r"^(?:model name|Model|cpu)\s*:\s*(\S.*)$", text, re.MULTILINE)
    return found[1] if found else ""


def blas_names(libraries) -> list[str]:
    """Name, version and kernel of each matrix library: "OpenBLAS 0.3.30, SkylakeX".

    libraries: result of `threadpool_info`. It does not know Apple's Accelerate; then the name is NumPy's.
    """
    names = []
    for library in libraries:
        if library["user_api"] == "blas":
            name = INTERNAL_NAMES.get(library["internal_api"], library["internal_api"])
            kernel = f", {library['architecture']}" if library.get("architecture") else ""
            names.append(f"{name} {library['version'] or ''}".strip() + kernel)
    if not names:
        names = [np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"]]
    return sorted(set(names))  # their order differs between processes
