"""The loop factories for test runners."""

from __future__ import annotations

import asyncio
import threading

import pytest

import txasync
from txasync.testing import loop_factory, loop_factory_on

from ..conftest import REACTORS, open_descriptors
from ..test_running import in_child


def test_a_loop_has_the_process_s_reactor_if_that_is_free() -> None:
    """One loop after the other has it; one besides it, and one after ``reactor.stop()``, has a reactor of its own."""
    printed = in_child(
        """
        import asyncio
        from txasync.testing import loop_factory
        first = loop_factory()
        from twisted.internet import reactor
        assert first.reactor is reactor
        second = loop_factory()
        assert second.reactor is not reactor
        for loop in second, first:
            loop.run_until_complete(asyncio.sleep(0.001))
            loop.close()
        third = loop_factory()
        assert third.reactor is reactor

        async def main():
            reactor.stop()
            await asyncio.sleep(3600)

        try:
            third.run_until_complete(main())
        except RuntimeError:
            third.close()
        fourth = loop_factory()
        assert fourth.reactor is not reactor
        fourth.run_until_complete(asyncio.sleep(0.001))
        fourth.close()
        print("done")
        """
    )
    assert printed == "done\n"


def test_a_loop_in_another_thread_has_a_reactor_of_its_own() -> None:
    """No reactor is installed for it."""
    loops: list[asyncio.AbstractEventLoop] = []

    def run() -> None:
        loops.append(loop_factory())
        loops[0].run_until_complete(asyncio.sleep(0.001))
        loops[0].close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert isinstance(loops[0], txasync.ReactorEventLoop)
    assert loops[0].is_closed()


@pytest.mark.parametrize("kind", REACTORS)
def test_each_loop_has_a_new_reactor_of_the_kind(kind: str) -> None:
    """Two of them work at once, and give back what they had."""
    before = open_descriptors()
    factory = loop_factory_on(kind)
    loops = [factory(), factory()]
    for loop in loops:
        assert isinstance(loop, txasync.ReactorEventLoop)
        assert type(loop.reactor) is REACTORS[kind]
        assert txasync.get_event_loop(loop.reactor) is loop
        loop.run_until_complete(asyncio.sleep(0.001))
    for loop in loops:
        loop.close()
    assert open_descriptors() == before


def test_an_unknown_kind_is_told_before_any_loop_is_made() -> None:
    """The message says which there are."""
    with pytest.raises(
        ValueError, match="^no private reactor of the kind 'nonsense' can be made here; known are txasync, epoll"
    ):
        loop_factory_on("nonsense")
