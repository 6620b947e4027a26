"""
What asyncio's TLS plays since 3.11, of the scenarios that asyncio 3.10, whose TLS was another, plays differently.

On 3.10 our traces are to be these; later they are to be asyncio's, which are compared with these.
"""

from __future__ import annotations

__all__ = ["CLOSING", "READING", "SERVERS", "WRITING"]


def _traces(text: str) -> dict[str, list[str]]:
    traces: dict[str, list[str]] = {}
    name = ""
    for line in filter(None, text.splitlines()):
        if not line.startswith(" "):
            name, _, line = line.partition(": ")
        traces.setdefault(name, []).extend(line.strip(" |").split(" | "))
    return traces


READING = _traces(
    """
echo: connection_made | connected | data_received b'a' | the peer has read b'a' ''
    | data_received 2000 bytes, crc c9932991 | the peer has read 2000 bytes, crc c9932991 ''
    | data_received 100400 bytes, crc 0eaf09bf | the peer has read 100400 bytes, crc 0eaf09bf '' | eof_received
    | connection_lost None
echo_from_a_buffer: connection_made | connected | buffer_updated b'a' | the peer has read b'a' ''
    | buffer_updated 200 bytes, crc a2ceabb1 | the peer has read 200 bytes, crc a2ceabb1 '' | eof_received
    | connection_lost None | connection_made | connected | buffer_updated b'a' | the peer has read b'a' ''
    | buffer_updated 200 bytes, crc a2ceabb1 | the peer has read 200 bytes, crc a2ceabb1 ''
    | buffer_updated 100400 bytes, crc 0eaf09bf | the peer has read 100400 bytes, crc 0eaf09bf '' | eof_received
    | connection_lost None | connection_made | connected | buffer_updated b'a' | the peer has read b'a' ''
    | buffer_updated 200 bytes, crc a2ceabb1 | the peer has read 200 bytes, crc a2ceabb1 ''
    | buffer_updated 100400 bytes, crc 0eaf09bf | the peer has read 100400 bytes, crc 0eaf09bf '' | eof_received
    | connection_lost None | connection_made | connected | buffer_updated b'a' | the peer has read b'a' ''
    | buffer_updated 200 bytes, crc a2ceabb1 | the peer has read 200 bytes, crc a2ceabb1 ''
    | buffer_updated 100400 bytes, crc 0eaf09bf | the peer has read 100400 bytes, crc 0eaf09bf '' | eof_received
    | connection_lost None
echo_over_tcp: connection_made | connected | data_received b'hello' | the peer has read b'hello' ''
    | data_received 100400 bytes, crc 0eaf09bf | the peer has read 100400 bytes, crc 0eaf09bf '' | eof_received
    | connection_lost None
many_records_at_once: connection_made | connected | data_received 34877 bytes, crc 99b1da1d | eof_received
    | connection_lost None | connection_made | connected | buffer_updated 34877 bytes, crc 99b1da1d | eof_received
    | connection_lost None
paused_in_connection_made: connection_made | connected | state: closing False, reading False, limits (131072, 524288)
    | resume_reading | state: closing False, reading True, limits (131072, 524288) | data_received b'early'
paused_and_resumed_in_connection_made: connection_made | connected
    | state: closing False, reading True, limits (131072, 524288) | data_received b'data'
paused_and_resumed_twice: connection_made | connected | resume_reading | pause_reading
    | state: closing False, reading False, limits (131072, 524288) | pause_reading
    | state: closing False, reading False, limits (131072, 524288) | resume_reading
    | state: closing False, reading True, limits (131072, 524288) | data_received b'while paused' | resume_reading
    | state: closing False, reading True, limits (131072, 524288)
paused_in_data_received: connection_made | connected | data_received b'one'
    | state: closing False, reading False, limits (131072, 524288) | resume_reading | data_received b'two'
    | state: closing False, reading False, limits (131072, 524288) | resume_reading | data_received b'three'
    | state: closing False, reading False, limits (131072, 524288) | resume_reading
paused_with_decrypted_bytes_in_hand: connection_made | connected | buffer_updated b'abcd' | resuming
    | buffer_updated b'efgh' | resuming | buffer_updated b'ij' | resuming | resuming
much_while_paused: connection_made | connected | pause_reading | resume_reading
    | data_received 100400 bytes, crc 0eaf09bf | eof_received | connection_lost None | connection_made | connected
    | pause_reading | resume_reading | buffer_updated 100400 bytes, crc 0eaf09bf | eof_received | connection_lost None
eof_while_paused: connection_made | connected | pause_reading | closing False | resume_reading
    | data_received b'last words' | eof_received | connection_lost None | connection_made | connected | pause_reading
    | closing False | resume_reading | data_received b'last words' | eof_received | connection_lost None
    | connection_made | connected | pause_reading | closing False | resume_reading | data_received b'last words'
    | eof_received | connection_lost None
protocols_switched: first: connection_made | connected | first: data_received b'for the one before second'
    | is the second True | second: buffer_updated b'for the one before third' | is the third True
    | third: data_received b'for the one before fourth' | is the fourth True | fourth: data_received b'for the last'
    | fourth: eof_received | fourth: connection_lost None
protocols_switched_while_paused: first: connection_made | connected | first: pause_reading
    | second: state: closing False, reading False, limits (131072, 524288) | second: resume_reading
    | second: buffer_updated b'hello'
protocol_switched_in_connection_made: first: connection_made | connected | second: buffer_updated b'hello'
    | second: eof_received | second: connection_lost None | first: connection_made | connected
    | second: data_received b'hello' | second: eof_received | second: connection_lost None
protocol_switched_when_data_comes: first: connection_made | connected | first: data_received b'one'
    | second: buffer_updated b'two' | second: eof_received | second: connection_lost None | first: connection_made
    | connected | first: buffer_updated b'one' | second: data_received b'two' | second: eof_received
    | second: connection_lost None
protocol_switched_in_mid_record: first: connection_made | connected | first: buffer_updated b'abcd'
    | second: data_received b'efghij'
protocol_switched_in_eof_received: first: connection_made | connected | first: eof_received
    | second: connection_lost None | first: connection_made | connected | first: eof_received
    | second: connection_lost None
a_buffer_that_cannot_be_written: connection_made | connected | reported, from None: TypeError
    | connection_lost TypeError
failing_in_connection_made: connection_made | reported, from connection_made: Boom | connection_lost Boom
    | connected raised Boom | lost True
failing_in_eof_received: connection_made | connected | the peer sends | data_received b'data' | eof_received
    | reported, from eof_received: Boom | connection_lost Boom | lost True
failing_in_connection_lost: connection_made | connected | the peer sends | data_received b'data' | eof_received
    | connection_lost None | reported, from connection_lost: Boom | lost True
failing_in_connection_made_of_a_buffered_protocol: connection_made | reported, from connection_made: Boom
    | connection_lost Boom | connected raised Boom | lost True
failing_in_get_buffer_of_a_buffered_protocol: connection_made | connected | the peer sends
    | reported, from get_buffer: Boom | connection_lost Boom | lost True
failing_in_buffer_updated_of_a_buffered_protocol: connection_made | connected | the peer sends
    | buffer_updated b'data' | reported, from buffer_updated: Boom | connection_lost Boom | lost True
failing_in_eof_received_of_a_buffered_protocol: connection_made | connected | the peer sends | buffer_updated b'data'
    | eof_received | reported, from eof_received: Boom | connection_lost Boom | lost True
failing_in_connection_lost_of_a_buffered_protocol: connection_made | connected | the peer sends
    | buffer_updated b'data' | eof_received | connection_lost None | reported, from connection_lost: Boom | lost True
contexts: connection_made in the creator's | connected | data_received in connection_made's b'one'
    | data_received in b'one''s b'two' | eof_received in b'two''s | connection_lost in b'two''s None
"""
)

