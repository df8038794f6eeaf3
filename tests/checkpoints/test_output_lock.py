"""One process at a time writes an output, and what a killed process left is removed by the next one."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.checkpoints.models import assert_same_model, small_model
from tinyslm import load, save
from tinyslm.checkpoints import (
    atomic_file,
    check_new_directory,
    file_lock,
    output_lock,
    remove_directory,
    remove_leftovers,
)
from tinyslm.checkpoints.file_lock import LockHeld, lock_file
from tinyslm.checkpoints.output_lock import _lock_path
from tinyslm.errors import Error

ROOT = Path(__file__).parents[2]
POSIX = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
WRITE = """
import sys, time
from tinyslm.checkpoints import atomic_directory, atomic_file, output_lock
with {context} as _:
    print("ready", flush=True)
    time.sleep(60)
"""


@contextlib.contextmanager
def process_in(context, place):
    """A process that stays inside of `with context`, in a directory. It is killed at the end if it lives."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE.format(context=context)],
        cwd=place,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout.readline() == b"ready" + os.linesep.encode()
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_the_second_process_is_refused_and_touches_nothing(tmp_path):
    with process_in("output_lock('out')", tmp_path) as process:
        assert names(tmp_path) == [".out.lock"]
        with (
            pytest.raises(Error, match=rf"out: another process \({process.pid}\) is writing it; wait"),
            output_lock(tmp_path / "out"),
        ):
            pass
        assert names(tmp_path) == [".out.lock"]
        with output_lock(tmp_path / "other"):  # another output in the same directory
            assert names(tmp_path) == [".other.lock", ".out.lock"]


