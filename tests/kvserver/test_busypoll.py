"""Busy polling with a clock that the test moves: it looks while that pays, and sleeps when not."""

from __future__ import annotations

from collections.abc import Callable

from kvserver.busypoll import (
    GOOD_HITS,
    INTERRUPTED_NS,
    MISS_COSTS,
    MOST_CREDIT,
    MOST_REST_WAITS,
    REST_WAITS,
    BusyPolling,
)

LOOK_US = 50
A_LOOK_NS = 1000
READY = [(7, 1)]


class Machine:
    """Requests that come at certain times, and a clock that only polling moves."""

    def __init__(self, next_request_ns: Callable[[int], int], look_us: int = LOOK_US) -> None:
        self.now_ns = 0
        self.request_ns = 0
        self.sleeps = 0
        self.looks = 0
        self.next_request_ns = next_request_ns
        self.interrupted_look = 0
        self.polling = BusyPolling(self.poll, look_us, lambda: self.now_ns)

    def poll(self, timeout_s: float) -> list[tuple[int, int]]:
        if timeout_s:
            if self.now_ns < self.request_ns:
                self.sleeps += 1
                self.now_ns = self.request_ns
        else:
            self.looks += 1
            self.now_ns += A_LOOK_NS
            if self.looks == self.interrupted_look:
                self.now_ns += INTERRUPTED_NS + LOOK_US * 1000
        return READY if self.now_ns >= self.request_ns else []

    def serve(self, requests: int) -> None:
        for n in range(requests):
            self.request_ns = self.now_ns + self.next_request_ns(n)
            assert self.polling.wait(1.0) == READY

    def is_looking(self) -> bool:
        """A call, so that no type checker takes the answer of before for that of now."""
        return self.polling.looking


def test_a_client_that_asks_again_at_once_finds_the_server_awake() -> None:
    machine = Machine(lambda _n: 20_000)
    machine.serve(1000)
    assert machine.sleeps == 0
    assert (machine.polling.hits, machine.polling.misses) == (1000, 0)


def test_clients_that_come_seldom_cost_one_look_in_many_waits() -> None:
    machine = Machine(lambda _n: 1_000_000)
    machine.serve(100 * MOST_REST_WAITS)
    assert machine.sleeps == 100 * MOST_REST_WAITS
    assert machine.polling.misses < 110
    assert machine.looks <= 110 * (LOOK_US * 1000 // A_LOOK_NS + 1)


def test_a_wait_is_never_longer_than_the_look_and_the_sleep() -> None:
    machine = Machine(lambda _n: 51_000)
    before = machine.now_ns
    machine.serve(1)
    assert machine.now_ns - before <= 52_000


def test_looking_goes_on_while_four_of_five_looks_find_something() -> None:
    machine = Machine(lambda n: 1_000_000 if n % 6 == 5 else 20_000)
    machine.serve(6000)
    assert machine.polling.misses == 1000
    assert machine.polling.hits == 5000


def test_looking_ends_when_it_pays_no_more_and_begins_again_when_it_does() -> None:
    machine = Machine(lambda _n: 20_000)
    machine.serve(100)
    assert machine.is_looking()
    machine.next_request_ns = lambda _n: 1_000_000
    machine.serve(MOST_CREDIT // MISS_COSTS)
    assert not machine.is_looking()
    machine.next_request_ns = lambda _n: 20_000
    machine.serve(REST_WAITS + 1)
    assert machine.is_looking()


def test_what_is_there_already_is_taken_with_the_first_look() -> None:
    machine = Machine(lambda _n: 0)
    machine.serve(100)
    assert machine.looks == 100
    assert (machine.polling.hits, machine.polling.misses) == (0, 0)
    assert machine.is_looking()


def test_with_nothing_to_look_for_it_sleeps_at_once() -> None:
    machine = Machine(lambda _n: 20_000, look_us=0)
    machine.serve(2 * REST_WAITS)
    assert machine.looks == 0


def test_an_interrupted_look_ends_looking_because_somebody_else_wants_the_core() -> None:
    machine = Machine(lambda _n: 20_000)
    machine.serve(MOST_CREDIT)
    machine.interrupted_look = machine.looks + 2
    machine.serve(1)
    assert machine.polling.interrupted == 1
    assert not machine.is_looking()
    machine.serve(REST_WAITS)
    assert machine.is_looking()


def rest_after_interruption(machine: Machine) -> int:
    """Interrupt the next look; return how many waits go without looking after it."""
    machine.interrupted_look = machine.looks + 2
    machine.serve(1)
    assert not machine.is_looking()
    waits = 0
    while not machine.is_looking():
        machine.serve(1)
        waits += 1
    return waits


def test_the_rest_grows_while_looking_fails_and_is_short_again_after_it_proved_itself() -> None:
    machine = Machine(lambda _n: 20_000)
    rests = [rest_after_interruption(machine) for _ in range(8)]
    assert rests == [256, 512, 1024] + [MOST_REST_WAITS] * 5
    machine.serve(GOOD_HITS + 1)
    assert rest_after_interruption(machine) == REST_WAITS
