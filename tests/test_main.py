"""``python -m txasync``: a program cannot tell that it was not ``python`` that began it, except by its event loop."""

from __future__ import annotations

import os
import py_compile
import queue
import re
import signal
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple

import pytest
import twisted

import txasync

LIMIT_S = 60.0
PYTHON = [sys.executable, "-W", "error"]
LAUNCHER = [*PYTHON, "-m", "txasync"]
ROOT = Path(txasync.__file__).parent.parent
CLASSES = {
    "txasync": "SharedEPollReactor",
    "epoll": "EPollReactor",
    "poll": "PollReactor",
    "select": "SelectReactor",
}
REACTORS = ["txasync", "epoll", "select"]

# Where the frames of a traceback may differ: between the program's call of asyncio and asyncio's call of the program.
MACHINERY = re.compile(r'  File "(<frozen runpy>|[^"]*/(asyncio|txasync|twisted|runpy\.py|selectors\.py)[/"])')


class Ended(NamedTuple):
    """How a process ended."""

    returncode: int
    stdout: str
    stderr: str


class Child:
    """
    A child process whose output can be waited for.

    Args:
        command: The command line.
        directory: The working directory.
        paths: Directories of modules, besides that of txasync.
    """

    def __init__(self, command: list[str], directory: Path, paths: tuple[Path, ...] = ()) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        environment["PYTHONPATH"] = os.pathsep.join(map(str, [*paths, ROOT]))
        self._process = subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A test run in the background of a shell ignores SIGINT, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self._stdout: queue.Queue[str | None] = queue.Queue()
        self._stderr: queue.Queue[str | None] = queue.Queue()
        self._readers = [
            threading.Thread(target=_read_lines, args=(self._process.stdout, self._stdout)),
            threading.Thread(target=_read_lines, args=(self._process.stderr, self._stderr)),
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join()

    def line(self) -> str:
        """The next line on stdout, without its end; "" when stdout is at its end."""
        return (self._stdout.get(timeout=LIMIT_S) or "").rstrip("\n")

    def interrupt(self) -> None:
        """What Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)

    def end(self) -> Ended:
        """Wait for the end of the process; the output is what has not been asked for before."""
        stdout, stderr = _rest(self._stdout), _rest(self._stderr)
        return Ended(self._process.wait(LIMIT_S), stdout, stderr)


def _read_lines(pipe: IO[str], lines: queue.Queue[str | None]) -> None:
    with pipe:
        for line in pipe:
            lines.put(line)
    lines.put(None)


def _rest(lines: queue.Queue[str | None]) -> str:
    return "".join(iter(lambda: lines.get(timeout=LIMIT_S) or "", ""))


def ended(command: list[str], directory: Path, *paths: Path) -> Ended:
    with Child(command, directory, paths) as child:
        return child.end()


def without_machinery(stderr: str) -> str:
    """*stderr* without the traceback entries of asyncio, txasync, Twisted and runpy."""
    kept = []
    dropping = False
    for line in stderr.splitlines():
        if line.startswith("  File "):
            dropping = MACHINERY.match(line) is not None
        elif not line.startswith("    "):
            dropping = False
        if not dropping:
            kept.append(line)
    return "\n".join(kept)


def assert_same(target: list[str], directory: Path, python: list[str] = PYTHON) -> Ended:
    """Run *target* by *python* and by the launcher; what can be seen of the two is equal."""
    stock = ended([*python, *target], directory)
    launched = ended([*python, "-m", "txasync", *target], directory)
    assert launched.stdout == stock.stdout
    assert without_machinery(launched.stderr) == without_machinery(stock.stderr)
    assert launched.returncode == stock.returncode
    return launched


SHOW = """
import sys
import __main__
print(__name__, sys.argv, sys.path[0], __file__, __package__, type(__loader__).__name__, __doc__)
print(__main__ is sys.modules["__main__"], __main__.__dict__ is globals(), getattr(__spec__, "name", None))
print(sorted(name for name in globals() if name.startswith("__")))
"""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A directory with one program in all its forms."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "show.py").write_text(SHOW)
    (tmp_path / "link.py").symlink_to(tmp_path / "scripts" / "show.py")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "package" / "__main__.py").write_text(SHOW)
    (tmp_path / "package" / "inner.py").write_text(SHOW)
    (tmp_path / "nothing_to_run").mkdir()
    (tmp_path / "nothing_to_run" / "__init__.py").write_text("")
    (tmp_path / "fails.py").write_text("import package\n\n\ndef fail():\n    1 / 0\n\n\nfail()\n")
    (tmp_path / "imports.py").write_text("import fails\n")
    (tmp_path / "wrong.py").write_text("x = (\n")
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("__main__.py", SHOW)
    py_compile.compile(str(tmp_path / "scripts" / "show.py"), str(tmp_path / "compiled.pyc"), "show.py", doraise=True)
    return tmp_path


@pytest.mark.parametrize(
    "target",
    [
        ["scripts/show.py"],
        ["./scripts/show.py", "argument", "--reactor", "none", "--help", "-m", "--"],
        ["scripts/../link.py", "--"],
        ["package", "-x"],
        ["package/"],
        ["archive.zip", "argument"],
        ["-m", "package", "--help", "--", "argument"],
        ["-m", "package.inner"],
        ["-mpackage.inner", "argument", "-m"],
    ],
    ids=" ".join,
)
def test_a_program_sees_its_own_name_arguments_and_path(programs: Path, target: list[str]) -> None:
    """__main__, sys.argv and sys.path[0] are what they are without the launcher, for every form of program."""
    launched = assert_same(target, programs)
    assert launched.stdout.startswith("__main__ [")
    assert launched.stderr == ""


@pytest.mark.skipif(sys.version_info < (3, 11), reason="python -P is new in Python 3.11")
@pytest.mark.parametrize("target", [["scripts/show.py"], ["package"], ["-m", "package"]], ids=" ".join)
def test_a_safe_path_stays_safe(programs: Path, target: list[str]) -> None:
    """Under ``python -P``, only a directory or zip file that is run itself is put on sys.path."""
    stock = Child([*PYTHON, "-P", *target], programs, (programs,))
    launched = Child([*PYTHON, "-P", "-m", "txasync", *target], programs, (programs,))
    with stock, launched:
        assert launched.end() == stock.end()


def test_a_compiled_script_runs(programs: Path) -> None:
    """A .pyc is a script as well."""
    script = "import sys; print(__name__, sys.argv, __file__, type(__loader__).__name__)"
    (programs / "script.py").write_text(script)
    py_compile.compile(str(programs / "script.py"), str(programs / "compiled.pyc"), doraise=True)
    assert assert_same(["compiled.pyc", "argument"], programs).stdout.startswith("__main__ ['compiled.pyc', 'arg")


@pytest.mark.parametrize(
    "target",
    [
        ["absent.py"],
        ["./absent.py"],
        ["absent/"],
        ["nothing_to_run"],
        ["-m", "absent"],
        ["-m", "package.absent"],
        ["-m", "nothing_to_run"],
        ["-m", "package.py"],
        ["-m", "wrong"],
        ["-m", "fails"],
        ["-m", "imports"],
        ["wrong.py"],
        ["fails.py"],
        ["imports.py"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_run_or_fails_is_told_as_python_tells_it(programs: Path, target: list[str]) -> None:
    """The message, or the traceback, and the exit code are python's own."""
    launched = assert_same(target, programs)
    assert launched.returncode in (1, 2)
    assert "txasync" not in launched.stderr
    assert "runpy" not in launched.stderr


ENDINGS = {
    "falls off the end": "print('done')",
    "sys.exit()": "import sys; sys.exit()",
    "sys.exit(3)": "import sys; sys.exit(3)",
    "sys.exit('message')": "import sys; sys.exit('message')",
    "exit in a coroutine": "import asyncio, sys\nasync def main(): sys.exit(4)\nasyncio.run(main())",
    "exit in a callback": """
import asyncio, sys
async def main():
    asyncio.get_running_loop().call_soon(sys.exit, 5)
    await asyncio.sleep(60)
asyncio.run(main())
""",
    "os._exit(6)": "import os; os._exit(6)",
    "exception": "def f(x):\n    return 1 / x\n\nf(0)",
    "exception in a coroutine": """
import asyncio
async def inner():
    raise LookupError("not there")
async def main():
    await asyncio.gather(inner())
asyncio.run(main())
""",
    "chained exceptions": """
import asyncio
async def main():
    try:
        1 / 0
    except ZeroDivisionError as error:
        raise ValueError("because of that") from error
try:
    asyncio.run(main())
except ValueError:
    raise LookupError("and then this")
""",
    "exception without traceback entries in the program": "import asyncio; asyncio.run(None)",
    "KeyboardInterrupt": "import atexit; atexit.register(print, 'bye'); raise KeyboardInterrupt",
    "own excepthook": """
import sys, traceback
def hook(kind, error, trace):
    print(kind, error, [entry.name for entry in traceback.extract_tb(trace)], error.__traceback__ is trace)
sys.excepthook = hook
def f():
    raise ValueError("x")
f()
""",
    "an exception that an atexit callback looks at": """
import atexit, sys, traceback
hook = sys.excepthook
def look():
    print(sys.last_type, len(traceback.extract_tb(sys.last_traceback)), sys.excepthook is hook)
atexit.register(look)
raise ValueError("x")
""",
}


@pytest.mark.parametrize("ending", list(ENDINGS))
def test_a_program_ends_as_it_does_under_python(tmp_path: Path, ending: str) -> None:
    """The exit code, what is printed, and whether the process dies of a signal, do not change."""
    (tmp_path / "script.py").write_text(ENDINGS[ending])
    assert_same(["script.py"], tmp_path)


@pytest.mark.parametrize("ending", ["exception", "own excepthook", "KeyboardInterrupt"])
def test_a_traceback_is_the_same_to_the_last_byte(tmp_path: Path, ending: str) -> None:
    """Without asyncio on the stack there is nothing in a traceback that could differ."""
    (tmp_path / "script.py").write_text(ENDINGS[ending])
    stock = ended([*PYTHON, "script.py"], tmp_path)
    assert ended([*LAUNCHER, "script.py"], tmp_path) == stock
    assert stock.stderr or stock.stdout


def test_what_outlives_the_main_module_still_finds_it(tmp_path: Path) -> None:
    """Threads, atexit callbacks and pickles find the program's classes in ``__main__`` to the end."""
    (tmp_path / "script.py").write_text("""
import asyncio, atexit, dataclasses, pickle, sys, threading

@dataclasses.dataclass
class Point:
    x: int

def copy(where):
    point = pickle.loads(pickle.dumps(Point(1)))
    print(where, point == Point(1), sys.modules["__main__"].Point is Point, asyncio.run(asyncio.sleep(0, "ran")))

def wait_for_the_end():
    threading.main_thread().join()
    copy("thread")

atexit.register(copy, "atexit")
threading.Thread(target=wait_for_the_end).start()
copy("main")
""")
    launched = assert_same(["script.py"], tmp_path)
    assert [line.split()[0] for line in launched.stdout.splitlines()] == ["main", "thread", "atexit"]


MULTIPROCESSING = """
import asyncio, multiprocessing, sys

async def double(number):
    await asyncio.sleep(0)
    return 2 * number

def work(number):
    return asyncio.run(double(number))

if __name__ == "__main__":
    asyncio.run(asyncio.sleep(0))
    with multiprocessing.get_context(sys.argv[1]).Pool(1) as pool:
        print(pool.map(work, [1, 2, 3]))
        pool.close()
        pool.join()
    print(asyncio.run(double(4)))
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
@pytest.mark.parametrize("target", [["script.py"], ["-m", "script"]], ids=["script", "module"])
def test_multiprocessing_finds_the_program_in_its_children(tmp_path: Path, target: list[str], method: str) -> None:
    """A child process, however it is made, imports the program and runs asyncio."""
    (tmp_path / "script.py").write_text(MULTIPROCESSING)
    # Not with -W error: under it, the children of Python 3.15 itself fail in linecache.
    launched = assert_same([*target, method], tmp_path, [sys.executable])
    assert launched == Ended(0, "[2, 4, 6]\n8\n", "")


LOOPS = """
import asyncio, sys, threading
from txasync import ReactorEventLoop

async def name():
    loop = asyncio.get_running_loop()
    assert isinstance(loop, ReactorEventLoop), loop
    from twisted.internet import reactor
    whose = "process's" if loop.reactor is reactor else "own"
    return f"{whose} {type(loop.reactor).__name__}"
"""


@pytest.mark.parametrize("reactor", CLASSES)
def test_asyncio_gives_loops_on_the_reactor_that_was_named(tmp_path: Path, reactor: str) -> None:
    """asyncio.run, asyncio.Runner and asyncio.new_event_loop make loops of ours on the process's reactor."""
    script = """
print(asyncio.run(name()), asyncio.run(name(), debug=True), sep=", ")
loop = asyncio.new_event_loop()
print(loop.run_until_complete(name()))
loop.close()
if sys.version_info >= (3, 11):
    with asyncio.Runner() as runner:
        print(runner.run(name()), runner.run(name()), sep=", ")
"""
    (tmp_path / "script.py").write_text(LOOPS + script)
    launched = ended([*LAUNCHER, "--reactor", reactor, "script.py"], tmp_path)
    there = f"process's {CLASSES[reactor]}"
    runner = f"{there}, {there}\n" if sys.version_info >= (3, 11) else ""
    assert launched == Ended(0, f"{there}, {there}\n{there}\n{runner}", "")


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="from Python 3.14 on, get_event_loop() makes no loop")
def test_get_event_loop_outside_of_a_running_loop_makes_one_of_ours(tmp_path: Path) -> None:
    """In the main thread, as on that version: with its warning, or in its silence."""
    (tmp_path / "script.py").write_text("""
import asyncio, warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    loop = asyncio.get_event_loop()
assert asyncio.get_event_loop_policy().get_event_loop() is loop
print([str(warning.message) for warning in caught], loop.run_until_complete(asyncio.sleep(0, 5)))
loop.close()
asyncio.set_event_loop(None)
try:
    asyncio.get_event_loop()
except RuntimeError as error:
    print(error)
""")
    assert_same(["script.py"], tmp_path)


