"""
The scenarios of stream transports, once more, on Twisted's transports: their traces are asyncio's.

Where they differ, a line below says how and why; docs/differences tells it to users.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest

from ..conftest import Reports
from ..transports import (
    test_traces_stream_closing,
    test_traces_stream_reading,
    test_traces_stream_sendfile,
    test_traces_stream_servers,
    test_traces_stream_writing,
)
from ..transports.combinations import COMBINATIONS, Combination
from ..transports.traces import Scenario, play_on_stock
from .adapted_stage import play_on_twisted


class Difference(NamedTuple):
    """
    In what a trace may differ.

    Attributes:
        reason: Why it does.
        lines: What the lines that differ match, on either side; the rest is the same.
        parts: Parts of lines that are left out before lines are compared.
    """

    reason: str
    lines: str = "$^"
    parts: str = "$^"


LATER = "what is written is sent in the next iteration of Twisted's reactor, not at once"
ENDS = "Twisted closes and aborts in an iteration of its reactor, not in the loop's next round"
DROPPED = "what is written is sent in the next iteration of Twisted's reactor, and dropped by an abort before that"
UNTOLD = "Twisted does not tell which error a connection was lost by"
CONTEXT = "the creator's context is that of every callback"
COPIES = "a file is copied, as to asyncio's transports that the kernel cannot send one over"
OWN_REPR = "a transport is shown by the one that it stands on"

PAUSES = "(pause|resume)_writing"
THE_PEER = "the peer has read"

DIFFERENCES = {
    "closed_amid_callbacks": Difference(ENDS, lines="connection_lost"),
    "close_in_connection_made": Difference(ENDS, lines="connected"),
    "abort_in_connection_made": Difference(ENDS, lines="connected"),
    "aborted_with_data_in_the_buffer": Difference(DROPPED, lines=THE_PEER),
    "aborted_after_it_was_closed": Difference(DROPPED, lines=THE_PEER),
    "closed_after_it_was_aborted": Difference(DROPPED, lines=THE_PEER),
    "aborts_in_pause_writing": Difference(DROPPED, lines=THE_PEER),
    "failing_in_data_received": Difference(DROPPED, lines=THE_PEER),
    "failing_in_get_buffer_of_a_buffered_protocol": Difference(DROPPED, lines=THE_PEER),
    "failing_in_buffer_updated_of_a_buffered_protocol": Difference(DROPPED, lines=THE_PEER),
    "an_empty_buffer": Difference("the data was received before the buffer was asked for", lines=THE_PEER),
    "no_buffer_at_all": Difference("the data was received before the buffer was asked for", lines=THE_PEER),
    "a_buffer_that_cannot_be_written": Difference(
        "the data was received before the buffer was asked for", lines=f"{THE_PEER}|reported"
    ),
    "echo": Difference(LATER, lines=PAUSES),
    "echo_from_a_buffer": Difference(LATER, lines=f"{PAUSES}|buffer_updated"),
    "echo_over_tcp": Difference(LATER, lines=PAUSES),
    "size_of_the_buffer": Difference(LATER, lines="get_write_buffer_size"),
    "limits_of_nothing": Difference(LATER, lines=PAUSES),
    "writes_little_in_resume_writing": Difference(LATER, lines=f"{PAUSES}|write$|{THE_PEER}"),
    "written_when_the_peer_is_gone": Difference(LATER, lines=".*"),
    "eof_that_keeps_open_with_data_in_the_buffer": Difference(UNTOLD, parts=r"\w+Error\(\w+\)"),
    "peer_gone_with_data_in_the_buffer": Difference(UNTOLD, lines="eof_received", parts=r"\w+Error\(\w+\)"),
    "peer_gone_with_data_in_the_buffer_when_closing": Difference(UNTOLD, parts=r"\w+Error\(\w+\)"),
    "whole": Difference(COPIES, lines="position 10"),
    "writing_meanwhile": Difference(COPIES, lines=f"write|{THE_PEER}|{PAUSES}"),
    "cancelled": Difference(COPIES, lines=f"{THE_PEER}|{PAUSES}"),
    "peer_gone_meanwhile": Difference(COPIES, lines="eof_received|sent raised", parts=r"\w+Error\(\w+\)|None"),
    "clients_of_one_server_closed": Difference("which of two ports accepts first is its reactor's", lines="factory"),
    "contexts": Difference(CONTEXT, lines=THE_PEER, parts="in (the|what) .*"),
    "contexts_after_a_pause": Difference(CONTEXT, parts="in (the|what|b').*"),
    "contexts_after_a_pause_on_a_server": Difference(CONTEXT, parts="in the .*"),
    "information": Difference(OWN_REPR, parts="<Transport.*"),
    "information_with_data_in_the_buffer": Difference(OWN_REPR, parts="<Transport.*"),
    "forgotten": Difference("Twisted's reactor refers to its transports", lines="ResourceWarning"),
    "descriptors_that_are_taken": Difference("they are not the loop's", lines=r"\w+_(reader|writer)"),
}

# These are about the arguments of create_connection() and create_server(), which endpoints do not have.
NOT_OF_ENDPOINTS = {
    "served_later",
    "served_by_a_socket_that_was_given",
    "accepted_by_somebody_else_and_no_stream",
    "bound_to_a_local_address",
    "wrong_arguments",
    "without_fallback",
}

SCENARIOS = [
    scenario
    for module in (
        test_traces_stream_closing,
        test_traces_stream_reading,
        test_traces_stream_sendfile,
        test_traces_stream_servers,
        test_traces_stream_writing,
    )
    for scenario in module.scenario.all
    if scenario.__name__ not in NOT_OF_ENDPOINTS
]


def shared(trace: list[str], difference: Difference) -> list[str]:
    """What of *trace* is the same on both sides."""
    kept = (line for line in trace if not re.match(difference.lines, line.partition(": ")[2] or line))
    return [re.sub(difference.parts, "", line) for line in kept if not re.match(difference.lines, line)]


@pytest.mark.parametrize("combination", COMBINATIONS, ids="-".join)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_the_trace_is_that_of_asyncio(scenario: Scenario, combination: Combination, reports: Reports) -> None:
    """What an asyncio protocol sees of a Twisted transport is what it sees of asyncio's own."""
    expected = play_on_stock(scenario)
    traced = play_on_twisted(scenario, combination)
    reports.clear()
    difference = DIFFERENCES.get(scenario.__name__)
    if difference is None:
        assert traced == expected
    else:
        assert shared(traced, difference) == shared(expected, difference)
