"""The store of objects as files: its limit, its statistics, what is damaged or half written."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from optimizer.kernel import objects
from optimizer.kernel.objects import ObjectCounts, ObjectStore


def entry(store: Path, name: str, size: int, used: float) -> Path:
    path = store / name[:2] / name[2:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (used, used))
    return path


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    (tmp_path / "objects").mkdir()
    return ObjectStore(tmp_path / "objects", tmp_path, Path("/bin/cc"), "identity", limit_gb=1.0)


def log(tmp_path: Path, *words: str) -> Path:
    path = tmp_path / "log"
    lines = [f"{word} some/object_{number}.o detail\n" for number, word in enumerate(words)]
    path.write_text("".join(lines))
    return path


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    for number in range(10):
        entry(tmp_path, f"ab{number}", 100, used=1000.0 + (number * 7) % 10)
    assert objects.trim(tmp_path, limit_bytes=500) == 600  # down to nine tenths of the limit
    left = {path.name for path in (tmp_path / "ab").iterdir()}
    assert left == {str(number) for number in range(10) if (number * 7) % 10 >= 6}


def test_a_store_within_its_limit_loses_nothing(tmp_path: Path) -> None:
    kept = entry(tmp_path, "abc", 500, used=1.0)
    assert objects.trim(tmp_path, limit_bytes=500) == 0
    assert kept.exists()


def test_halves_that_a_killed_writer_left_go_when_they_are_old(tmp_path: Path) -> None:
    old = entry(tmp_path, "abc.123.part", 5, used=1.0)
    young = tmp_path / "ab" / "d.124.part"
    young.write_bytes(b"x")
    objects.trim(tmp_path, limit_bytes=500)
    assert not old.exists()
    assert young.exists()


def test_trimming_what_another_trims_too_is_no_error(tmp_path: Path) -> None:
    for number in range(300):
        entry(tmp_path, f"{number % 10:02d}{number}", 10, used=float(number))
    threads = [threading.Thread(target=objects.trim, args=(tmp_path, 100)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(path.is_file() for path in tmp_path.rglob("*")) <= 10


def test_usage_and_clear(store: ObjectStore, tmp_path: Path) -> None:
    entry(tmp_path / "objects", "abc", 100, used=1.0)
    entry(tmp_path / "objects", "cde", 50, used=1.0)
    store.finish(log(tmp_path, "reused", "reused", "kept", "rewritten", "compiled-whole"))
    store.finish(log(tmp_path, "compiled"))
    store.distrust(["mm/slub.o", "fs/open.o"])
    store.distrust(["mm/slub.o"])
    found = objects.usage(tmp_path)
    assert (found.entries, found.bytes) == (2, 150)
    assert found.counts == ObjectCounts(reused=3, compiled=3, builds=2, kept=1)
    assert found.distrusted == ("fs/open.o", "mm/slub.o")
    assert objects.clear(tmp_path) == 150
    emptied = objects.usage(tmp_path)
    assert (emptied.entries, emptied.counts, emptied.distrusted) == (0, ObjectCounts(), ())


def test_no_store_yet_is_an_empty_one(tmp_path: Path) -> None:
    assert objects.usage(tmp_path / "nowhere").entries == 0
    assert objects.clear(tmp_path / "nowhere") == 0


@pytest.mark.parametrize("damage", ["", "{", "[1]", '{"reused": "many"}'])
def test_damaged_statistics_start_anew(store: ObjectStore, tmp_path: Path, damage: str) -> None:
    (tmp_path / "objects" / "statistics.json").write_text(damage)
    store.finish(log(tmp_path, "reused"))
    assert objects.usage(tmp_path).counts == ObjectCounts(reused=1, builds=1)


def test_a_build_without_a_log_counts_for_nothing(store: ObjectStore, tmp_path: Path) -> None:
    assert store.finish(tmp_path / "none") == ObjectCounts()
    assert objects.usage(tmp_path).counts == ObjectCounts()


@pytest.mark.parametrize("prefix", ["no-such-", "/opt/cross/bin/arm-"])
def test_a_compiler_that_path_does_not_find_is_left_alone(tmp_path: Path, prefix: str) -> None:
    assert ObjectStore.open(tmp_path, prefix, {"PATH": "/usr/bin:/bin"}) is None


def test_another_compiler_is_another_identity(tmp_path: Path) -> None:
    seen = set()
    for version in ("12", "13"):
        program = tmp_path / version / "x-gcc"
        program.parent.mkdir()
        program.write_text(
            f"#!/bin/sh\n[ $1 = -v ] && echo gcc {version} && exit\necho {program}\n"
        )
        program.chmod(0o755)
        env = {"PATH": f"{program.parent}:/usr/bin:/bin"}
        opened = ObjectStore.open(tmp_path / "cache", "x-", env)
        assert opened is not None
        given = opened.environment(env, tmp_path / "log")
        assert given["MEMTOTAL_COMPILER"] == str(program)
        assert given["PATH"].endswith(env["PATH"])
        seen.add(given["MEMTOTAL_IDENTITY"])
    assert len(seen) == 2
