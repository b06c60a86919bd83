"""How a process ends: what it owes is done, its objects are not taken apart."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# A process that owes something: a thread that is still at work when the main one has ended, a function for the exit, what
# was printed and not yet written; and an object whose end would be told, which nobody but Python's own end would bring
# about.
OWING = """
import atexit, sys, threading, time

class Told:
    def __del__(self, make=open): make("freed", "w").close()

def work():
    while threading.main_thread().is_alive(): time.sleep(0.01)
    time.sleep(0.2)
    open("thread", "w").close()

told = Told()
told.itself = told
threading.Thread(target=work).start()
atexit.register(lambda: open("exit", "w").close())
# The first goes out at once, for it fills the buffer.
print("x" * 99_000, end="")
print("x" * 1_000, end="")
"""
PROGRAM = "from deponij import cli; cli.main = lambda: sys.exit({status}); cli.program()"


def ended(folder: Path, code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """What became of a process that runs `code` in `folder`."""
    command = [sys.executable, *arguments, "-c", code]
    # Where this is set nothing waits to be written.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        command, check=False, cwd=folder, env=env, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(("status", "expected"), [("0", 0), ("", 0), ("3", 3), ("2", 2)])
def test_what_is_owed_is_done(tmp_path: Path, status: str, expected: int) -> None:
    found = ended(tmp_path, OWING + PROGRAM.format(status=status))
    assert (found.returncode, found.stderr) == (expected, "")
    assert found.stdout == "x" * 100_000
    assert {path.name for path in tmp_path.iterdir()} == {"thread", "exit"}


def test_exit_functions_run_when_the_threads_have_ended(tmp_path: Path) -> None:
    """As at Python's own end: they may take away what a thread is still at work with."""
    code = OWING + "atexit.register(lambda: open('thread').close())\n" + PROGRAM.format(status="0")
    found = ended(tmp_path, code)
    assert (found.returncode, found.stderr) == (0, "")


def test_a_line_without_its_end_is_written(tmp_path: Path) -> None:
    found = ended(tmp_path, OWING + "sys.stderr.write('half')\n" + PROGRAM.format(status="0"))
    assert (found.returncode, found.stderr) == (0, "half")


def test_a_debugger_sees_python_end_as_usual(tmp_path: Path) -> None:
    code = OWING + "sys.settrace(lambda *_: None)\n" + PROGRAM.format(status="3")
    assert ended(tmp_path, code).returncode == 3
    assert (tmp_path / "freed").exists()


def test_a_message_as_status_is_printed(tmp_path: Path) -> None:
    found = ended(tmp_path, OWING + PROGRAM.format(status="'why'"))
    assert (found.returncode, found.stderr) == (1, "why\n")
    assert (tmp_path / "freed").exists(), "Python frees what there is where it ends as usual"


def test_an_exception_ends_as_ever(tmp_path: Path) -> None:
    found = ended(tmp_path, "from deponij import cli; cli.main = lambda: 1 / 0; cli.program()")
    assert found.returncode == 1 and "ZeroDivisionError" in found.stderr


def test_what_watches_a_process_writes_what_it_saw(tmp_path: Path) -> None:
    (tmp_path / "owing.py").write_text(OWING + PROGRAM.format(status="0"))
    watched = [sys.executable, "-m", "cProfile", "-o", "seen", "owing.py"]
    subprocess.run(watched, cwd=tmp_path, check=True, capture_output=True, timeout=120)
    assert (tmp_path / "seen").stat().st_size > 0 and (tmp_path / "thread").exists()


def test_a_closed_pipe_is_told_as_ever(tmp_path: Path) -> None:
    """The reader is gone before anything is written; Python's own status of that is 120."""
    code = OWING + PROGRAM.format(status="0")
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    told = process.stderr.read()
    assert process.wait(120) in (1, 120) and "BrokenPipe" in told


@pytest.mark.parametrize("closed", ["2>&-", ">&-"])
def test_streams_that_were_closed_at_the_start_change_no_status(tmp_path: Path, closed: str) -> None:
    code = PROGRAM.format(status="0")
    command = f'"$0" -c "import sys; {code}" {closed}'
    subprocess.run(["sh", "-c", command, sys.executable], check=True, cwd=tmp_path, timeout=120)


def test_ctrl_c_while_threads_are_awaited_changes_no_status(tmp_path: Path) -> None:
    holding = (
        "import sys, threading; e = threading.Event(); threading.Thread(target=e.wait, args=(60,)).start()\n"
    )
    # Once the wait has begun; the thread ends thereafter.
    patched = (
        "import signal, os\nreal = threading._shutdown\n"
        "def shutdown():\n    threading._shutdown = lambda: (e.set(), real())\n    raise KeyboardInterrupt\n"
        "threading._shutdown = shutdown\n"
    )
    found = ended(tmp_path, holding + patched + PROGRAM.format(status="0"))
    assert (found.returncode, found.stderr) == (0, "")


def test_a_copy_of_a_distant_depot_goes_with_a_process_that_failed(tmp_path: Path) -> None:
    (tmp_path / "temporary").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    command = [sys.executable, "-m", "deponij.cli", "depot", "info", "memory://nothing"]
    found = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=120)
    assert found.returncode != 0 and "error: " in found.stderr
    assert list((tmp_path / "temporary").glob("deponij-*")) == []


@pytest.mark.parametrize("is_program", [True, False])
def test_a_stage_ends_its_process_where_it_is_the_program(tmp_path: Path, is_program: bool) -> None:
    (tmp_path / "params.yaml").write_text("profile: p\n")
    body = (
        "from deponij.project.frame.harness import run_stage\n"
        "from deponij.project.frame.settings import Section\n"
        f"def {'main' if is_program else 'body'}(values, at, options): print('done', end='')\n"
        f"run_stage('none', Section, {'main' if is_program else 'body'})\n"
    )
    found = ended(tmp_path, OWING + body + "open('later', 'w').close()")
    assert found.returncode == 0, found.stderr
    assert found.stdout.endswith("done")
    names = {path.name for path in tmp_path.iterdir()}
    assert ("later" in names) != is_program and {"thread", "exit"} <= names


def test_a_stage_run_within_another_program_leaves_that_alone(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("profile: p\n")
    (tmp_path / "stage.py").write_text(
        "from deponij.project.frame.harness import run_stage\n"
        "from deponij.project.frame.settings import Section\n"
        "def main(values, at, options): print('done', end='')\n"
        "if __name__ == '__main__': run_stage('none', Section, main)\n"
    )
    found = ended(tmp_path, "import runpy; runpy.run_module('stage', run_name='__main__'); print(', and on')")
    assert (found.returncode, found.stdout) == (0, "done, and on\n"), found.stderr
