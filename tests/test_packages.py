"""requirements.lock names what an installation consists of, version by version, hash by hash."""

from __future__ import annotations

import re
from importlib.metadata import requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCK = Path(__file__).resolve().parent.parent / "requirements.lock"
HASH = re.compile(r" --hash=sha256:([0-9a-f]{64})")


def locked() -> dict[str, tuple[str, list[str]]]:
    """Name -> the version for this Python, and the hashes of its files."""
    found: dict[str, tuple[str, list[str]]] = {}
    entries = LOCK.read_text(encoding="ascii").replace("\\\n", " ").splitlines()
    for entry in entries:
        if entry.startswith("#"):
            continue
        requirement = Requirement(entry.partition(" --hash")[0])
        (pin,) = requirement.specifier
        assert pin.operator == "==", entry
        hashes = HASH.findall(entry)
        if requirement.marker is None or requirement.marker.evaluate():
            found[canonicalize_name(requirement.name)] = (pin.version, hashes)
    return found


def wanted(name: str) -> list[Requirement]:
    """What a package needs here, without extras."""
    needs = map(Requirement, requires(name) or [])
    return [one for one in needs if one.marker is None or one.marker.evaluate({"extra": ""})]


def test_every_package_has_one_version_and_hashes_that_differ() -> None:
    packages = locked()
    assert packages
    for name, (_, hashes) in packages.items():
        assert hashes, name
        assert len(set(hashes)) == len(hashes), name


def test_the_lock_holds_what_the_project_needs_and_nothing_else() -> None:
    packages, left = locked(), ["kvstore"]
    seen: set[str] = set()
    while left:
        for requirement in wanted(left.pop()):
            name = canonicalize_name(requirement.name)
            if name in seen:
                continue
            assert name in packages, name
            if version(name) != packages[name][0]:
                pytest.skip(f"{name} {version(name)} is installed, which may need something else")
            seen.add(name)
            left.append(name)
    assert seen == packages.keys()


def test_the_locked_versions_are_ones_that_the_project_takes() -> None:
    packages = locked()
    for requirement in wanted("kvstore"):
        pinned, _ = packages[canonicalize_name(requirement.name)]
        assert pinned in requirement.specifier, requirement.name
