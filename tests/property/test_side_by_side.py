"""One client's fault is never another's: who sends well is answered as if he were alone.

Several clients send at once, chunks of one length, so that the server may run them together; all
but one send whatever it may be, cut anywhere. The one works with a key of his own.
"""

from __future__ import annotations

import contextlib
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from kvserver.engine import Engine
from kvserver.quick import JOINED_BYTES
from tests.property.test_requests import fragments, frame
from tests.turns import Turns

OTHERS = 3
KEYS = [b"his1", b"his2", b"*2\r\n", b"$4\r\n", b"INCR"]

own = st.sampled_from(
    [
        [b"INCR", b"mine"],
        [b"GET", b"mine"],
        [b"DEL", b"mine"],
        [b"SET", b"mine", b"5"],
        [b"APPEND", b"mine", b"7"],
        [b"EXISTS", b"mine"],
        [b"SET", b"mine", b"5", b"EX", b"100"],
        [b"MSET", b"mine", b"5", b"mine", b"6"],
    ]
)
asked = st.one_of(
    own.map(lambda command: [[command]] * 4),
    st.lists(st.lists(own, min_size=1, max_size=3), min_size=1, max_size=4),
)
alike = st.sampled_from(KEYS).flatmap(
    lambda key: st.sampled_from(
        [
            [b"INCR", key],
            [b"GET", key],
            [b"SET", key, b"5"],
            [b"SET", key, b"5", b"EX", b"100"],
            [b"EXISTS", key],
            [b"\0"],
            [b"SET", key, b"v" * 300],
        ]
    )
)
piece = st.one_of(alike.map(frame), alike.map(frame), fragments)
streams = st.lists(
    st.tuples(
        st.lists(piece, min_size=1, max_size=8).map(b"".join),
        st.one_of(st.none(), st.integers(1, 200)),
    ),
    min_size=OTHERS,
    max_size=OTHERS,
)
"""What each of the others sends, and how much of it in a turn; None: as much as the one."""


@given(asked, streams, st.integers(0, OTHERS), st.sampled_from([0, JOINED_BYTES]))
def test_whoever_sends_well_is_answered_as_if_alone(
    asked: list[list[list[bytes]]],
    others: list[tuple[bytes, int | None]],
    position: int,
    joined_bytes: int,
) -> None:
    alone = Engine().session()
    with mock.patch("kvserver.quick.JOINED_BYTES", joined_bytes), Turns(OTHERS + 1) as turns:
        one, *rest = turns.clients[position:] + turns.clients[:position]
        sent = [0] * OTHERS
        for commands in asked:
            chunk = b"".join(map(frame, commands))
            for n, (client, (stream, most)) in enumerate(zip(rest, others, strict=True)):
                part = stream[sent[n] : sent[n] + (most or len(chunk))]
                sent[n] += len(part)
                with contextlib.suppress(BrokenPipeError):  # it was told its error before
                    client.send(part)
            one.send(chunk)
            turns.take()
            assert one.recv(1000) == b"".join(map(alone.run, commands))
