"""Clean rebuilds beside the search, and the cache command, by the command on the fake tree."""

from __future__ import annotations

import pytest
from fakes.world import UNSTEADY, World


def test_an_audit_says_that_a_clean_build_gives_the_same(world: World) -> None:
    done = world.memtotal("run", "small.toml", "--trials", "2", "--audit-builds", "100%")
    assert done.code == 0, done.err
    assert "trial 0 audited: " in done.out
    assert "files as a clean build gives them" in done.out
    assert "NOT what" not in done.out
    built = len(world.built())
    assert f"{built} of {built} sampled builds were compared with clean ones" in done.out


def test_a_difference_is_reported_and_ends_reuse_of_that_object(world: World) -> None:
    world.program("fake-gcc", UNSTEADY)
    done = world.memtotal("run", "small.toml", "--trials", "2", "--audit-builds", "1.0")
    assert done.code == 0, done.err
    assert "NOT what a clean build gives: kernel/printk.o, vmlinux" in done.out.replace("\n", " ")
    assert (world.cache / "objects" / "distrusted").read_text() == "kernel/printk.o\n"
    shown = world.memtotal("cache", "--json").json
    assert shown["distrusted"] == ["kernel/printk.o"]


def test_without_being_asked_nothing_is_audited(world: World) -> None:
    done = world.memtotal("run", "small.toml", "--trials", "2")
    assert "audited" not in done.out
    assert not (world.cache / "audit").exists()


@pytest.mark.parametrize("share", ["5 parts", "101%", "-1", "2"])
def test_a_share_that_is_none_is_refused(world: World, share: str) -> None:
    done = world.memtotal("run", "small.toml", "--audit-builds", share, code=2)
    assert done.code == 2
    assert "--audit-builds" in done.err
    assert len(done.err.splitlines()) <= 5


def test_the_cache_is_shown_and_cleared(world: World) -> None:
    assert world.memtotal("cache", "--json").json["objects"] == 0
    world.memtotal("run", "small.toml", "--trials", "3")
    shown = world.memtotal("cache", "--json").json
    assert shown["objects"] > 0
    assert shown["bytes"] > 0
    assert shown["builds"] >= 2
    assert shown["compiled"] == shown["objects"]
    text = world.memtotal("cache").out
    assert f"{shown['objects']}, " in text
    assert "objects asked for" in text
    assert world.memtotal("cache", "--clear").out.startswith("Removed ")
    assert world.memtotal("cache", "--json").json["objects"] == 0


def test_reuse_can_be_turned_off(world: World) -> None:
    world.edit(world.study, "[kernel]\n", "[kernel]\nreuse_objects = false\n")
    done = world.memtotal("run", "small.toml", "--trials", "2")
    assert done.code == 0, done.err
    assert not (world.cache / "objects").exists()


def test_a_store_that_is_full_loses_its_oldest(world: World) -> None:
    world.edit(world.study, "[kernel]\n", "[kernel]\ncache_gb = 0.000001\n")
    world.memtotal("run", "small.toml", "--trials", "2")
    held = world.memtotal("cache", "--json").json["bytes"]
    assert held > 1000
    world.memtotal("run", "small.toml", "--trials", "2")  # a run begins within the limit
    assert world.memtotal("cache", "--json").json["bytes"] <= 1000