@pytest.mark.skipif(sys.version_info < (3, 14), reason="before Python 3.14, get_event_loop() makes a loop")
def test_get_event_loop_outside_of_a_running_loop_raises(tmp_path: Path) -> None:
    """From Python 3.14 on, there is a current loop only if one was set."""
    (tmp_path / "script.py").write_text("""
import asyncio
try:
    asyncio.get_event_loop()
except RuntimeError as error:
    print(error)
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
print(asyncio.get_event_loop() is loop)
loop.close()
""")
    assert_same(["script.py"], tmp_path)


@pytest.mark.parametrize("reactor", ["txasync", "epoll", "poll"])
def test_further_loops_have_reactors_of_their_own(tmp_path: Path, reactor: str) -> None:
    """asyncio allows any number of loops, and one per thread; a reactor can drive one."""
    (tmp_path / "script.py").write_text(
        LOOPS
        + """
first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
print(second.run_until_complete(name()))
print(first.run_until_complete(name()))
names = []
async def in_thread():
    thread = threading.Thread(target=lambda: names.append(asyncio.run(name())))
    thread.start()
    await asyncio.get_running_loop().run_in_executor(None, thread.join)
    asyncio.new_event_loop().close()
first.run_until_complete(in_thread())
print(*names)
first.close()
second.close()
print(asyncio.run(name()))
"""
    )
    launched = ended([*LAUNCHER, "--reactor", reactor, "script.py"], tmp_path)
    lines = launched.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["own", "process's", "own", "process's"]
    assert lines[3] == f"process's {CLASSES[reactor]}"
    assert (launched.returncode, launched.stderr) == (0, "")


