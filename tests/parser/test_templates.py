"""Templates: which patterns are one event, that only their set decides, that counts add up."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.scores import labelled, score
from benchmarks.templates import mean, ours
from kvserver.catalogue import Catalogue
from parser.errors import FormatError
from parser.grouping import group
from parser.patterns import mask, pattern_id
from parser.pinned import PinnedTemplates, Wildcards, load_templates, template_id
from parser.templates import templates
from tests.support import DATA_DIR

ONE_TEMPLATE = {
    "a path is one value": (
        ["opened /srv/mail/inbox for reading", "opened ~/notes for reading"],
        "opened <*> for reading",
    ),
    "a request with another path": (
        ['served "GET /shop/cart HTTP/1.1" in 3 ms', 'served "GET / HTTP/1.1" in 12 s'],
        'served "GET <*> HTTP/<*>" in <*>',
    ),
    "a unit belongs to its number": (
        ["flushed 12 KB of cache", "flushed 3 MB of cache"],
        "flushed <*> of cache",
    ),
    "a date in words": (
        ["rotated on Mon Feb 3 10:00:00 UTC 2020", "rotated on Tue Mar 17 11:30:00 CET 2020"],
        "rotated on <*>",
    ),
    "true and false": (["dry run: true, keep=no", "dry run: false, keep=yes"], None),
    "an empty value": (["login name= tty=7", "login name=x1 tty=8"], "login name=<*> tty=<*>"),
    "empty brackets": (["peer (10.1.1.1) left", "peer () left"], "peer (<*>) left"),
    "lists of any length": (["freed 4 5 6 pages", "freed 9 pages"], "freed <*> pages"),
    "a list of words": (["tags [red, green] set", "tags [blue, red, pink] set"], "tags [<*>] set"),
    "a name behind user": (
        ["session of user alice ended", "session of user bob ended"],
        "session of user <*> ended",
    ),
    "words where numbers stand too": (
        ["zone eu7 joined the ring", "zone north joined the ring"],
        "zone <*> joined the ring",
    ),
    "many different words": (
        [f"mounted volume {name} read only" for name in ("ant", "bee", "cat", "dog", "eel")],
        "mounted volume <*> read only",
    ),
    "a value with signs of its own": (
        ["mail for joe@home was queued", "mail for x1 was queued", "mail for ann was queued"],
        "mail for <*> was queued",
    ),
}

SEVERAL_TEMPLATES = {
    "few words are names of events": ["power unit on line", "power unit off line"],
    "states tell what happened": [
        f"job 7 {state} by the scheduler" for state in ("started", "stopped", "paused", "resumed")
    ]
    + ["job 7 killed by the scheduler"],
    "the head tells what it is about": [
        f"{name} startup complete" for name in ("ant", "bee", "cat", "dog", "eel", "fox")
    ],
    "one word more": ["login failed", "login failed again"],
}


def grouped(lines: list[str]) -> dict[str, str]:
    masked = {line: mask(line.encode()).decode() for line in lines}
    found = group(masked.values())
    return {line: found[pattern] for line, pattern in masked.items()}


@pytest.mark.parametrize("rule", ONE_TEMPLATE)
def test_one_event_with_different_values_is_one_template(rule: str) -> None:
    lines, text = ONE_TEMPLATE[rule]
    found = set(grouped(lines).values())
    assert len(found) == 1
    if text is not None:
        assert found == {text}


@pytest.mark.parametrize("rule", SEVERAL_TEMPLATES)
def test_different_events_stay_apart(rule: str) -> None:
    lines = SEVERAL_TEMPLATES[rule]
    assert len(set(grouped(lines).values())) == len(lines)


def test_what_all_patterns_of_a_template_share_is_shown_as_it_was_written() -> None:
    lines = ["read hosts.conf for user ann", "read hosts.conf for user bob"]
    assert set(grouped(lines).values()) == {"read hosts.conf for user <*>"}


WORDS = st.sampled_from(["user", "ann", "bob", "cat", "dog", "eel", "7", "a1", "/x/y", "on", "="])
LINES = st.lists(
    st.lists(WORDS, min_size=1, max_size=5).map(lambda words: " ".join(words).encode()),
    min_size=1,
    max_size=40,
)


def seen(lines: list[tuple[int, bytes]]) -> dict[int, list[Any]]:
    """What a range reports of its lines, written independently of the parser."""
    found: dict[int, list[Any]] = {}
    for offset, line in sorted(lines):
        masked = mask(line)
        row = found.setdefault(
            pattern_id(masked), [masked, 0, (None, 1, offset), (None, 1, offset), line]
        )
        row[1] += 1
        row[3] = (None, 1, offset)
    return found


def described(catalogue: Catalogue) -> list[tuple[Any, ...]]:
    rows = {key: entry.packed() for key, entry in catalogue.entries()}
    return [
        (one.id, one.text, one.count, one.first, one.last, one.example, one.patterns)
        for one in templates(rows)
    ]


@given(LINES, st.integers(1, 6), st.integers(0, 2**32))
def test_any_partition_in_any_order_gives_the_same_catalogue_and_templates(
    lines: list[bytes], pieces: int, seed: int
) -> None:
    numbered = list(enumerate(lines))
    whole = Catalogue()
    whole.merge(seen(numbered))
    chance = random.Random(seed)
    parts: list[list[tuple[int, bytes]]] = [[] for _ in range(pieces)]
    for line in numbered:
        chance.choice(parts).append(line)
    chance.shuffle(parts)
    other = Catalogue()
    for part in parts:
        other.merge(seen(part))
    assert list(other.dump()) == list(whole.dump())
    assert described(other) == described(whole)


@given(LINES)
def test_counts_of_templates_add_up_overall_and_for_a_key(lines: list[bytes]) -> None:
    found = templates(seen(list(enumerate(lines))))
    assert sum(one.count for one in found) == len(lines)
    events: dict[int, int] = {}
    for line in lines[::2]:
        key = pattern_id(mask(line))
        events[key] = events.get(key, 0) + 1
    told = found.of_events({**events, 0: 5})
    assert sum(n for _, n in told) == len(lines[::2]) + 5
    assert [n for template, n in told if template is None] == [5]


@given(LINES)
def test_every_line_matches_the_template_that_its_pattern_belongs_to(lines: list[bytes]) -> None:
    found = templates(seen(list(enumerate(lines))))
    for line in lines:
        template = found.match(line)
        assert template is found.of_pattern(pattern_id(mask(line)))
        assert found.get(template.id) is template


def test_values_are_what_stands_where_the_template_has_a_wildcard() -> None:
    lines = [b"session of user ann from 10.0.0.1:22", b"session of user bob  from 10.0.0.2:22"]
    found = templates(seen(list(enumerate(lines))))
    assert [found.match(line).values(line) for line in lines] == [
        [b"ann", b"10.0.0.1:22"],
        [b"bob", b"10.0.0.2:22"],
    ]


def test_a_message_outside_of_the_catalogue_goes_to_the_template_that_covers_it() -> None:
    found = templates(seen([(0, b"user ann left"), (1, b"user bob left")]))
    assert found.match(b"user eve left").text == "user <*> left"
    stranger = found.match(b"nothing like it, 5")
    assert (stranger.text, stranger.count) == ("nothing like it, <*>", 0)


@given(st.lists(st.sampled_from(["a", "b", "ab", "<*>"]), max_size=5), st.text("ab", max_size=12))
def test_wildcards_match_what_a_regular_expression_matches(parts: list[str], text: str) -> None:
    import re

    pattern = "".join(".*?" if part == "<*>" else part for part in parts)
    expected = re.fullmatch(pattern, text) is not None
    assert (Wildcards("".join(parts)).match(text.encode()) is not None) == expected


def test_a_template_file_names_what_it_matches_and_the_rest_is_mined(tmp_path: Path) -> None:
    path = tmp_path / "templates.csv"
    path.write_text('EventId,EventTemplate\nE1,"user <*> left, <*> s"\nE2,"user ann left, <*> s"\n')
    lines = [b"user bob left, 3 s", b"user ann left, 4 s", b"door 5 open"]
    found = templates(seen(list(enumerate(lines))), load_templates(path))
    assert [found.match(line).id for line in lines[:2]] == ["E1", "E2"]
    assert found.match(lines[2]).id == template_id("door <*> open")
    assert [one.pinned for one in sorted(found, key=lambda one: one.text)] == [False, True, True]
    assert sum(one.count for one in found) == 3


def test_a_plain_template_file_has_a_template_a_line(tmp_path: Path) -> None:
    path = tmp_path / "templates.txt"
    path.write_text("# mine\n\nuser <*> left\n")
    named = load_templates(path).match(b"user  ann left")
    assert named is not None
    assert (named.id, named.text) == (template_id("user <*> left"), "user <*> left")


@pytest.mark.parametrize("content", ["", "# only a remark\n", "EventId,EventTemplate\n"])
def test_a_file_without_templates_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "empty.csv"
    path.write_text(content)
    with pytest.raises(FormatError, match=r"empty\.csv: no template"):
        load_templates(path)


def test_two_templates_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.csv"
    path.write_text("EventId,EventTemplate\nE1,a b\nE1,c d\n")
    with pytest.raises(FormatError, match="'E1'"):
        load_templates(path)


def test_of_several_templates_the_one_with_most_letters_names_a_message() -> None:
    pinned = PinnedTemplates([("general", "<*> left"), ("special", "user <*> left")])
    named = [pinned.match(line) for line in (b"user x left", b"all left", b"none")]
    assert [one and one.id for one in named] == ["special", "general", None]


@pytest.mark.slow
def test_grouping_is_accurate_on_labelled_logs_with_one_setting() -> None:
    sets = labelled(DATA_DIR / "loghub")
    if not sets:
        pytest.skip(f"labelled logs not here: {DATA_DIR / 'loghub'} (set KVSTORE_TEST_DATA)")
    scores = {name: score(ours(messages), true) for name, (messages, true) in sets.items()}
    assert min(one.grouping_accuracy for one in scores.values()) >= 0.85
    assert mean(list(scores.values())).grouping_accuracy >= 0.95
    assert mean(list(scores.values())).pair_f1 >= 0.90
