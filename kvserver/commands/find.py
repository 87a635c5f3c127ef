"""FIND: keys by what their summaries say.

::

    FIND [pattern] [LEVEL name[,name…]] [SINCE ms] [UNTIL ms] [MINCOUNT n] [TEMPLATE id[,id…]]
         [TAG field value] [TEXT words] [SORT count|first|last|errors] [LIMIT n]
         [EXPLAIN | TIMELINE buckets]

All conditions must hold; LEVEL, TEMPLATE and TAG of the same field may be given several times,
and then one of the values is enough. ``pattern`` is a glob over keys (``MATCH pattern`` for one
that is spelled like an option). SINCE and UNTIL are epoch milliseconds: something happened to the
key at that time or later, or earlier. A template is one pattern id or several. TEXT is looked for
in the patterns of the key's events, in capital or small letters. SORT: the greatest count, the
earliest first, the latest last, the most errors come first; keys with equal values come in no
special order. LIMIT is 100 unless said otherwise, 0 for no limit.

The reply is an array of [key, summary as JSON]. With EXPLAIN it is a map instead: how the keys were
found, without the keys. With TIMELINE it is a map of events over time by level, estimated as
``kvserver.timeline`` says, from all keys found (there is no limit unless one is given).
"""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any, Final, NamedTuple

from kvserver import resp
from kvserver.commands.arguments import SYNTAX_ERROR, integer_argument
from kvserver.commands.table import CommandTable
from kvserver.errors import CommandError
from kvserver.index import SummaryIndex
from kvserver.indexstate import NO_FIRST, NO_LAST
from kvserver.query import SORTS, Found, Query, find
from kvserver.session import Session
from kvserver.timeline import MAX_BUCKETS, timeline
from kvserver.values import SummaryValue
from parser.summaryjson import to_json

TABLE: Final = CommandTable("summary")

_ROWS_A_STEP: Final = 16
_ALIASES: Final = {
    "WARN": "WARNING",
    "ERR": "ERROR",
    "CRIT": "CRITICAL",
    "EMERG": "EMERGENCY",
    "INFORMATION": "INFO",
}
"""Two spellings of one level; asking for either finds both."""


@TABLE.command("find", -1, "readonly", complexity="O(K) for K candidates of the best index")
def find_command(session: Session, args: list[bytes]) -> Generator[None, None, bytes]:
    """Returns keys and summaries by level, time, count, template, tag or text, from indexes."""
    return _run(session, parse_query(args[1:]))


def index_of(session: Session) -> SummaryIndex:
    """Return the server's index; the first to ask makes it."""
    engine = session.engine
    if engine.summary_index is None:
        engine.summary_index = SummaryIndex(session.keyspace)
        engine.stats_providers["find"] = engine.summary_index.statistics
    return engine.summary_index


class Asked(NamedTuple):
    """What a FIND asks for, and in which form."""

    query: Query
    explain: bool = False
    buckets: int = 0
    """Of a TIMELINE; 0 for none."""