def test_a_loop_can_be_made_while_another_kind_runs(tmp_path: Path) -> None:
    """A program that runs a loop of its own choice first gets reactors that it cannot tell from loops."""
    (tmp_path / "script.py").write_text(
        LOOPS
        + """
async def main():
    loop = asyncio.new_event_loop()
    print(type(loop).__name__)
    await asyncio.to_thread(loop.run_until_complete, asyncio.sleep(0))
    loop.close()
stock = asyncio.SelectorEventLoop()
stock.run_until_complete(main())
stock.close()
print(asyncio.run(name()))
"""
    )
    assert ended([*LAUNCHER, "--reactor", "select", "script.py"], tmp_path) == Ended(
        0, "ReactorEventLoop\nprocess's SelectReactor\n", ""
    )


def test_a_forked_child_does_not_run_its_parents_reactor(tmp_path: Path) -> None:
    """An epoll set that two processes share would tell one of them of the other's descriptors."""
    (tmp_path / "script.py").write_text(
        LOOPS
        + """
import os
print(asyncio.run(name()), flush=True)
async def main():
    child = os.fork()
    if child == 0:
        asyncio.events._set_running_loop(None)
        print(asyncio.run(name()), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    return await name()
print(asyncio.run(main()), flush=True)
if os.fork() == 0:
    print(asyncio.run(name()), flush=True)
    os._exit(0)
os.wait()
"""
    )
    launched = ended([*LAUNCHER, "--reactor", "epoll", "script.py"], tmp_path)
    assert [line.split()[0] for line in launched.stdout.splitlines()] == ["process's", "own", "process's", "own"]
    assert (launched.returncode, launched.stderr) == (0, "")


