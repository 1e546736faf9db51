"""Seconds a variant, four ways: clean, warm kbuild, warm kbuild with ccache, and reuse of objects.

The variants are those that a real search asked for, in its order, and single toggles between them.
Each way has an output tree of its own; all start empty. Every vmlinux is compared with that of the
clean build of the same variant. What is finished is written at once, so a run that was cut short
goes on where it ended. It does not go on with more ways than it began with: the store would hold
already what the finished variants have to compile. Where the trees are gone meanwhile, what stores
have of the finished variants is made anew first, which is not measured.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from optimizer.cli import workshop
from optimizer.errors import MemtotalError, UserError
from optimizer.kernel.kbuild import BuildTree
from optimizer.kernel.kconfig import SymbolTree
from optimizer.kernel.objects import ObjectStore
from optimizer.records import Assignment
from optimizer.settings import StudySettings, cache_folder, environment, load_study

WAYS = ("clean", "kbuild", "ccache", "memtotal")
WITH_STORES = ("ccache", "memtotal")  # what they compile depends on all that was built before
SEQUENCE = Path(__file__).parent / "data" / "build-variants.json"


@dataclass(frozen=True)
class Row:
    """One variant built one way.

    ``objects_asked`` is what kbuild called the compiler for or was spared, ``objects_compiled``
    what was compiled of it, ``objects_changed`` how many files of objects have other bytes than
    before the build, ``objects_new`` how many have bytes that no earlier variant gave them.
    """

    variant: str
    way: str
    wall_seconds: float
    cpu_seconds: float
    objects_asked: int
    objects_compiled: int
    objects_changed: int
    objects_new: int
    vmlinux_identical: bool


class Way:
    """One way of building: a tree, and the environment in which make runs."""

    def __init__(self, name: str, settings: StudySettings, folder: Path, jobs: int) -> None:
        self.name = name
        self._folder = folder
        env = environment()
        self._store: ObjectStore | None = None
        if name == "ccache":
            env = ccache_environment(settings.kernel.cross_compile, folder, env)
        elif name == "memtotal":
            self._store = empty_store(settings, folder)
        self._env = env
        tree = BuildTree.open(settings.kernel, folder / name, env, jobs, self._store)
        if tree is None:
            raise UserError(f"{folder / name} is in use.", "Wait for the other benchmark to end.")
        self.tree = tree
        self.is_empty = not (tree.folder / "vmlinux").is_file()
        self._known = folder / "objects.known"  # the ways leave the same objects
        self._left: set[str] = set()

    def build(self, config: str) -> tuple[dict[str, float], dict[str, str]]:
        """Build a .config; figures of the build, and digests of what it left.

        Raises:
            UserError: it does not build.
        """
        if self.name == "clean":
            self.tree.empty()
        before = self.tree.fingerprint()
        misses, cpu = self._misses(), cpu_seconds()
        done = self.tree.build(config, self._folder / f"{self.name}.log")
        cpu = cpu_seconds() - cpu
        if not done.ok:
            raise UserError(f"The {self.name} build failed: {done.errors}.", f"See {done.log}.")
        after = self.tree.fingerprint()
        objects = {path: digest for path, digest in after.items() if path.endswith(".o")}
        self._left = {f"{path} {digest}" for path, digest in objects.items()}
        compiled = done.objects - done.reused
        if self.name == "ccache":
            compiled = self._misses() - misses
        return {
            "wall_seconds": round(done.seconds, 2),
            "cpu_seconds": round(cpu, 2),
            "objects_asked": done.objects,
            "objects_compiled": compiled,
            "objects_changed": sum(before.get(path) != objects[path] for path in objects),
            "objects_new": len(self._left - self._seen()),
        }, after

    def remember(self) -> None:
        """The objects that the last build left are not new any more."""
        self._known.write_text("\n".join(sorted(self._seen() | self._left)))

    def _seen(self) -> set[str]:
        """What is known, path and digest of each; the file outlives an interruption."""
        return set(self._known.read_text().split("\n")) if self._known.is_file() else set()

    def _misses(self) -> int:
        """Compilations that ccache could not spare so far."""
        if self.name != "ccache":
            return 0
        said = subprocess.run(
            ["ccache", "--print-stats"], env=self._env, capture_output=True, text=True, check=True
        ).stdout
        figures = dict(line.split("\t") for line in said.splitlines())
        return sum(int(figures[name]) for name in ("cache_miss", "preprocessor_error"))


def empty_store(settings: StudySettings, folder: Path) -> ObjectStore:
    """A store that begins empty.

    Raises:
        UserError: objects cannot be reused with this compiler.
    """
    kernel = settings.kernel
    store = ObjectStore.open(folder / "store", kernel.cross_compile, environment(), kernel.cache_gb)
    if store is None:
        raise UserError(f"No objects can be reused with {kernel.cross_compile}gcc.")
    return store


def ccache_environment(cross_compile: str, folder: Path, env: Mapping[str, str]) -> dict[str, str]:
    """ccache in front of the compiler, under the compiler's own name.

    Raises:
        UserError: it is not installed.
    """
    program = shutil.which("ccache")
    if program is None:
        raise UserError("ccache is not installed.", "Run: sudo apt install ccache")
    links = folder / "ccache-bin"
    links.mkdir(parents=True, exist_ok=True)
    link = links / f"{cross_compile}gcc"
    if not link.is_symlink():
        link.symlink_to(program)
    return dict(env) | {
        "PATH": f"{links}{os.pathsep}{env['PATH']}",
        "CCACHE_DIR": str(folder / "ccache-store"),
    }


def cpu_seconds() -> float:
    """What all processes that this one started and that have ended took of the processors."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def config_of(symbols: SymbolTree, settings: StudySettings, values: Mapping[str, str]) -> str:
    """The whole .config of a variant; the study's gates are on in all of them."""
    gates = dict.fromkeys(settings.options.gate, "y")
    return symbols.resolve(Assignment(gates | dict(values))).text


