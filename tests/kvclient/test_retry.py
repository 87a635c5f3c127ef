"""When a client tries again, and how long it waits."""

from __future__ import annotations

import random

from kvclient.errors import ConnectionFailed, ConnectionLost, ServerLoading, TimedOut
from kvclient.retry import FIRST_S, LONGEST_S, Backoff, Retry

LOST = ConnectionLost("gone")
LOADING = ServerLoading("LOADING the data set is being read")


def test_delays_grow_stay_bounded_and_end_with_the_budget() -> None:
    backoff = Backoff(60.0, 100.0, random.Random(7))
    delays: list[float] = []
    now_s = 100.0
    while (delay_s := backoff.delay_s(now_s)) is not None:
        delays.append(delay_s)
        now_s += delay_s
    assert FIRST_S / 2 <= delays[0] <= FIRST_S
    assert max(delays) <= LONGEST_S
    assert now_s == 160.0
    assert 30 < len(delays) < 80


def test_without_a_budget_there_is_no_second_try() -> None:
    failed = ConnectionFailed("here:1", "connection refused")
    assert Retry(0.0, 5.0, repeatable=True).delay_s(5.0, failed, [], stale=False) is None


def test_a_command_that_may_have_run_is_not_sent_again() -> None:
    for failure in (LOST, TimedOut("late")):
        retry = Retry(60.0, 0.0, repeatable=False)
        assert retry.delay_s(0.0, failure, [], stale=True) is None


def test_a_stale_connection_is_renewed_once_without_waiting() -> None:
    retry = Retry(0.0, 0.0, repeatable=True)
    assert retry.delay_s(0.0, LOST, [], stale=True) == 0.0
    assert retry.delay_s(0.0, LOST, [], stale=True) is None


def test_a_server_that_is_loading_is_asked_again() -> None:
    assert Retry(9.0, 0.0, repeatable=False).delay_s(0.0, None, [LOADING], stale=True) is not None
    assert Retry(9.0, 0.0, repeatable=False).delay_s(0.0, LOADING, [], stale=False) is not None


def test_commands_that_ran_are_not_sent_again_because_others_came_too_early() -> None:
    replies = [LOADING, 1]
    assert Retry(9.0, 0.0, repeatable=False).delay_s(0.0, None, replies, stale=True) is None
    assert Retry(9.0, 0.0, repeatable=True).delay_s(0.0, None, replies, stale=True) is not None