# "ready" is printed when main() waits already. asyncio's own loop has no wakeup descriptor here: a signal that comes
# between its last look for one and epoll_wait() is seen with the next event, which "beats" provides.
WAITS = """
import asyncio, sys

def beat(loop):
    loop.call_later(0.1, beat, loop)

async def main():
    loop = asyncio.get_running_loop()
    loop.call_soon(lambda: print("ready", flush=True))
    if "beats" in sys.argv:
        beat(loop)
    try:
        await asyncio.Event().wait()
    finally:
        print("cancelled", flush=True)

asyncio.run(main())
"""

WAITS_TWICE = WAITS.replace(
    """
    finally:
        print("cancelled", flush=True)
""",
    """
    except asyncio.CancelledError:
        print("cancelled", flush=True)
        await asyncio.Event().wait()
""",
)

IS_BUSY = """
import asyncio

async def main():
    print("ready", flush=True)
    while not asyncio.current_task().cancelling():
        pass
    print("asked", flush=True)
    while True:
        pass

asyncio.run(main())
"""

NO_ASYNCIO = """
import atexit, time
atexit.register(print, "atexit")
print("ready", flush=True)
while True:
    time.sleep(0.1)
"""


def interrupted(command: list[str], directory: Path, lines: list[str]) -> Ended:
    """Run *command*, and press Ctrl-C after each of *lines*."""
    with Child(command, directory) as child:
        for line in lines:
            assert child.line() == line
            child.interrupt()
        return child.end()


