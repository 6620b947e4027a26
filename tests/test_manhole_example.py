"""examples/manhole.tac: a real twistd, and a real SSH client at its prompt."""

from __future__ import annotations

import asyncio
import re
import signal
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("asyncssh", reason="asyncssh is not installed: the test extra has it")

import asyncssh

import txasync

from .application.twistd_process import LIMIT_S, TwistdProcess

EXAMPLE = Path(__file__).parents[1] / "examples" / "manhole.tac"
INSTALLED = Path(txasync.__file__).parents[1]
# What moves the cursor, and colours; the prompt draws a line anew for each letter.
CONTROL_SEQUENCE = re.compile(r"\x1b(\[[0-9;]*[A-Za-z]|c)")


class Prompt:
    """What a user sees in the terminal."""

    def __init__(self, process: Any) -> None:
        self._process = process

    async def answers(self, line: str, pattern: str = "") -> str:
        """Type *line*, and wait for an answer with *pattern* in it, and for the next prompt."""
        self._process.stdin.write(line + "\r")
        text = ""
        while True:
            shown = CONTROL_SEQUENCE.sub("", text).replace("\r", "")
            # What is typed is echoed in pieces, but with no end of a line before the answer.
            answer = re.search(rf"\n(?s:.*){pattern}(?s:.*)(?<=\n)>>> $", shown)
            if answer is not None:
                return answer[0]
            piece = await asyncio.wait_for(self._process.stdout.read(4096), LIMIT_S)
            assert piece, f"the session has ended without {pattern!r}: {text}"
            text += piece


@asynccontextmanager
async def logged_in(port: int, user: str, password: str) -> AsyncIterator[Prompt]:
    """A session with a terminal, as ``ssh`` makes it."""
    options: dict[str, Any] = {"known_hosts": None, "config": None, "client_keys": None, "agent_path": None}
    async with asyncssh.connect("127.0.0.1", port, username=user, password=password, **options) as connection:
        yield Prompt(await connection.create_process(term_type="xterm"))


async def look_around(port: int, user: str, password: str) -> None:
    """List the tasks, give one of them work, and see it done."""
    async with logged_in(port, user, password) as prompt:
        listed = await prompt.answers("tasks()", "waits for the evening: waits\n")
        assert re.search(r"\ndelivers: waits\n.*manhole\.tac\", line \d+, in deliver\n +order = await", listed)
        assert re.search(r"queues\.py\", line \d+, in get\n", listed)
        assert re.search(r"in close\n +await self\.closing", listed)
        await prompt.answers("shop.orders.put_nowait('tea')")
        while "\n['tea']\n" not in await prompt.answers("shop.delivered", r"\[.*\]"):
            pass
        await prompt.answers("txasync.as_deferred(asyncio.sleep(0, 'slept'))", "called back: 'slept'\n")
        await prompt.answers("shop.closing.callback(None)")
        assert "evening" not in await prompt.answers("tasks()", "delivers: waits\n")


async def be_refused(port: int) -> None:
    """Try a wrong password."""
    with pytest.raises(asyncssh.PermissionDenied):
        async with logged_in(port, "admin", "wrong"):
            pass


def test_tasks_are_listed_at_the_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With their names and the lines in which they wait, for who has the password; objects can be used there."""
    monkeypatch.setenv("MANHOLE_ENDPOINT", "tcp:0:interface=127.0.0.1")
    with TwistdProcess(INSTALLED, tmp_path, ["--python", str(EXAMPLE)]) as twistd:
        port = twistd.listens()
        passwords = tmp_path / "manhole" / "passwd"
        assert stat.S_IMODE(passwords.stat().st_mode) == 0o600
        assert stat.S_IMODE(passwords.parent.stat().st_mode) == 0o700
        user, password = passwords.read_text().strip().split(":", 1)
        asyncio.run(look_around(port, user, password))
        asyncio.run(be_refused(port))
        twistd.send(signal.SIGTERM)
        assert twistd.end() == -signal.SIGTERM
    assert "Traceback" not in twistd.text
