"""The floors of the package: who may import whom, read from the sources without running them."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

PACKAGE = "optimizer"
ROOT = Path(__file__).resolve().parents[2]

# Room -> floor. A room imports from itself and from floors below, never from a neighbour.
FLOORS = {
    "errors": 0,
    "records": 1,
    "settings": 2,
    "process": 2,
    "kernel": 3,
    "board": 3,
    "memory": 3,
    "store": 3,
    "search": 4,
    "review": 4,
    "cli": 5,
}

# Foreign library -> the only modules that may know it. Who adds a library decides on its place.
SOLE_IMPORTERS = {
    "kconfiglib": {"kernel.kconfig"},
    "elftools": {"kernel.elf"},
    "pexpect": {"board.console"},
    "optuna": {"search.study", "search.samplers", "search.elimination", "search.dashboard"},
    "matplotlib": {"review.plots"},
    "jinja2": {"review.report"},
    "markupsafe": {"review.report"},
    "sqlite_utils": {"store.database"},
    "distributed": {"search.workers"},
    "click": {"cli"},
    "rich": {"cli"},
}
FOREIGN = {
    "click", "distributed", "elftools", "jinja2", "kconfiglib", "markupsafe", "matplotlib", "numpy",
    "optuna", "pexpect", "pydantic", "rich", "sqlite_utils",
}  # fmt: skip

Imports = Mapping[str, frozenset[str]]


def read_package(folder: Path) -> dict[str, frozenset[str]]:
    """Module -> all that it imports, both as dotted names; the package's own without its prefix.

    Imports inside functions and under ``if TYPE_CHECKING`` count like all others.
    """
    sources = {_module(path.relative_to(folder)): path for path in folder.rglob("*.py")}
    return {
        module: frozenset(_imports(path, module, set(sources)) - {module})
        for module, path in sources.items()
    }


def _module(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path, module: str, known: set[str]) -> set[str]:
    folder = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            found.update(_own(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = [PACKAGE, *folder.split(".")] if folder else [PACKAGE]
                base = ".".join([*above[: len(above) - node.level + 1], *filter(None, [base])])
            for alias in node.names:
                # "from optimizer.board import smoke" is an import of the module smoke.
                whole = _own(f"{base}.{alias.name}")
                found.add(whole if whole in known else _own(base))
    return found


def _own(name: str) -> str:
    """A name of the package without its prefix, '' for the package itself; others with a mark."""
    if name == PACKAGE:
        return ""
    return name.removeprefix(f"{PACKAGE}.") if name.startswith(f"{PACKAGE}.") else f"!{name}"


def floor_violations(imports: Imports) -> list[str]:
    """Imports of a neighbour, or of a floor above."""
    found = []
    for module, names in imports.items():
        room = module.split(".")[0]
        for name in sorted(names):
            other = name.split(".")[0]
            if name.startswith("!") or room in ("", other) or other == "":
                continue
            if FLOORS[other] >= FLOORS[room]:
                found.append(f"{module} imports {name}")
    return found


def foreign_violations(imports: Imports) -> list[str]:
    """Libraries imported where they do not belong."""
    found = []
    for module, names in imports.items():
        for name in sorted(names):
            library = name.removeprefix("!").split(".")[0]
            if name.startswith("!") and library in SOLE_IMPORTERS:
                allowed = SOLE_IMPORTERS[library]
                if module not in allowed and module.split(".")[0] not in allowed:
                    found.append(f"{module} imports {library}")
    return found


def cycles(imports: Imports) -> list[str]:
    """Modules that import each other, directly or by way of others."""
    state: dict[str, str] = {}
    found: list[str] = []

    def visit(module: str, above: tuple[str, ...]) -> None:
        if state.get(module) == "done":
            return
        if module in above:
            found.append(" -> ".join((*above[above.index(module) :], module)))
            return
        for name in sorted(imports[module] & imports.keys()):
            visit(name, (*above, module))
        state[module] = "done"

    for module in sorted(imports):
        visit(module, ())
    return found


def all_foreign(imports: Imports) -> set[str]:
    """The top-level names of everything that is not of the package."""
    return {
        name.removeprefix("!").split(".")[0]
        for names in imports.values()
        for name in names
        if name.startswith("!")
    }


@pytest.fixture(scope="module")
def package() -> Imports:
    return read_package(ROOT / PACKAGE)


def test_every_room_has_its_floor(package: Imports) -> None:
    assert {module.split(".")[0] for module in package} - {""} == FLOORS.keys()


def test_a_room_imports_from_floors_below_only(package: Imports) -> None:
    assert floor_violations(package) == []


def test_each_library_is_known_in_one_place(package: Imports) -> None:
    assert foreign_violations(package) == []


def test_no_module_imports_itself_by_way_of_others(package: Imports) -> None:
    assert cycles(package) == []


def test_no_library_is_used_that_the_project_does_not_depend_on(package: Imports) -> None:
    assert all_foreign(package) - sys.stdlib_module_names <= FOREIGN


def test_only_the_command_line_prints_or_exits() -> None:
    found = []
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        if path.relative_to(ROOT / PACKAGE).parts[0] == "cli":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if called in ("print", "exit", "quit", "sys.exit", "os._exit"):
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {called}")
    assert found == []


def write(folder: Path, files: Mapping[str, str]) -> Imports:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return read_package(folder)


def violations(imports: Imports) -> Iterable[str]:
    return [*floor_violations(imports), *foreign_violations(imports), *cycles(imports)]


def test_the_checker_lets_pass_what_is_right(tmp_path: Path) -> None:
    imports = write(
        tmp_path,
        {
            "errors.py": "import os\n",
            "board/__init__.py": "from optimizer.board.console import Console\n",
            "board/console.py": "import pexpect\nfrom optimizer.errors import UserError\n",
            "search/trial.py": "from optimizer.board import console\n",
            "cli/main.py": "import click\nfrom ..search import trial\nfrom . import screen\n",
            "cli/screen.py": "from rich.table import Table\n",
        },
    )
    assert violations(imports) == []
    assert imports["search.trial"] == {"board.console"}
    assert imports["cli.main"] == {"!click", "search.trial", "cli.screen"}


@pytest.mark.parametrize(
    ("module", "text", "violation"),
    [
        ("records.py", "import optimizer.store.database", "records imports store.database"),
        ("kernel/kbuild.py", "from optimizer.board import qemu", "kernel.kbuild imports board"),
        ("store/rows.py", "from ..memory import bootlog", "store.rows imports memory"),
        ("review/savings.py", "from optimizer.search import loop", "review.savings imports search"),
        ("search/loop.py", "from optimizer import review", "search.loop imports review"),
        ("search/loop.py", "def late():\n    import optimizer.cli", "search.loop imports cli"),
        ("board/qemu.py", "from pexpect import fdpexpect", "board.qemu imports pexpect"),
        ("search/loop.py", "import optuna.trial", "search.loop imports optuna"),
        ("review/report.py", "import click", "review.report imports click"),
    ],
)
def test_the_checker_sees_a_violation(
    tmp_path: Path, module: str, text: str, violation: str
) -> None:
    rooms = {f"{room}/__init__.py": "" for room in FLOORS if room not in ("records", "errors")}
    assert list(violations(write(tmp_path, {**rooms, module: text}))) == [violation]


def test_the_checker_sees_a_cycle(tmp_path: Path) -> None:
    files = {
        "board/a.py": "from optimizer.board import b",
        "board/b.py": "def late():\n    from .c import anything",
        "board/c.py": "import optimizer.board.a",
    }
    assert list(violations(write(tmp_path, files))) == ["board.a -> board.b -> board.c -> board.a"]