def entries(stderr: str) -> list[str]:
    """The functions in the tracebacks, and the exceptions; the line that a signal meets is a matter of chance."""
    return re.findall(r"^(?:  File .* in )?(\w.*)$", without_machinery(stderr), re.MULTILINE)


@pytest.fixture(params=REACTORS)
def launcher(request: pytest.FixtureRequest) -> list[str]:
    """The command line of the launcher, on each reactor."""
    return [*LAUNCHER, "--reactor", request.param]


def test_ctrl_c_cancels_the_main_task_and_ends_the_process(tmp_path: Path, launcher: list[str]) -> None:
    """asyncio.run() unwinds, KeyboardInterrupt is shown, and the process dies of SIGINT."""
    (tmp_path / "script.py").write_text(WAITS)
    stock = interrupted([*PYTHON, "script.py", "beats"], tmp_path, ["ready"])
    launched = interrupted([*launcher, "script.py"], tmp_path, ["ready"])
    assert launched.stdout == stock.stdout == "cancelled\n"
    assert launched.stderr.endswith("\nKeyboardInterrupt\n")
    if sys.version_info >= (3, 11):
        # Before, KeyboardInterrupt is raised where the loop happens to be.
        assert without_machinery(launched.stderr) == without_machinery(stock.stderr)
    assert launched.returncode == stock.returncode == -signal.SIGINT


