"""Large writes in pieces: ahead of the record that makes them count, between those of others.

A record of 16 MB takes as long as the system needs to take 16 MB, and everybody waits. So what is
large is *staged*: it goes to the journal in pieces, each a record that changes nothing, and the
record that makes the change names them. In the bodies (see `record`)::

    stg id bytes            an effect: the next piece of what was staged as ``id``
    run id pieces count     an effect: ``count`` effects, which stand packed in these pieces
    extension type 1        instead of any bytes: u64 id, u32 pieces; all pieces, joined

Guarantees:

* What was staged counts from the record on that names it, the only one that does. What none names
  (the server crashed, the command failed, the client left) is nothing: a reader skips it, a
  compaction leaves it out.
* A record and the pieces that it names stand in one file: no segment ends while one is staged.
* A name with pieces missing is an error, never a shorter value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from operator import itemgetter
from struct import Struct
from typing import Any, Final

import msgpack

from kvserver.errors import RecordError
from kvserver.journal.record import (
    DECODER_OPTIONS,
    MAX_ELEMENTS,
    Effect,
    checked_effects,
    decode_body,
    new_packer,
)

__all__ = ["PIECE_BYTES", "Stage", "StagedReader", "Staging"]

PIECE_BYTES: Final = 1 << 18
"""0.15 ms each, on a page cache that takes 2 GB a second."""

_REFERENCE: Final = Struct(">QI")
_REFERENCE_TYPE: Final = 1
_PIECES: Final = frozenset(["stg", b"stg"])
_RUNS: Final = frozenset(["run", b"run"])
_STAGED: Final = _PIECES | _RUNS


class StagedReader:
    """Reads the bodies of one file in order, and puts what was staged where it is named."""

    def __init__(self) -> None:
        self._pieces: dict[int, list[bytes]] = {}
        self._values: dict[int, bytes] = {}
        """What the present record names; once for all places, however many a bad file has."""

    def effects_of(self, body: bytes) -> list[list[Any]]:
        """Return the effects of the next record; none, when it is a piece of a later one.

        Raises:
            RecordError: the body is not an array of effects, or pieces that it names are missing.
        """
        try:
            effects = decode_body(body, self._value)
            # Where nothing is staged nothing can be named, and to look at each effect costs a tenth
            # of what it takes to apply it. A piece stands alone in its record.
            if (effects and effects[0][0] in _PIECES) or (
                self._pieces and not _STAGED.isdisjoint(map(itemgetter(0), effects))
            ):
                effects = list(self._expanded(effects))
        except (TypeError, ValueError) as error:
            raise RecordError(f"what was staged cannot be read: {error}") from error
        while self._values:
            self._pieces.pop(self._values.popitem()[0], None)
        return effects

    def _value(self, kind: int, data: bytes) -> bytes:
        if kind != _REFERENCE_TYPE or len(data) != _REFERENCE.size:
            raise RecordError("an extension type that is none of ours")
        number, count = _REFERENCE.unpack(data)
        value = self._values.get(number)
        return self._joined(number, count) if value is None else value

    def _joined(self, number: int, count: int) -> bytes:
        pieces = self._pieces.get(number, [])
        if len(pieces) != count:
            raise RecordError(f"{len(pieces)} of {count} staged pieces are there")
        value = self._values[number] = b"".join(pieces)
        return value

    def _expanded(self, effects: list[list[Any]]) -> Iterator[list[Any]]:
        for effect in effects:
            if effect[0] in _PIECES:
                _, number, piece = effect
                if type(number) is not int or type(piece) is not bytes:
                    raise RecordError("a staged piece holds no bytes")
                self._pieces.setdefault(number, []).append(piece)
            elif effect[0] in _RUNS:
                _, number, pieces, count = effect
                if number in self._values:
                    raise RecordError("staged effects are named twice")
                yield from self._run(self._joined(number, pieces), count)
            else:
                yield effect

    def _run(self, packed: bytes, count: int) -> list[list[Any]]:
        size = len(packed)
        most = min(size, MAX_ELEMENTS)
        unpacker = msgpack.Unpacker(
            max_buffer_size=max(size, 1),
            ext_hook=self._value,
            max_array_len=most,
            max_map_len=most,
            **DECODER_OPTIONS,
        )
        unpacker.feed(packed)
        effects = list(islice(unpacker, count))
        if len(effects) != count or unpacker.tell() != size:
            raise RecordError(f"{len(effects)} of {count} staged effects are there")
        return checked_effects(effects)


class Stage:
    """One value, or one run of effects, that is being written ahead; made by `Staging.begin`."""

    __slots__ = ("_number", "_pieces", "_staging", "owner", "released")

    def __init__(self, staging: Staging, owner: object):
        self.owner = owner
        self.released = False
        """Whether the record of this turn is the one that may name it."""
        self._staging = staging
        self._number = 0
        self._pieces = 0

    def write(self, piece: bytes | memoryview) -> None:
        """Write the next piece.

        What goes wrong the journal keeps in mind: the record that names the piece will be refused.
        """
        if not self._pieces:  # not before: each number that was given is that of a record
            self._number = self._staging.new_number()
        self._pieces += 1
        self._staging.write(self._number, piece)

    def stands_for(self, value: object) -> None:
        """Let a record name these pieces wherever ``value``, this very object, is in an effect.

        That is the record of the turn in which the stage is released: two that name it would be one
        too many, and somebody else's effects may hold the same object (COPY).
        """
        reference = msgpack.ExtType(_REFERENCE_TYPE, _REFERENCE.pack(self._number, self._pieces))
        self._staging.references[id(value)] = (self, value, reference)

    def run_of(self, count: int) -> Effect:
        """Return the effect that stands for the ``count`` packed effects in these pieces."""
        return "run", self._number, self._pieces, count

    def release(self) -> None:
        """Let go, as soon as the record of this turn is made; harmless when repeated."""
        self.released = True
        self._staging.released.append(self)


class Staging:
    """What is staged in an open journal.

    Args:
        append: takes the body of a record that changes nothing.
        first: no staging of this number, or a higher one, is in the journal.
    """

    def __init__(self, append: Callable[[bytes], None], first: int):
        self._append = append
        self._next = first
        self._pack = new_packer().pack
        self._open: set[Stage] = set()
        self.released: list[Stage] = []
        self.references: dict[int, tuple[Stage, object, msgpack.ExtType]] = {}
        """By the id of a value: where it is staged, the value, what records say instead of it."""
        self.bytes = 0
        """Staged since the start."""

    def __len__(self) -> int:
        """How many are open."""
        return len(self._open)

    def is_of(self, owner: object) -> bool:
        """Whether something is open that this one began."""
        return any(stage.owner is owner for stage in self._open)

    def begin(self, owner: object) -> Stage:
        """Begin to write something ahead; whoever does calls `Stage.release` in any case.

        Ask `Journal.may_stage` before.
        """
        stage = Stage(self, owner)
        self._open.add(stage)
        return stage

    def release_all_of(self, owner: object) -> None:
        """Let go of all that this one began."""
        for stage in self._open:
            if stage.owner is owner:
                stage.release()

    def new_number(self) -> int:
        """Return a number that no staging has."""
        self._next += 1
        return self._next - 1

    def write(self, number: int, piece: bytes | memoryview) -> None:
        """Write a piece; see `Stage.write`."""
        self.bytes += len(piece)
        self._append(self._pack((("stg", number, piece),)))

    def named_in_record(self, effects: Sequence[Effect]) -> Sequence[Effect]:
        """Return the effects of this turn's record, with names for values that are staged."""
        if not self.references:  # as in nearly every turn
            return effects
        return self._naming(effects, lambda stage: stage.released)

    def named_by(self, owner: object, effects: Sequence[Effect]) -> Sequence[Effect]:
        """Return effects of a later record, with names for the values that ``owner`` has staged."""
        if not self.references:
            return effects
        return self._naming(effects, lambda stage: stage.owner is owner)

    def _naming(self, effects: Sequence[Effect], may: Callable[[Stage], bool]) -> Sequence[Effect]:
        named = {key: name for key, (stage, _, name) in self.references.items() if may(stage)}
        return [_with_names(effect, named) for effect in effects]

    def forget_released(self) -> None:
        """Forget what was let go: the record that could name it is made."""
        if self.released:
            self._open.difference_update(self.released)
            self.released.clear()
            self.references = {
                key: found for key, found in self.references.items() if found[0] in self._open
            }


def _with_names(part: Any, named: dict[int, msgpack.ExtType]) -> Any:
    """Return an effect, or a part of one, with the names of the objects that have one."""
    if isinstance(part, list | tuple):
        return [_with_names(each, named) for each in part]
    return named.get(id(part), part)