CLOSING = _traces(
    """
closed: connection_made | connected | write | close | state: closing True | the peer has read b'all' 'close_notify'
    | eof_received | connection_lost None | the peer has read b'' 'close_notify, eof' | state: closing True
closed_and_the_peer_leaves: connection_made | connected | close | the peer has read b'' 'close_notify' | eof_received
    | connection_lost None | the peer has read b'' 'close_notify, eof'
closed_twice: connection_made | connected | close | state: closing True | close | state: closing True
    | the peer has read b'' 'close_notify' | close | eof_received | connection_lost None
    | the peer has read b'' 'close_notify, eof' | close
closed_over_tcp: connection_made | connected | write | close | the peer has read b'all' 'close_notify' | eof_received
    | connection_lost None
closed_with_data_in_the_buffer: connection_made | connected | close
    | the peer has read 250007 bytes, crc 6756ee7a 'close_notify' | eof_received | connection_lost None
    | the peer has read b'' 'close_notify, eof'
closed_while_paused: connection_made | connected | pause_reading | close | the peer has read b'' 'close_notify'
    | eof_received | connection_lost None | the peer has read b'' 'close_notify, eof'
aborted_with_data_in_the_buffer: connection_made | connected | abort | connection_lost None | lost True
aborted_after_it_was_closed: connection_made | connected | close | abort | connection_lost None | connection_made
    | connected | close | abort | connection_lost None
close_in_connection_made: connected | lost True | the peer has read b'' 'close_notify, eof' | it: connection_made
    | it: close | it: eof_received | it: connection_lost None
write_eof_in_connection_made: connected | lost True | the peer has read b'' 'close_notify, eof' | it: connection_made
    | it: write_eof raised NotImplementedError | it: data_received b'some data' | it: eof_received
    | it: connection_lost None
close_in_data_received: connected | lost True | the peer has read b'' 'close_notify, eof' | it: connection_made
    | it: data_received b'some data' | it: close | it: eof_received | it: connection_lost None
write_eof_in_data_received: connected | lost True | the peer has read b'' 'close_notify, eof' | it: connection_made
    | it: data_received b'some data' | it: write_eof raised NotImplementedError | it: eof_received
    | it: connection_lost None
close_in_eof_received: connected | lost True | the peer has read b'' 'close_notify, eof' | it: connection_made
    | it: data_received b'some data' | it: eof_received | it: close | it: connection_lost None
abort_in_eof_received: connected | lost True | it: connection_made | it: data_received b'some data' | it: eof_received
    | it: abort | it: connection_lost None
write_eof_in_eof_received: connected | lost True | the peer has read b'' 'close_notify, eof' | it: connection_made
    | it: data_received b'some data' | it: eof_received | it: write_eof raised NotImplementedError
    | it: connection_lost None
close_in_connection_lost: connected | lost True | the peer has read b'' 'close_notify, eof' | it: connection_made
    | it: data_received b'some data' | it: eof_received | it: connection_lost None | it: close
abort_in_connection_lost: connected | lost True | it: connection_made | it: data_received b'some data'
    | it: eof_received | it: connection_lost None | it: abort
write_eof_in_connection_lost: connected | lost True | the peer has read b'' 'close_notify, eof' | it: connection_made
    | it: data_received b'some data' | it: eof_received | it: connection_lost None
    | it: write_eof raised NotImplementedError
close_in_buffer_updated_of_a_buffered_protocol: connected | lost True | the peer has read b'' 'close_notify, eof'
    | it: connection_made | it: buffer_updated b'some data' | it: close | it: eof_received | it: connection_lost None
close_in_eof_received_of_a_buffered_protocol: connected | lost True | the peer has read b'' 'close_notify, eof'
    | it: connection_made | it: buffer_updated b'some data' | it: eof_received | it: close | it: connection_lost None
abort_in_eof_received_of_a_buffered_protocol: connected | lost True | it: connection_made
    | it: buffer_updated b'some data' | it: eof_received | it: abort | it: connection_lost None
ended_by_the_peer: connection_made | connected | data_received b'goodbye' | eof_received | connection_lost None
    | the peer has read b'' 'close_notify, eof' | closing True | connection_made | connected
    | buffer_updated b'goodbye' | eof_received | connection_lost None | the peer has read b'' 'close_notify, eof'
    | closing True
ended_by_a_peer_that_leaves: connection_made | connected | data_received b'goodbye' | eof_received
    | connection_lost None | lost True | connection_made | connected | buffer_updated b'goodbye' | eof_received
    | connection_lost None | lost True
ended_by_the_peer_over_tcp: connection_made | connected | data_received b'goodbye' | eof_received
    | connection_lost None
ended_by_the_peer_with_data_in_the_buffer: connection_made | connected | eof_received | closing True
    | connection_lost None | the peer has read 250000 bytes, crc c074be05 'close_notify, eof'
written_in_eof_received: connection_made | connected | eof_received | write | connection_lost None
    | the peer has read b'last words' 'close_notify, eof'
eof_received_that_wants_to_go_on: connection_made | connected | eof_received
    | logged as WARNING: returning true from eof_received() has no effect when using ssl | connection_lost None
    | lost True | connection_made | connected | eof_received
    | logged as WARNING: returning true from eof_received() has no effect when using ssl | connection_lost None
    | lost True
closed_at_the_same_time: connection_made | connected | eof_received | connection_lost None
    | the peer has read b'' 'close_notify, eof'
reset_by_the_peer: connection_made | connected | connection_lost ConnectionResetError(ECONNRESET) | closing True
    | connection_made | connected | connection_lost ConnectionResetError(ECONNRESET) | closing True
gone_with_data_in_the_buffer: connection_made | connected | connection_lost ConnectionResetError(ECONNRESET)
    | get_write_buffer_size 0
"""
)