def test_a_second_ctrl_c_ends_a_program_that_did_not_heed_the_first(tmp_path: Path, launcher: list[str]) -> None:
    """The second one raises KeyboardInterrupt at once."""
    (tmp_path / "script.py").write_text(WAITS_TWICE)
    stock = interrupted([*PYTHON, "script.py", "beats"], tmp_path, ["ready", "cancelled"])
    launched = interrupted([*launcher, "script.py"], tmp_path, ["ready", "cancelled"])
    assert launched.stdout == stock.stdout
    assert "KeyboardInterrupt" in launched.stderr
    assert launched.returncode == stock.returncode == -signal.SIGINT


@pytest.mark.skipif(sys.version_info < (3, 11), reason="before Python 3.11, the first Ctrl-C raises KeyboardInterrupt")
def test_a_second_ctrl_c_ends_a_program_that_never_awaits(tmp_path: Path, launcher: list[str]) -> None:
    """The first can only ask a busy coroutine to end; the second raises KeyboardInterrupt in it."""
    (tmp_path / "script.py").write_text(IS_BUSY)
    stock = interrupted([*PYTHON, "script.py"], tmp_path, ["ready", "asked"])
    launched = interrupted([*launcher, "script.py"], tmp_path, ["ready", "asked"])
    assert entries(launched.stderr) == entries(stock.stderr)
    assert launched.returncode == stock.returncode == -signal.SIGINT


def test_ctrl_c_ends_a_program_without_asyncio(tmp_path: Path) -> None:
    """To launch a program is not to touch its signals."""
    (tmp_path / "script.py").write_text(NO_ASYNCIO)
    stock = interrupted([*PYTHON, "script.py"], tmp_path, ["ready"])
    launched = interrupted([*LAUNCHER, "--reactor", "epoll", "script.py"], tmp_path, ["ready"])
    assert launched.stdout == stock.stdout == "atexit\n"
    assert entries(launched.stderr) == entries(stock.stderr)
    assert "txasync" not in launched.stderr
    assert launched.returncode == stock.returncode == -signal.SIGINT


@pytest.mark.parametrize("name", ["nonsense", "", "EPOLL"])
def test_an_unknown_reactor_is_refused_with_the_names_of_the_known_ones(tmp_path: Path, name: str) -> None:
    """One line, which lists what could have been meant."""
    launched = ended([*LAUNCHER, "--reactor", name, "script.py"], tmp_path)
    assert (launched.returncode, launched.stdout) == (2, "")
    assert launched.stderr.count("\n") == 1
    assert f"there is no reactor called {name!r}; known here are " in launched.stderr
    assert {"default", "poll", "select"} <= set(re.findall(r"\w+", launched.stderr))


def test_plug_ins_that_do_not_load_are_not_told_of(tmp_path: Path) -> None:
    """Twisted would print a traceback for each of them."""
    plugins = tmp_path / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "broken_plugin_of_a_test.py").write_text("raise ValueError('this plug-in is broken')\n")
    launched = ended([*LAUNCHER, "--reactor", "nonsense", "script.py"], tmp_path, tmp_path)
    assert launched.returncode == 2
    assert launched.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["win32", "iocp", "kqueue"])
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the reactors are those that Linux does not have")
def test_a_reactor_that_is_not_for_this_system_is_refused(tmp_path: Path, name: str) -> None:
    """One line, with the reason that its import gave."""
    launched = ended([*LAUNCHER, "--reactor", name, "script.py"], tmp_path)
    assert (launched.returncode, launched.stdout) == (2, "")
    assert launched.stderr.count("\n") == 1
    assert f"the reactor {name!r} cannot be installed here: " in launched.stderr
    assert "Error: " in launched.stderr


def test_asyncios_own_reactor_is_refused(tmp_path: Path) -> None:
    """It stands on the very loop that we replace."""
    launched = ended([*LAUNCHER, "--reactor", "asyncio", "script.py"], tmp_path)
    assert (launched.returncode, launched.stdout) == (2, "")
    assert launched.stderr.count("\n") == 1
    assert "runs on asyncio's own event loop, so there is nothing to replace" in launched.stderr


