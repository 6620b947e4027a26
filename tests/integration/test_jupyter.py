"""A real Jupyter kernel: one cell calls install(), the next awaits Deferreds, and the kernel ends as it should."""

from __future__ import annotations

import pathlib
from textwrap import dedent

import pytest

from ..test_running import in_child

pytest.importorskip("ipykernel", reason="ipykernel is not installed: the test extra has it")
pytest.importorskip("jupyter_client", reason="jupyter_client is not installed: the test extra has it")

# What a notebook server does, in a process of its own: its threads and sockets are not ours to look after.
NOTEBOOK = """
import json, os, sys
from jupyter_client import KernelManager
from jupyter_client.kernelspec import KernelSpecManager

os.environ.update(IPYTHONDIR=str(here), JUPYTER_RUNTIME_DIR=str(here))
command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=ERROR"]
(here / "this").mkdir()
(here / "this/kernel.json").write_text(json.dumps({"argv": command, "display_name": "this", "language": "python"}))
specs = KernelSpecManager(kernel_dirs=[str(here)], ensure_native_kernel=False)
manager = KernelManager(kernel_name="this", kernel_spec_manager=specs)

def run_cell(code):
    def show(message):
        content = message["content"]
        if message["msg_type"] == "stream":
            print(content["text"], end="")
        elif message["msg_type"] == "error":
            print(*content["traceback"], sep="\\n")
    return client.execute_interactive(code, timeout=60, output_hook=show)

def ended_by_itself(kernel):
    # A kernel that does not end after it was asked is killed.
    return kernel.wait(60) == 0

manager.start_kernel()
client = manager.blocking_client()
client.start_channels()
client.wait_for_ready(timeout=60)
"""

INSTALL = """
import txasync
_ = txasync.install()
"""

SERVE = """
from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import Site

class Page(Resource):
    isLeaf = True
    def render_GET(self, request):
        return b"from twisted.web"

port = reactor.listenTCP(0, Site(Page()), interface="127.0.0.1")
"""

REQUEST = """
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.threads import deferToThread
from twisted.web.client import Agent

class Body(Protocol):
    def __init__(self):
        self.data, self.done = b"", Deferred()
    def dataReceived(self, data):
        self.data += data
    def connectionLost(self, reason):
        self.done.callback(self.data)

response = await Agent(reactor).request(b"GET", b"http://localhost:%d/" % port.getHost().port)
body = Body()
response.deliverBody(body)
print(response.code, (await body.done).decode())
print(await deferToThread(lambda: "in a thread"))
"""

LEAVE = """
from pathlib import Path
from twisted.internet.task import deferLater
trigger = reactor.addSystemEventTrigger("before", "shutdown", deferLater, reactor, 0.01, Path("{file}").touch)
"""


def notebook(directory: pathlib.Path, program: str) -> list[str]:
    """What *program* printed, in a process that has started a kernel, which keeps its files in *directory*."""
    here = f"from pathlib import Path\nhere = Path({str(directory)!r})\n"
    # Jupyter's packages warn of each other's ways.
    return in_child(here + NOTEBOOK + dedent(program), warnings="ignore").splitlines()


def test_one_cell_installs_and_the_next_awaits_a_request(tmp_path: pathlib.Path) -> None:
    """A restart and a shutdown end the kernel in time, by itself, and the reactor before."""
    restarted, shut_down = tmp_path / "restarted", tmp_path / "shut down"
    printed = notebook(
        tmp_path,
        f"""
        for cell in {[INSTALL, SERVE, REQUEST, LEAVE.format(file=restarted)]!r}:
            run_cell(cell)
        kernel = manager.provisioner.process
        manager.restart_kernel(now=False)
        print(ended_by_itself(kernel))

        client.wait_for_ready(timeout=60)
        for cell in {[INSTALL, SERVE, REQUEST, LEAVE.format(file=shut_down)]!r}:
            run_cell(cell)
        kernel = manager.provisioner.process
        client.shutdown()
        print(ended_by_itself(kernel))
        client.stop_channels()
        manager.cleanup_resources()
        """,
    )
    assert printed == ["200 from twisted.web", "in a thread", "True"] * 2
    assert restarted.exists()
    assert shut_down.exists()


def test_a_reactor_that_was_imported_before(tmp_path: pathlib.Path) -> None:
    """The error tells the author of a notebook what to do."""
    printed = notebook(
        tmp_path,
        f"""
        run_cell("from twisted.internet import reactor")
        run_cell("import txasync\\ntry:\\n    txasync.install()\\nexcept RuntimeError as error:\\n    print(error)")
        manager.restart_kernel(now=False)
        client.wait_for_ready(timeout=60)
        for cell in {[INSTALL, SERVE, REQUEST]!r}:
            run_cell(cell)
        kernel = manager.provisioner.process
        client.shutdown()
        print(ended_by_itself(kernel))
        client.stop_channels()
        manager.cleanup_resources()
        """,
    )
    assert "restart the kernel, and do it in the first cell" in printed[0]
    assert printed[1:] == ["200 from twisted.web", "in a thread", "True"]