@POSIX
def test_a_killed_owner_blocks_nobody(tmp_path):
    with process_in("output_lock('out')", tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert names(tmp_path) == [".out.lock"]
        (tmp_path / ".out.lock").write_text("1" * 50)  # longer than the next content
        with output_lock(tmp_path / "out"):
            assert (tmp_path / ".out.lock").read_text() == str(os.getpid())
        assert names(tmp_path) == []


@pytest.mark.parametrize("problem", [KeyboardInterrupt, ValueError, OSError])
def test_the_lock_is_released_by_every_exception(tmp_path, problem):
    with pytest.raises(problem), output_lock(tmp_path / "deep" / "er" / "out"):
        assert names(tmp_path / "deep" / "er") == [".out.lock"]
        raise problem
    assert names(tmp_path) == []
    with output_lock(tmp_path / "deep" / "out"):
        (tmp_path / "deep" / "out").mkdir()
    assert names(tmp_path / "deep") == ["out"]  # a parent that is used is kept


def test_threads_exclude_each_other(tmp_path):
    refused = []

    def enter():
        try:
            with output_lock(tmp_path / "out"):
                pass
        except Error as problem:
            refused.append(str(problem))

    with output_lock(tmp_path / "out"):
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
    assert len(refused) == 1 and f"({os.getpid()})" in refused[0]
    enter()
    assert len(refused) == 1


@pytest.mark.parametrize("name", ["out/", "./out", "x/../out", "link", "link/"])
def test_all_names_of_an_output_have_one_lock(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "x").mkdir()
    with contextlib.suppress(OSError):  # Windows needs a privilege
        (tmp_path / "link").symlink_to("out", target_is_directory=True)
    if name.startswith("link") and not (tmp_path / "link").exists():
        pytest.skip("no symbolic links here")
    with output_lock(tmp_path / "out"), pytest.raises(Error, match="is writing it"), output_lock(name):
        pass


def test_the_current_directory(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with output_lock("."):
        assert names(tmp_path) == [".here.lock", "here"]
        assert names(tmp_path / "here") == []


def test_a_directory_whose_parent_cannot_be_written_holds_its_own_lock(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with output_lock(tmp_path / "out"):
        assert names(tmp_path / "out") == [".lock"]
    assert names(tmp_path / "out") == []
    assert _lock_path(Path("/").resolve()).parent == Path("/").resolve()


def test_a_parent_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    with (
        pytest.raises(Error, match=r"below: cannot be written \(.*file is not a writable directory\)"),
        output_lock(tmp_path / "file" / "below"),
    ):
        pass
    monkeypatch.setattr(os, "access", lambda path, mode: False)

    def refuse(*arguments):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(file_lock.os, "open", refuse)
    with (
        pytest.raises(Error, match=r"out: cannot be written \(.* is not a writable directory\)"),
        output_lock(tmp_path / "out"),
    ):
        pass


def test_the_root_directory_is_not_new():
    with pytest.raises(Error, match=r"exists already|is not a writable directory"):
        check_new_directory(Path("/").resolve())


def without_locks(descriptor, operation):
    raise OSError(errno.ENOLCK, "No locks available")


@POSIX
def test_a_file_system_without_locks(tmp_path, monkeypatch):
    import fcntl

    (tmp_path / ".out.0123abcd.partial").write_text("of a process that may be alive")
    monkeypatch.setattr(fcntl, "flock", without_locks)
    with output_lock(tmp_path / "out"), output_lock(tmp_path / "out"), atomic_file(tmp_path / "out") as file:
        file.write(b"content")
    assert names(tmp_path) == [".out.0123abcd.partial", "out"]


@POSIX
def test_another_error_of_locking_is_reported(tmp_path, monkeypatch):
    import fcntl

    def broken(descriptor, operation):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", broken)
    with (
        pytest.raises(Error, match=r"out: cannot be written \(.*\.out\.lock: Input/output error\)"),
        output_lock(tmp_path / "out"),
    ):
        pass


@POSIX
@pytest.mark.parametrize("flag", [True, False])
def test_a_lock_file_that_is_a_link_is_not_followed(tmp_path, monkeypatch, flag):
    """Windows does not have the flag."""
    if not flag:
        monkeypatch.delattr(os, "O_NOFOLLOW")
    (tmp_path / "precious").write_text("mine")
    (tmp_path / ".out.lock").symlink_to("precious")
    with pytest.raises(Error, match=r"\.out\.lock"), output_lock(tmp_path / "out"):
        pass
    assert (tmp_path / "precious").read_text() == "mine"
    if flag:
        (tmp_path / "precious").unlink()
        with pytest.raises(Error, match=r"\.out\.lock"), output_lock(tmp_path / "out"):
            pass
        assert names(tmp_path) == [".out.lock"]


@POSIX
def test_a_lock_file_that_the_last_owner_removed_is_not_used(tmp_path, monkeypatch):
    """The last owner removes the file after it was opened and before it is locked."""
    import fcntl

    path, usual = tmp_path / "lock", fcntl.flock

    def remove_first(descriptor, operation):
        monkeypatch.setattr(fcntl, "flock", usual)
        path.unlink()
        usual(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    with lock_file(path):
        assert path.exists()
        with pytest.raises(LockHeld), lock_file(path):
            pass


def test_the_lock_file_of_another_owner_is_not_removed(tmp_path):
    path = tmp_path / "lock"
    with lock_file(path):
        if os.name == "nt":
            pytest.skip("Windows does not remove an open file")
        path.unlink()
        path.write_text("of another owner")
    assert path.read_text() == "of another owner"


CONTEXTS = {"file": "atomic_file('target')", "directory": "atomic_directory('target')"}


@POSIX
@pytest.mark.parametrize("kind", CONTEXTS)
def test_temporaries_of_dead_processes_are_removed_and_those_of_living_ones_kept(tmp_path, kind):
    with process_in(CONTEXTS[kind], tmp_path) as process:
        before = names(tmp_path)
        assert len(before) == 2 and before[1] == before[0] + ".lock"
        save(tmp_path / "target", small_model("llama"))
        remove_leftovers(tmp_path)
        assert names(tmp_path) == [*before, "target"]
        process.send_signal(signal.SIGKILL)
        process.wait()
        remove_leftovers(tmp_path, "other")
        assert names(tmp_path) == [*before, "target"]
        with pytest.raises(Error, match="exists already"):
            save(tmp_path / "target", small_model("gpt2"))
        assert names(tmp_path) == ["target"]
        assert_same_model(load(tmp_path / "target")[0], small_model("llama"))


@POSIX
@pytest.mark.parametrize("target", ["target", "other"])
def test_an_output_lock_removes_leftovers_beside_and_inside(tmp_path, target):
    (tmp_path / "target").mkdir()
    for place in (tmp_path, tmp_path / "target"):
        with process_in(CONTEXTS["directory"].replace("target", target), place):
            pass
        assert len(names(place)) >= 2
    beside = [name for name in names(tmp_path) if name.startswith(".other")]
    with output_lock(tmp_path / "target"):
        assert names(tmp_path) == sorted([*beside, ".target.lock", "target"])
        assert names(tmp_path / "target") == []


@pytest.mark.parametrize(
    "name", [".target.0123abcd.partial", ".target.0123abcd.partial.lock", ".target.0123ABCD.partial", "target.partial"]
)
def test_only_names_of_temporaries_are_removed(tmp_path, name):
    (tmp_path / name).write_text("")
    with atomic_file(tmp_path / "target") as file:
        file.write(b"new")
    removed = name.startswith(".target.0123abcd.partial")
    assert names(tmp_path) == sorted(["target"] + [name] * (not removed))


def test_a_lock_file_of_a_new_temporary_that_is_taken_for_a_leftover(tmp_path, monkeypatch):
    """Another process holds the lock of the first name, to remove it; then a second name is used."""
    tokens = iter(["00000000", "11111111"])
    monkeypatch.setattr("tinyslm.checkpoints.atomic_write.secrets.token_hex", lambda count: next(tokens))
    with lock_file(tmp_path / ".target.00000000.partial.lock"), atomic_file(tmp_path / "target") as file:
        assert ".target.11111111.partial" in names(tmp_path)
        file.write(b"new")
    assert names(tmp_path) == ["target"]


def test_removing_a_directory_moves_it_first(tmp_path, monkeypatch):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "file").write_text("")
    seen = []
    usual = os.replace
    monkeypatch.setattr(os, "replace", lambda source, target: (usual(source, target), seen.append(names(tmp_path))))
    remove_directory(tmp_path / "old")
    ((moved, lock),) = seen
    assert moved.startswith(".old.") and lock == moved + ".lock"
    assert names(tmp_path) == []
    with pytest.raises(Error, match="old: cannot be removed"):
        remove_directory(tmp_path / "old")