PLUGIN = """
from twisted.application.reactors import Reactor

usable = Reactor("test-select", "twisted.internet.selectreactor", "")
on_asyncio = Reactor("test-asyncio", "twisted.internet.asyncioreactor", "")
bare = Reactor("test-bare", "bare_reactor_of_a_test", "")
"""

BARE_REACTOR = """
from twisted.internet.main import installReactor

class BareReactor:
    pass

def install():
    installReactor(BareReactor())
"""


@pytest.fixture
def plugged_in(tmp_path: Path) -> Path:
    """A directory with a plug-in that has reactors."""
    plugins = tmp_path / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "reactors_of_a_test.py").write_text(PLUGIN)
    (tmp_path / "bare_reactor_of_a_test.py").write_text(BARE_REACTOR)
    (tmp_path / "script.py").write_text(f"{LOOPS}\nprint(asyncio.run(name()))")
    return tmp_path


def test_reactors_of_plug_ins_can_be_named(plugged_in: Path) -> None:
    """A name is looked up as twistd looks it up."""
    launched = ended([*LAUNCHER, "--reactor", "test-select", "script.py"], plugged_in, plugged_in)
    assert launched == Ended(0, "process's SelectReactor\n", "")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("test-asyncio", "runs on asyncio's own event loop"),
        ("test-bare", "cannot watch file descriptors (IReactorFDSet)"),
    ],
)
def test_reactors_that_cannot_drive_a_loop_are_refused(plugged_in: Path, name: str, reason: str) -> None:
    """What matters is what the installed reactor can do, not its name."""
    launched = ended([*LAUNCHER, "--reactor", name, "script.py"], plugged_in, plugged_in)
    assert (launched.returncode, launched.stdout) == (2, "")
    assert f"the reactor {name!r} {reason}" in launched.stderr
    assert launched.stderr.count("\n") == 1


@pytest.mark.parametrize("options", [["-m"], ["--reactor"], ["--nonsense"]], ids=str)
def test_a_command_line_that_is_not_complete_is_answered_with_the_usage(tmp_path: Path, options: list[str]) -> None:
    """On stderr, with exit code 2."""
    launched = ended([*LAUNCHER, *options], tmp_path)
    assert (launched.returncode, launched.stdout) == (2, "")
    assert launched.stderr.startswith("usage: python -m txasync [--reactor NAME] ")


def test_help_and_version(tmp_path: Path) -> None:
    """Both are answered on stdout; the version names what bug reports need."""
    shown = ended([*LAUNCHER, "--help"], tmp_path)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith("usage: python -m txasync ")
    shown = ended([*LAUNCHER, "--version"], tmp_path)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert f"Twisted {twisted.__version__}" in shown.stdout


def test_two_dashes_end_the_options(programs: Path) -> None:
    """As they do for python."""
    assert assert_same(["--", "scripts/show.py", "--", "x"], programs).returncode == 0


def test_a_python_without_policies_gives_our_loops_too(tmp_path: Path) -> None:
    """Python 3.16 is to have none."""
    (tmp_path / "script.py").write_text(
        LOOPS
        + """
from txasync._default_loop import replace_default_loop
import asyncio.events
for module in (asyncio, asyncio.events):
    vars(module).pop("set_event_loop_policy", None)
replace_default_loop()
print(asyncio.run(name()))
asyncio.new_event_loop().close()
"""
    )
    assert ended([*PYTHON, "script.py"], tmp_path).stdout.startswith("process's ")


def test_the_package_itself_replaces_nothing(tmp_path: Path) -> None:
    """Only the launcher, whose process it is, changes what asyncio gives."""
    (tmp_path / "script.py").write_text("""
import asyncio
import txasync, txasync.running, txasync._default_loop
loop = asyncio.new_event_loop()
print(isinstance(loop, txasync.ReactorEventLoop))
loop.close()
""")
    assert ended([*PYTHON, "script.py"], tmp_path) == Ended(0, "False\n", "")