def main(arguments: Sequence[str]) -> None:
    """Build what is not built yet, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, prog="make bench-build")
    parser.add_argument("--study", default="versatilepb")
    parser.add_argument("--variants", type=int, default=0, help="the first N; 0: all")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, help="clean is always one")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("results/bench/build.json"))
    parser.add_argument("--sequence", type=Path, default=SEQUENCE, help="the variants, in order")
    parser.add_argument("--afresh", action="store_true", help="forget what is finished")
    asked = parser.parse_args(arguments)
    try:
        build_all(asked, Console(width=None if sys.stdout.isatty() else 140))
    except MemtotalError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def build_all(asked: argparse.Namespace, screen: Console) -> None:
    """Build every variant every way, as far as that is not done.

    Raises:
        UserError: a tree is in use, something is not installed or does not build.
        MachineFault: the disk is full or broken.
    """
    sequence = json.loads(asked.sequence.read_text(encoding="utf-8"))[: asked.variants or None]
    settings = load_study(asked.study)
    folder = cache_folder() / "bench"
    if asked.afresh:
        shutil.rmtree(folder, ignore_errors=True)
        asked.output.unlink(missing_ok=True)
    names = tuple(name for name in WAYS if name == WAYS[0] or name in asked.ways)
    rows = _read(asked.output)
    if lacking := [name for name in names if not _has(name, rows)]:
        raise UserError(
            f"{asked.output} was begun without {', '.join(lacking)}.",
            "Move it out of the way, or ask for the ways that it has.",
        )
    if not rows:
        shutil.rmtree(folder, ignore_errors=True)  # every way starts from nothing
    symbols = workshop.symbol_tree(settings)
    ways = [Way(name, settings, folder, asked.jobs) for name in names]
    emptied = [way for way in ways if rows and way.is_empty and way.name in WITH_STORES]
    last = ""
    for one in sequence:
        config = config_of(symbols, settings, one["values"])
        if any(row.variant == one["variant"] for row in rows):
            last = config
            for way in emptied:
                screen.print(f"{one['variant']}: {way.name}, once more ...")
                way.build(config)
                way.remember()
            continue
        found: list[Row] = []
        vmlinux = ""
        for way in ways:
            screen.print(f"{one['variant']}: {way.name} ...")
            if last and way.name != "clean":
                way.build(last)  # after an interruption: as the variant before left it
            figures, left = way.build(config)
            vmlinux = vmlinux or left["vmlinux"]
            same = left["vmlinux"] == vmlinux
            found.append(Row(one["variant"], way.name, **figures, vmlinux_identical=same))  # type: ignore[arg-type]
        rows += found
        last = ""
        _write(asked.output, rows)
        for way in ways:
            way.remember()
    shown = {one["variant"] for one in sequence}
    show([row for row in rows if row.variant in shown and row.way in names], names, screen)


def _has(way: str, rows: Sequence[Row]) -> bool:
    """Whether every finished variant was built that way."""
    built = {row.variant for row in rows if row.way == way}
    return built == {row.variant for row in rows}


def _read(path: Path) -> list[Row]:
    if not path.is_file():
        return []
    try:
        return [Row(**row) for row in json.loads(path.read_text(encoding="utf-8"))["rows"]]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path} is not what this benchmark writes: {error}.", "Move it out of the way."
        ) from None


def _write(path: Path, rows: Sequence[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".part")
    half.write_text(json.dumps({"rows": [asdict(row) for row in rows]}, indent=1) + "\n")
    half.replace(path)


def show(rows: Sequence[Row], ways: Sequence[str], screen: Console) -> None:
    """Print a table of the variants and one of the sums.

    Args:
        rows: of every variant one row a way.
        ways: the clean build first.
        screen: where to.
    """
    ours = "memtotal" if "memtotal" in ways else ways[-1]
    table = Table(box=None)
    for title in ("variant", "way", "wall s", "CPU s", "asked", "compiled", "changed",
                  f"to {ours}", "vmlinux"):  # fmt: skip
        table.add_column(title, justify="left" if title in ("variant", "way") else "right")
    by_variant: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_variant.setdefault(row.variant, {})[row.way] = row
    for variant, built in by_variant.items():
        for way in ways:
            row = built[way]
            table.add_row(
                variant if way == ways[0] else "", way, f"{row.wall_seconds:.1f}",
                f"{row.cpu_seconds:.1f}", str(row.objects_asked), str(row.objects_compiled),
                str(row.objects_changed),
                f"{row.wall_seconds / built[ours].wall_seconds:.2f}",
                "identical" if row.vmlinux_identical else "DIFFERENT",
            )  # fmt: skip
    screen.print(table)
    # The first variant fills trees and caches; it is the same work for all but our store.
    first, *others = by_variant.values()
    later = others or [first]
    total = Table(box=None, title=f"without the first: {len(later)} variants")
    for title in ("way", "wall s", "CPU s", "asked", "compiled", "changed", f"wall to {ours}",
                  f"CPU to {ours}"):  # fmt: skip
        total.add_column(title, justify="left" if title == "way" else "right")
    sums = {
        way: {
            name: sum(float(asdict(built[way])[name]) for built in later)
            for name in ("wall_seconds", "cpu_seconds", "objects_asked", "objects_compiled",
                         "objects_changed")
        }
        for way in ways
    }  # fmt: skip
    for way, one in sums.items():
        total.add_row(
            way, f"{one['wall_seconds']:.0f}", f"{one['cpu_seconds']:.0f}",
            *(f"{one[f'objects_{name}']:.0f}" for name in ("asked", "compiled", "changed")),
            f"{one['wall_seconds'] / sums[ours]['wall_seconds']:.2f}",
            f"{one['cpu_seconds'] / sums[ours]['cpu_seconds']:.2f}",
        )  # fmt: skip
    screen.print(total)
    # What kbuild asks for is the same with reuse and without.
    asked = sums.get("kbuild", sums[ours])["objects_asked"]
    changed = sums.get("kbuild", sums[ours])["objects_changed"]
    spared = asked - sums[ours]["objects_compiled"]
    if ours != "clean" and asked > changed:
        screen.print(
            f"{ours}: of {asked:.0f} objects that kbuild asked for {changed:.0f} changed; "
            f"{spared:.0f} were not compiled ({spared / (asked - changed):.0%} of the needless)"
        )
        least = sum(least_seconds(built["clean"], built[ours]) for built in later)
        screen.print(
            f"compiling nothing but what is new, at the clean build's seconds an object, takes "
            f"{least:.0f} s: clean to that is {sums['clean']['wall_seconds'] / max(least, 1.0):.2f}"
        )
    wrong = sum(not row.vmlinux_identical for row in rows)
    screen.print(f"vmlinux differs from the clean build's in {wrong} of {len(rows)} builds")


def least_seconds(clean: Row, reused: Row) -> float:
    """About how many seconds by the clock compiling the new objects takes, with nothing beside it.

    Bytes that no earlier variant had must be compiled, whatever is reused. An object is taken to
    cost the mean of the clean build, link and make included there. Objects that the linker joins
    from others count as new too, hence the second bound.
    """
    new = min(reused.objects_new, reused.objects_compiled)
    return clean.wall_seconds / clean.objects_compiled * new


if __name__ == "__main__":
    main(sys.argv[1:])
