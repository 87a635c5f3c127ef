"""Pipelines and transactions in which neighbours are alike: as if each command came alone."""

from __future__ import annotations

import msgpack
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from kvserver import execution, resp
from kvserver.alike import groups
from kvserver.engine import Engine
from kvserver.reactor import Reactor
from kvserver.session import Session
from tests.property.test_requests import Run, rooms, runs, the_same_is_known_of_memory, two_engines

lone: st.SearchStrategy[Run] = st.sampled_from(
    [[(b"PING",)], [(b"KEYS", b"*")], [(b"NOSUCH", b"x")], [(b"GET",)]]
)
chunks: st.SearchStrategy[list[Run]] = st.lists(st.one_of(runs, lone), max_size=6)
pipelines = chunks.map(lambda some: [list(command) for chunk in some for command in chunk])


def both_know_the_same(one: Engine, other: Engine) -> None:
    the_same_is_known_of_memory(one, other)
    one.keyspace.check()
    assert list(one.keyspace.dump()) == list(other.keyspace.dump())
    for count in ("hits", "misses", "expired"):
        assert getattr(one.keyspace, count) == getattr(other.keyspace, count)
    again = Engine().keyspace
    again.apply_many([*map(msgpack.unpackb, one.keyspace.packed_effects), *one.keyspace.effects])
    assert list(again.dump()) == list(one.keyspace.dump())


def executed(reactor: Reactor, session: Session, commands: list[list[bytes]]) -> int:
    """Run commands of one client to their end; return how many were run."""
    ran = len(reactor.execute(session, commands)) if commands else 0
    while session.pending is not None:
        session.engine.stats.turns += 1
        reply = session.advance(1_000_000_000)
        if reply is not None:
            session.answer(reply)
            waiting, session.backlog = session.backlog, []
            ran += len(reactor.execute(session, waiting)) if waiting else 0
    return ran


@given(pipelines, rooms, st.booleans(), st.integers(1, 9), st.booleans())
def test_a_pipeline_is_answered_as_its_commands_one_by_one(
    commands: list[list[bytes]], room: int | None, overdue: bool, part: int, slow: bool
) -> None:
    together, alone = two_engines(room, overdue=overdue)
    session, single = together.session(), alone.session()
    reactor = Reactor(together)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(execution, "PART_COMMANDS", part)
        if slow:
            patched.setattr(execution, "SLICE_NS", -1)  # each part is one too many for a turn
        ran = executed(reactor, session, commands)
    trio.run(reactor.drain, 0)
    assert ran == len(commands)
    assert sum(together.stats.calls.values()) == len(commands)
    expected = [single.run(command) for command in commands]
    assert resp.split_replies(b"".join(expected)) == expected
    assert session.take() == b"".join(expected)
    both_know_the_same(together, alone)


@given(pipelines, rooms, st.booleans())
def test_a_transaction_is_answered_as_its_commands_one_by_one(
    commands: list[list[bytes]], room: int | None, overdue: bool
) -> None:
    engines = two_engines(room, overdue=overdue)
    (together, alone), replies = engines, []
    for engine in engines:
        session = engine.session()
        session.run([b"MULTI"])
        queued = [session.run(command) for command in commands]
        if engine is alone:
            engine.quick_table = None  # as while a gate is closed: nothing goes together
            session.retable()
        replies.append([*queued, session.run([b"EXEC"])])
    assert replies[0] == replies[1]
    both_know_the_same(together, alone)


@given(pipelines, rooms, st.booleans(), st.booleans())
def test_a_transaction_that_comes_whole_is_answered_as_its_commands_one_by_one(
    commands: list[list[bytes]], room: int | None, overdue: bool, watching: bool
) -> None:
    whole, alone = two_engines(room, overdue=overdue)
    session, single = whole.session(), alone.session()
    if watching:
        session.run([b"WATCH", b"a"])
        single.run([b"WATCH", b"a"])
    chunk = [[b"MULTI"], *commands, [b"EXEC"]]
    reactor = Reactor(whole)
    assert executed(reactor, session, chunk) == len(chunk)
    trio.run(reactor.drain, 0)
    expected = [single.run(command) for command in chunk]
    assert session.take() == b"".join(expected)
    both_know_the_same(whole, alone)


@given(pipelines)
def test_groups_hold_all_commands_in_their_order(commands: list[list[bytes]]) -> None:
    found = list(groups(commands))
    assert [command for _, group in found for command in group] == commands
    for handler, group in found:
        if handler is not None:
            assert len({(command[0], len(command)) for command in group}) == 1
