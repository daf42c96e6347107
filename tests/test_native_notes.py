import os
import subprocess
import sys

import pytest

from heartseg.native_notes import ask_for_errors_only

START = """
import os, sys, threading
from heartseg.errors import DataError
from heartseg.native_notes import native_notes_hidden

def note(text):
    os.write(2, text.encode())
"""


def run(script):
    """Run a script as a user would, with streams of its own; return its stderr."""
    ran = subprocess.run(
        [sys.executable, "-c", START + script], capture_output=True, text=True, timeout=60
    )
    return ran.stderr


def test_notes_are_hidden_and_what_python_writes_is_not():
    stderr = run("""
note("before ")
with native_notes_hidden():
    note("NOTE ")
    print("progress", end=" ", file=sys.stderr)
note("after")
print("", file=sys.stderr)
""")
    assert stderr == "before progress after\n"


def test_nested_blocks_end_with_the_first_one():
    stderr = run("""
with native_notes_hidden():
    with native_notes_hidden():
        note("NOTE ")
    note("NOTE ")
note("after")
""")
    assert stderr == "after"


def test_blocks_of_threads_that_overlap_leave_stderr_as_it_was():
    stderr = run("""
first_is_in, second_is_in, first_is_out = (threading.Event() for _ in range(3))

def first():
    with native_notes_hidden():
        first_is_in.set()
        second_is_in.wait(10)
    first_is_out.set()

def second():
    first_is_in.wait(10)
    with native_notes_hidden():
        second_is_in.set()
        first_is_out.wait(10)
        note("NOTE ")

threads = [threading.Thread(target=work) for work in (first, second)]
for thread in threads: thread.start()
for thread in threads: thread.join()
note("after ")
print("and after", file=sys.stderr)
""")
    assert stderr == "after and after\n"


@pytest.mark.parametrize(
    ("error", "shown"),
    [("ZeroDivisionError()", True), ("DataError('x')", False), ("KeyboardInterrupt()", False)],
)
def test_notes_are_shown_once_before_an_error_that_is_a_bug(error, shown):
    stderr = run(f"""
try:
    with native_notes_hidden():
        with native_notes_hidden():
            note("NOTE ")
            raise {error}
except BaseException:
    note("after")
""")
    assert stderr == ("NOTE after" if shown else "after")


@pytest.mark.skipif(sys.platform == "win32", reason="closes a POSIX descriptor")
def test_a_process_without_stderr_goes_on():
    script = START + "os.close(2)\nwith native_notes_hidden(): print('done')\nos._exit(0)"
    ran = subprocess.run(
        [sys.executable, "-u", "-c", script], capture_output=True, text=True, timeout=60
    )
    assert ran.stdout == "done\n"


def test_what_is_set_in_the_environment_stays(monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    monkeypatch.delenv("GRPC_VERBOSITY", raising=False)

    ask_for_errors_only()

    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
    assert os.environ["GRPC_VERBOSITY"] == "ERROR"
