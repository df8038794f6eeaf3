"""What is recorded of the computer of a measurement."""

import platform
import subprocess

import pytest

from tinyslm.evaluation import machine

X86 = "processor\t: 0\ncpu family\t: 6\nmodel\t\t: 85\nmodel name\t: Intel(R) Xeon(R)  Gold\nstepping\t: 7\n"
POWER = "processor\t: 0\ncpu\t\t: POWER9, altivec supported\nclock\t\t: 3800MHz\n"
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n"


@pytest.mark.parametrize(
    ("text", "name"), [(X86, "Intel(R) Xeon(R)  Gold"), (POWER, "POWER9, altivec supported"), (ARM, ""), ("", "")]
)
def test_the_name_in_cpuinfo(text, name):
    assert machine.name_in_cpuinfo(text) == name


def named(monkeypatch, name_by_system):
    monkeypatch.setattr(machine, "_name_by_system", name_by_system)
    machine.processor_name.cache_clear()
    try:
        return machine.processor_name()
    finally:
        machine.processor_name.cache_clear()


def test_the_name_is_one_line_and_never_missing(monkeypatch):
    assert named(monkeypatch, lambda: " A  Processor\n") == "A Processor"

    def fail_with(error):
        def fail():
            raise error

        return fail

    expected = platform.processor() or platform.machine()
    assert expected
    assert named(monkeypatch, lambda: "") == expected
    assert named(monkeypatch, fail_with(FileNotFoundError("sysctl"))) == expected
    assert named(monkeypatch, fail_with(subprocess.TimeoutExpired("sysctl", 5))) == expected


def test_names_of_the_matrix_libraries():
    openblas = {"user_api": "blas", "internal_api": "openblas", "version": "0.3.30", "architecture": "SkylakeX"}
    mkl = {"user_api": "blas", "internal_api": "mkl", "version": None}
    openmp = {"user_api": "openmp", "internal_api": "openmp", "version": None}
    assert machine.blas_names([openblas, openmp, openblas, mkl]) == ["MKL", "OpenBLAS 0.3.30, SkylakeX"]
    (name,) = machine.blas_names([openmp])  # from NumPy's own record
    assert name


def test_this_computer():
    found = machine.describe_machine()
    assert found["machine"] == platform.machine() and found["threads"] >= 1
    assert found["processor"] and found["blas"] and all(isinstance(name, str) for name in found["blas"])