WRITING = _traces(
    """
more_than_the_kernel_takes: connection_made | connected | write | write | write | write | write
    | the peer has read 352001 bytes, crc 9a4184b8 '' | get_write_buffer_size 0
marks: connection_made | connected | get_write_buffer_limits (131072, 524288) | pause_writing | buffers True
    | resume_writing | the peer has read it all True | state: closing False, reading True, limits (131072, 524288)
    | get_write_buffer_size 0 | pause_writing | buffers True | resume_writing | the peer has read it all True
    | state: closing False, reading True, limits (131072, 524288) | get_write_buffer_size 0
limits: connection_made | connected | limits {'high': 1000} | state: closing False, reading True, limits (250, 1000)
    | limits {'low': 1000} | state: closing False, reading True, limits (1000, 4000)
    | limits {'high': 100, 'low': 100} | state: closing False, reading True, limits (100, 100) | limits {}
    | state: closing False, reading True, limits (131072, 524288) | limits {'high': 10, 'low': 11} raised ValueError
    | state: closing False, reading True, limits (131072, 524288) | limits {'high': -1} raised ValueError
    | state: closing False, reading True, limits (131072, 524288) | limits {'low': -1} raised ValueError
    | state: closing False, reading True, limits (131072, 524288) | limits {'high': 10, 'low': -1} raised ValueError
    | state: closing False, reading True, limits (131072, 524288) | set_write_buffer_limits
    | set_write_buffer_limits raised TypeError | state: closing False, reading True, limits (10, 20)
writes_in_pause_writing: connection_made | connected | pause_writing | write | resume_writing | lost False
aborts_in_resume_writing: connection_made | connected | pause_writing | resume_writing | abort | connection_lost None
    | lost True
written_when_closed: connection_made | connected | close | write | write | write | write | write
    | logged as WARNING: SSL connection is closed | write | logged as WARNING: SSL connection is closed | write
    | logged as WARNING: SSL connection is closed | write | logged as WARNING: SSL connection is closed | writelines
    | the peer has read b'' 'close_notify' | connection_made | connected | abort | write | write | write | write
    | write | logged as WARNING: SSL connection is closed | write | logged as WARNING: SSL connection is closed
    | write | logged as WARNING: SSL connection is closed | write | logged as WARNING: SSL connection is closed
    | writelines | connection_lost None | the peer has read b'' 'BrokenPipeError(EPIPE), eof'
written_when_the_peer_has_ended: connection_made | connected | eof_received | connection_lost None | write | write
    | write
reading_while_a_file_is_sent: connection_made | connected | data_received b'hello'
    | the peer has read 251000 bytes, crc 5401aa3a '' | count 251000
    | state: closing False, reading True, limits (131072, 524288)
a_file_cancelled: connection_made | connected | cancelled True | data_received b'hello'
    | state: closing False, reading True, limits (131072, 524288)
"""
)