def parse_query(words: list[bytes]) -> Asked:
    """Return what is asked for. Raises CommandError (a syntax error)."""
    said: dict[str, Any] = {}
    levels: set[str] = set()
    templates: set[int] = set()
    tags: dict[str, set[str]] = {}
    texts: list[bytes] = []
    explain = False
    buckets = 0
    rest = list(words)
    if rest and rest[0].upper() not in _OPTIONS:
        said["pattern"] = rest.pop(0)
    while rest:
        name = rest.pop(0).upper()
        count = _OPTIONS.get(name)
        if count is None or len(rest) < count:
            raise CommandError(SYNTAX_ERROR)
        values, rest = rest[:count], rest[count:]
        match name:
            case b"EXPLAIN":
                explain = True
            case b"MATCH" | b"PATTERN":
                said["pattern"] = values[0]
            case b"LEVEL":
                for level in _text(values[0]).upper().split(","):
                    levels |= {level, _ALIASES.get(level, level)}
                    levels |= {short for short, long in _ALIASES.items() if long == level}
            case b"TEMPLATE":
                templates |= {_pattern_id(one) for one in values[0].split(b",")}
            case b"TAG":
                tags.setdefault(_text(values[0]), set()).add(_text(values[1]))
            case b"TEXT":
                texts.append(values[0].lower())
            case b"SORT":
                said["sort"] = _text(values[0]).lower()
                if said["sort"] not in SORTS:
                    raise CommandError(f"ERR SORT is one of {' '.join(SORTS)}")
            case b"TIMELINE":
                buckets = integer_argument(values[0])
                if not 1 <= buckets <= MAX_BUCKETS:
                    raise CommandError(f"ERR TIMELINE is from 1 to {MAX_BUCKETS}")
                said.setdefault("limit", 0)
            case b"SINCE":
                said["since_ms"] = max(integer_argument(values[0]), NO_LAST + 1)
            case b"UNTIL":
                said["until_ms"] = min(integer_argument(values[0]), NO_FIRST - 1)
            case _:
                number = integer_argument(values[0])
                if number < 0:
                    raise CommandError(f"ERR {_text(name)} is negative")
                said["limit" if name == b"LIMIT" else "min_count"] = number
    query = Query(
        **said,
        levels=frozenset(levels),
        templates=frozenset(templates),
        tags={field: frozenset(values) for field, values in tags.items()},
        texts=tuple(texts),
    )
    return Asked(query, explain, buckets)


_OPTIONS: Final = {
    b"MATCH": 1,
    b"PATTERN": 1,
    b"LEVEL": 1,
    b"SINCE": 1,
    b"UNTIL": 1,
    b"MINCOUNT": 1,
    b"TEMPLATE": 1,
    b"TAG": 2,
    b"TEXT": 1,
    b"SORT": 1,
    b"LIMIT": 1,
    b"EXPLAIN": 0,
    b"TIMELINE": 1,
}
"""Option -> how many arguments it takes."""


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _pattern_id(raw: bytes) -> int:
    try:
        if len(raw) != 16:
            raise ValueError
        return int.from_bytes(bytes.fromhex(raw.decode("ascii")), "big")
    except (ValueError, UnicodeDecodeError):
        raise CommandError("ERR an id is 16 hexadecimal digits") from None


def _run(session: Session, asked: Asked) -> Generator[None, None, bytes]:
    index = index_of(session)
    found = yield from find(index, asked.query)
    if asked.buckets:
        told = yield from timeline(index, found.keys, asked.buckets)
        return resp.encode(session.resp, told)
    if asked.explain:
        return resp.encode(session.resp, _explanation(index, found))
    rows: list[bytes] = []
    keyspace = session.keyspace
    for at, key in enumerate(found.keys):
        value = keyspace.peek(key)
        if type(value) is not SummaryValue:
            continue  # it went between two steps
        try:
            summary = keyspace.read_summary(key, value)
        except CommandError:
            continue  # damaged: GET of that key says how
        text = json.dumps(to_json(summary), ensure_ascii=False, separators=(",", ":"))
        rows.append(b"*2\r\n" + resp.bulk(key) + resp.bulk(text.encode("utf-8", "replace")))
        if at % _ROWS_A_STEP == _ROWS_A_STEP - 1:
            yield
    return resp.array(rows)


def _explanation(index: SummaryIndex, found: Found) -> dict[str, Any]:
    return {
        "index": " ".join(found.index),
        "candidates": found.candidates,
        "examined": found.examined,
        "matched": len(found.keys),
        "caught_up_keys": found.caught_up,
        "caught_up_us": found.catch_up_ns // 1000,
        "search_us": found.search_ns // 1000,
        "indexed_keys": len(index.state.slots),
        "index_bytes": index.state.memory_bytes(),
    }
