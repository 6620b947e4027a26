"""How often to ask: a number that follows how much is found."""

from __future__ import annotations

from txasync._burst import BURSTS_BEFORE_A_CHANGE, Burst


def ask(burst: Burst, waiting: int) -> int:
    """A visit to a descriptor that has *waiting* answers; returns how many were taken."""
    taken = min(waiting, burst.size)
    if taken < burst.size:
        burst.found_only(taken)
    else:
        burst.was_full()
    return taken


def test_who_has_many_answers_is_asked_until_there_are_no_more() -> None:
    """Up to the bound, from the first time on."""
    burst = Burst(64)
    assert [ask(burst, waiting) for waiting in (50, 3, 200, 2)] == [50, 3, 64, 2]


def test_who_has_one_answer_each_time_is_soon_asked_once() -> None:
    """And now and then twice, to see whether that has changed."""
    burst = Burst(64)
    for _ in range(BURSTS_BEFORE_A_CHANGE):
        ask(burst, 1)
    sizes = []
    for _ in range(2 * BURSTS_BEFORE_A_CHANGE):
        sizes.append(burst.size)
        ask(burst, 1)
    assert set(sizes) == {1, 2}
    assert sizes.count(2) == 1


def test_it_is_noticed_when_there_are_many_again() -> None:
    """After some bursts of one, not after all of them."""
    burst = Burst(64)
    for _ in range(BURSTS_BEFORE_A_CHANGE):
        ask(burst, 1)
    assert burst.size == 1
    taken = [ask(burst, 50) for _ in range(BURSTS_BEFORE_A_CHANGE + 2)]
    assert taken[-1] == 50


def test_the_bound_may_be_one() -> None:
    """A backlog of one."""
    burst = Burst(1)
    assert [ask(burst, 5) for _ in range(40)] == [1] * 40