SERVERS = _traces(
    """
served: factory, number 0 | number 0: connection_made | number 0: data_received b'hello'
    | the peer has read b'hello' '' | peername True | sockname True | number 0: eof_received
    | number 0: connection_lost None | factory, number 1 | number 1: connection_made
    | number 1: data_received b'hello' | the peer has read b'hello' '' | peername True | sockname True
    | number 1: eof_received | number 1: connection_lost None | factory, number 2 | number 2: connection_made
    | number 2: data_received b'hello' | the peer has read b'hello' '' | peername True | sockname True
    | number 2: eof_received | number 2: connection_lost None
server_closed: factory, number 0 | number 0: connection_made | number 0: data_received b'before'
    | the peer has read b'before' '' | number 0: data_received b'after' | the peer has read b'after' ''
    | number 0: eof_received | number 0: connection_lost None
both_ends_in_one_loop: factory, number 0 | the protocol True | the transport True | client: connection_made
    | client: data_received b'hello' | client: eof_received | client: connection_lost None | number 0: connection_made
    | number 0: data_received b'hello' | number 0: eof_received | number 0: connection_lost None
upgraded: connection_made | write | the peer has read b'plain' '' | data_received b'plain, too' | upgraded
    | another transport True | its protocol True | secured True | peername True
    | state: closing False, reading True, limits (131072, 524288) | write | the peer has read b'secret' ''
    | data_received b'secret, too' | close | the peer has read b'' 'close_notify' | eof_received
    | connection_lost None
upgraded_for_a_buffered_protocol: connection_made | buffer_updated b'plain' | upgraded | buffer_updated b'secret'
    | eof_received | connection_lost None
upgraded_and_refused: connection_made | connection_lost SSLError(EPERM) | closing True
lower_transport_ended: connection_made | upgraded | close below | connection_lost None
    | the peer has read b'' 'BrokenPipeError(EPIPE), eof' | closing True | connection_made | upgraded | abort below
    | connection_lost None | the peer has read b'' 'BrokenPipeError(EPIPE), eof' | closing True
"""
)
