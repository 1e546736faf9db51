"""Random variants built with reuse of objects, some of them compared with a clean build.

Every variant is the baseline with some candidates set to random values: one in some, half of all in
others, so that what is built is near what the store holds, and far from it. Which variants these
are follows from the seed alone. Every tenth is built once more in an empty tree without reuse, and
all objects, vmlinux and the image are compared byte by byte.

What is finished is written at once, so a run that was cut short goes on where it ended.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from optimizer.cli import workshop
from optimizer.cli.host import cores
from optimizer.errors import MemtotalError, UserError
from optimizer.kernel.kbuild import BuildTree
from optimizer.kernel.objects import ObjectStore
from optimizer.search.space import Space, build_space
from optimizer.settings import StudySettings, cache_folder, environment, load_study


@dataclass(frozen=True)
class Soaked:
    """One variant built with reuse.

    ``compared`` is how many files a clean build left that were compared, 0 where none was made;
    ``differing`` are those that were not the same, or ``build`` when just one of the two built.
    """

    seed: int
    number: int
    changed: int
    ok: bool
    wall_seconds: float
    objects_asked: int
    objects_reused: int
    compared: int = 0
    differing: tuple[str, ...] = ()


def variant(space: Space, seed: int, number: int) -> dict[str, str]:
    """The params of a random variant: what differs from the baseline's."""
    source = random.Random(f"{seed}/{number}")
    most = len(space.candidates) // 2
    # As many small steps as large ones: 1, 2 to 3, 4 to 7 ... up to half of the candidates.
    drawn = min(most, int(2 ** source.uniform(0.0, most.bit_length())))
    return {
        one.name: source.choice([value for value in one.values if value != one.baseline])
        for one in source.sample(space.candidates, drawn)
    }


class Soak:
    """The trees and the store of a soak, in a folder of their own."""

    def __init__(self, settings: StudySettings, folder: Path, jobs: int) -> None:
        kernel = settings.kernel
        self._folder = folder
        self._store = ObjectStore.open(folder, kernel.cross_compile, environment(), kernel.cache_gb)
        if self._store is None:
            raise UserError(f"No objects can be reused with {kernel.cross_compile}gcc.")
        self._tree = self._open(settings, "reusing", jobs, self._store)
        self._clean = self._open(settings, "clean", jobs, None)

    def _open(
        self, settings: StudySettings, name: str, jobs: int, store: ObjectStore | None
    ) -> BuildTree:
        tree = BuildTree.open(settings.kernel, self._folder / name, environment(), jobs, store)
        if tree is None:
            raise UserError(f"{self._folder / name} is in use.", "Wait for the other soak to end.")
        return tree

    def build(self, seed: int, number: int, changed: int, config: str, *, check: bool) -> Soaked:
        """Build a variant's .config with reuse, and if it is to be checked, clean beside it.

        Raises:
            MachineFault: the disk is full and the like.
        """
        done = self._tree.build(config, self._folder / "reusing.log")
        compared, differing = self._compare(config, done.ok) if check else (0, ())
        return Soaked(
            seed, number, changed, done.ok, round(done.seconds, 2), done.objects, done.reused,
            compared, differing,
        )  # fmt: skip

    def _compare(self, config: str, ok: bool) -> tuple[int, tuple[str, ...]]:
        self._clean.empty()
        clean = self._clean.build(config, self._folder / "clean.log")
        if clean.ok != ok:
            return 1, ("build",)
        if not ok:
            return 1, ()
        wanted, found = self._clean.fingerprint(), self._tree.fingerprint()
        return len(wanted), tuple(
            sorted(path for path, digest in wanted.items() if found.get(path) != digest)
        )


def soak(asked: argparse.Namespace, screen: Console) -> list[Soaked]:
    """Build what is not built yet.

    Raises:
        UserError: a tree is in use, objects cannot be reused with this compiler.
        MachineFault: the disk is full or broken.
    """
    settings = load_study(asked.study)
    folder = cache_folder() / "soak"
    if asked.afresh:
        shutil.rmtree(folder, ignore_errors=True)
        asked.output.unlink(missing_ok=True)
    found = read(asked.output, asked.seed)
    if not found:
        shutil.rmtree(folder, ignore_errors=True)  # the store begins empty
    space = build_space(workshop.symbol_tree(settings), settings.options)
    work = Soak(settings, folder, asked.jobs)
    for number in range(len(found) + 1, asked.variants + 1):
        params = variant(space, asked.seed, number)
        config = space.tree.resolve(space.assignment(params)).text
        check = asked.check_every > 0 and number % asked.check_every == 0
        one = work.build(asked.seed, number, len(params), config, check=check)
        found.append(one)
        asked.output.parent.mkdir(parents=True, exist_ok=True)
        with asked.output.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(asdict(one)) + "\n")
        screen.print(line(one), highlight=False, soft_wrap=True)
    return found[: asked.variants]


def read(path: Path, seed: int) -> list[Soaked]:
    """What an earlier run wrote; a last line that was cut short is left out.

    Raises:
        UserError: the file is something else, or of another seed.
    """
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    try:
        rows = [json.loads(one) for one in lines if one.endswith("\n")]
        found = [Soaked(**row | {"differing": tuple(row["differing"])}) for row in rows]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path} is not what a soak wrote: {error}.", "Move it out of the way."
        ) from None
    if any(one.seed != seed for one in found):
        raise UserError(f"{path} is of another seed.", "Move it out of the way.")
    if any(not one.endswith("\n") for one in lines):
        path.write_text("".join(one for one in lines if one.endswith("\n")), encoding="utf-8")
    return found


def line(one: Soaked) -> str:
    """A variant in words."""
    built = f"{one.wall_seconds:6.1f} s" if one.ok else "does not build"
    told = (
        f"{one.number:4} {one.changed:4} changed, {built}, {one.objects_asked:5,} asked, "
        f"{one.objects_reused:5,} reused"
    )
    if one.differing:
        return f"{told}, DIFFERENT from a clean build: {', '.join(one.differing[:5])}"
    return f"{told}, {one.compared:,} files as a clean build gives them" if one.compared else told


def summary(found: Sequence[Soaked]) -> str:
    """The whole soak in a sentence or two."""
    checked = [one for one in found if one.compared]
    wrong = sum(bool(one.differing) for one in checked)
    files = sum(one.compared for one in checked)
    return (
        f"{len(found)} variants, {sum(not one.ok for one in found)} of them do not build; "
        f"{sum(one.objects_reused for one in found):,} of "
        f"{sum(one.objects_asked for one in found):,} objects reused. "
        f"{len(checked)} compared with clean builds, {files:,} files: {wrong} differ."
    )


def main(arguments: Sequence[str]) -> int:
    """Soak; the exit code tells whether everything was as a clean build gives it."""
    parser = argparse.ArgumentParser(description=__doc__, prog="make soak")
    parser.add_argument("--study", default="versatilepb")
    parser.add_argument("--variants", type=int, default=200)
    parser.add_argument("--check-every", type=int, default=10, help="clean builds; 0: none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=cores())
    parser.add_argument("--output", type=Path, default=Path("results/bench/soak.jsonl"))
    parser.add_argument("--afresh", action="store_true", help="forget what is finished")
    asked = parser.parse_args(arguments)
    screen = Console(width=None if sys.stdout.isatty() else 140)
    try:
        found = soak(asked, screen)
    except MemtotalError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    screen.print(summary(found), highlight=False)
    return int(any(one.differing for one in found))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
