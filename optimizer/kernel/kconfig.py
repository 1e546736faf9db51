"""The kernel's own Kconfig files: symbols, dependencies, and what becomes of an assignment.

The only importer of kconfiglib. Nothing of kconfiglib leaves this module: what others need to
know of a symbol travels as an :class:`Option`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import kconfiglib

from optimizer.errors import UserError
from optimizer.kernel.binutils import symbol_lister
from optimizer.process import bound_to_parent, kill_group
from optimizer.records import Assignment, Refusal, ResolvedConfig, SymbolFacts

_TYPES = {
    kconfiglib.BOOL: "bool",
    kconfiglib.TRISTATE: "tristate",
    kconfiglib.INT: "int",
    kconfiglib.HEX: "hex",
    kconfiglib.STRING: "string",
}
_TRISTATES = (kconfiglib.BOOL, kconfiglib.TRISTATE)
# kconfiglib has no types; these names say at least which of its objects is meant.
_Symbol = Any
_Node = Any
_SETTING = re.compile(r"^(?:CONFIG_(\w+)=(.*)|# CONFIG_(\w+) is not set)$")


@dataclass(frozen=True)
class Option:
    """One Kconfig symbol as the present configuration has it.

    ``settable`` holds the tristate values that Kconfig would accept now; ``legal`` the range of an
    integer; ``menu`` the titles from the top menu down to it; ``choice`` the members of the choice
    it belongs to (empty for others); ``selected_by`` the symbols that hold it on at present.
    """

    name: str
    type: str
    value: str
    visible: bool
    settable: tuple[str, ...]
    prompt: str
    menu: tuple[str, ...]
    choice: tuple[str, ...]
    legal: tuple[int, int] | None
    selected_by: tuple[str, ...]


class SymbolTree:
    """The symbols of one kernel tree for one architecture, with a base configuration loaded.

    Args:
        tree: a kernel source tree; only read.
        arch: the kernel's name of the architecture.
        cross_compile: prefix of the cross compiler, as kbuild takes it.
        env: the environment in which Kconfig's shell calls run.

    Raises:
        UserError: not a kernel tree, no such architecture, or Kconfig files that cannot be read.
    """

    def __init__(self, tree: Path, arch: str, cross_compile: str, env: Mapping[str, str]) -> None:
        self.tree = tree
        self.arch = arch
        self.version = kernel_version(tree)
        if not (tree / "arch" / arch / "Kconfig").is_file():
            known = ", ".join(sorted(path.parent.name for path in tree.glob("arch/*/Kconfig")))
            raise UserError(f"{tree} has no architecture {arch!r}.", f"It has: {known}.")
        self._kconfig = _load(tree, arch, self.version, cross_compile, env)
        self._base_user: dict[str, _Symbol] = {}
        self._base_selection: dict[_Symbol, _Symbol] = {}
        self._base_modules: tuple[str, ...] = ()
        self._touched: set[str] = set()

    @cached_property
    def identity(self) -> str:
        """Version and a digest that changes when a source file does: names this tree.

        Over each file's path, size and time of change, as make sees them; the contents would take
        a minute to read.
        """
        digest = hashlib.sha256()
        for folder, names, files in os.walk(self.tree):
            names[:] = sorted(name for name in names if name != ".git")
            for name in sorted(files):
                path = Path(folder, name)
                told = path.lstat()
                line = f"{path.relative_to(self.tree)} {told.st_size} {int(told.st_mtime)}\n"
                digest.update(line.encode(errors="surrogateescape"))
        return f"{self.version}-{digest.hexdigest()[:16]}"

    def load_base(self, defconfig: Path) -> ResolvedConfig:
        """Load the configuration that every assignment starts from.

        Raises:
            UserError: the file cannot be read, or has lines that are no settings.
        """
        _check_defconfig(defconfig)
        try:
            self._kconfig.load_config(str(defconfig), replace=True)
        except (kconfiglib.KconfigError, OSError, ValueError) as error:
            raise UserError(f"{defconfig} cannot be loaded: {error}.") from error
        self._touched.clear()
        self._base_modules = tuple(
            symbol.name
            for symbol in self._kconfig.unique_defined_syms
            if symbol.orig_type is kconfiglib.TRISTATE and symbol.tri_value == 1
        )
        self._base_user = {
            symbol.name: symbol.user_value
            for symbol in self._kconfig.unique_defined_syms
            if symbol.user_value is not None
        }
        self._base_selection = {
            choice: choice.user_selection for choice in self._kconfig.unique_choices
        }
        return self._resolved(())

    def known(self, name: str) -> bool:
        """Whether the tree defines the symbol."""
        symbol = self._kconfig.syms.get(name)
        return symbol is not None and bool(symbol.nodes)

    def similar(self, name: str) -> list[str]:
        """Defined symbols whose names are near a misspelt one."""
        import difflib

        return difflib.get_close_matches(
            name, [symbol.name for symbol in self._kconfig.unique_defined_syms], 3, 0.75
        )

    def options(self, assignment: Assignment) -> list[Option]:
        """Every symbol that has a prompt, as it is under the assignment, in the menu's order."""
        self._apply(assignment)
        found: dict[str, Option] = {}
        for node in self._kconfig.node_iter():
            symbol = node.item
            if isinstance(symbol, kconfiglib.Symbol) and node.prompt and symbol.name not in found:
                found[symbol.name] = self._option(symbol, node)
        return list(found.values())

    def values(self, assignment: Assignment, names: Iterable[str]) -> dict[str, str]:
        """What the named symbols become under the assignment ('n' for a bool that is off)."""
        self._apply(assignment)
        return {name: self._kconfig.syms[name].str_value for name in names}

    def set_in_base(self, name: str) -> bool:
        """Whether the base configuration itself says what the symbol is to be."""
        return name in self._base_user

    def holders(self, assignment: Assignment, name: str) -> tuple[str, ...]:
        """The symbols whose select holds the named one on under the assignment."""
        self._apply(assignment)
        return _selectors(self._kconfig.syms[name])

    def facts(self, assignment: Assignment, names: Iterable[str] = ()) -> list[SymbolFacts]:
        """What Kconfig says of every symbol that the configuration sets, and of the named ones.

        Args:
            assignment: on top of the base.
            names: more symbols, also those that are off; unknown ones are left out.
        """
        self._apply(assignment)
        wanted = set(names)
        return [
            self._facts(symbol)
            for symbol in self._kconfig.unique_defined_syms
            if symbol.name in wanted or (symbol.config_string and symbol.str_value != "n")
        ]

    def resolve(self, assignment: Assignment) -> ResolvedConfig:
        """The whole configuration that follows from the assignment, with what was refused."""
        self._apply(assignment)
        refused = []
        for name, asked in assignment.values.items():
            symbol = self._kconfig.syms.get(name)
            got = symbol.str_value if symbol is not None and symbol.nodes else ""
            if not _same(got, asked, symbol):
                refused.append(Refusal(name, asked, got, self._why(name, asked)))
        return self._resolved(tuple(refused))

    def _apply(self, assignment: Assignment) -> None:
        """Give the symbols the assignment's values on top of the base's, and nothing else's."""
        for name in self._touched - assignment.values.keys():
            self._restore(name)
        self._touched = set()
        for name, value in assignment.values.items():
            symbol = self._kconfig.syms.get(name)
            if symbol is not None and symbol.nodes:
                symbol.set_value(value)
                self._touched.add(name)
        modules = self._kconfig.modules
        if self._base_modules and modules.tri_value == 0:
            # Without loadable modules Kconfig turns every 'm' into 'y'. A module was not in the
            # image before and must not get into it now.
            for name in self._base_modules:
                if name not in assignment.values:
                    self._kconfig.syms[name].set_value(0)
                    self._touched.add(name)

    def _restore(self, name: str) -> None:
        symbol = self._kconfig.syms[name]
        if symbol.choice is not None:
            for member in symbol.choice.syms:
                self._restore_value(member)
            selection = self._base_selection.get(symbol.choice)
            if selection is None:
                symbol.choice.unset_value()
            else:
                selection.set_value(2)
        else:
            self._restore_value(symbol)

    def _restore_value(self, symbol: _Symbol) -> None:
        if symbol.name in self._base_user:
            symbol.set_value(self._base_user[symbol.name])
        else:
            symbol.unset_value()

    def _resolved(self, refused: tuple[Refusal, ...]) -> ResolvedConfig:
        with tempfile.TemporaryDirectory(prefix="memtotal-") as folder:
            config, minimal = Path(folder, "config"), Path(folder, "defconfig")
            self._kconfig.write_config(str(config), save_old=False)
            self._kconfig.write_min_config(str(minimal), header="")
            text = config.read_text(encoding="utf-8")
            defconfig = minimal.read_text(encoding="utf-8")
        return ResolvedConfig(config_digest(text), text, defconfig, refused)

    def _option(self, symbol: _Symbol, node: _Node) -> Option:
        legal = None
        if symbol.orig_type in (kconfiglib.INT, kconfiglib.HEX):
            legal = _legal_range(symbol)
        return Option(
            name=symbol.name,
            type=_TYPES.get(symbol.orig_type, "unknown"),
            value=symbol.str_value,
            visible=symbol.visibility > 0,
            settable=tuple(kconfiglib.TRI_TO_STR[value] for value in symbol.assignable),
            prompt=node.prompt[0],
            menu=_menu(node),
            choice=tuple(member.name for member in symbol.choice.syms) if symbol.choice else (),
            legal=legal,
            selected_by=_selectors(symbol),
        )

    def _facts(self, symbol: _Symbol) -> SymbolFacts:
        # Of several definitions the one with a prompt is the one that people see.
        node = next((one for one in symbol.nodes if one.prompt), symbol.nodes[0])
        texts = [one.help for one in symbol.nodes if one.help]
        depends = symbol.direct_dep
        return SymbolFacts(
            name=symbol.name,
            type=_TYPES.get(symbol.orig_type, "unknown"),
            prompt=node.prompt[0] if node.prompt else "",
            menu=_menu(node),
            help=texts[0].strip() if texts else "",
            depends="" if depends is self._kconfig.y else kconfiglib.expr_str(depends),
            value=symbol.str_value,
            visible=symbol.visibility > 0,
            settable=tuple(kconfiglib.TRI_TO_STR[value] for value in symbol.assignable),
            holders=_selectors(symbol) if symbol.orig_type in _TRISTATES else (),
            choice=tuple(member.name for member in symbol.choice.syms) if symbol.choice else (),
        )

    def _why(self, name: str, asked: str) -> str:
        symbol = self._kconfig.syms.get(name)
        if symbol is None or not symbol.nodes:
            return f"{self.tree.name} has no such symbol"
        if symbol.choice is not None:
            return f"the choice took {getattr(symbol.choice.selection, 'name', 'nothing')}"
        if asked == "n" and (holders := _selectors(symbol)):
            return "selected by " + ", ".join(holders)
        if symbol.visibility == 0:
            condition = kconfiglib.expr_str(symbol.direct_dep)
            return f"not visible; depends on {condition}"[:300]
        if symbol.orig_type in (kconfiglib.INT, kconfiglib.HEX):
            return f"outside its range {_legal_range(symbol)}"
        return f"allowed here: {', '.join(kconfiglib.TRI_TO_STR[v] for v in symbol.assignable)}"


def kernel_version(tree: Path) -> str:
    """The version that a kernel tree's top Makefile states, such as '6.1.192'.

    Raises:
        UserError: the folder is not a kernel source tree.
    """
    try:
        head = (tree / "Makefile").read_text(encoding="utf-8", errors="replace")[:2000]
    except OSError:
        head = ""
    parts = dict(
        re.findall(r"^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION) *= *(.*?)\s*$", head, re.M)
    )
    if not {"VERSION", "PATCHLEVEL"} <= parts.keys() or not (tree / "Kconfig").is_file():
        raise UserError(
            f"{tree} is not a kernel source tree.",
            "Run `make setup` for the shipped studies, or correct `tree` in the study.",
        )
    numbers = (str(parts.get(key, "")) for key in ("VERSION", "PATCHLEVEL", "SUBLEVEL"))
    return ".".join(filter(None, numbers)) + str(parts.get("EXTRAVERSION", ""))


def config_digest(text: str) -> str:
    """SHA-256 over the settings of a .config; comments, order and blank lines do not count."""
    settings = sorted(line for line in text.splitlines() if _SETTING.match(line))
    return hashlib.sha256("\n".join(settings).encode()).hexdigest()


def _load(
    tree: Path, arch: str, version: str, cross_compile: str, env: Mapping[str, str]
) -> _Kconfig:
    compiler = f"{cross_compile}gcc"
    variables = dict(env) | {
        "srctree": str(tree),
        "ARCH": arch,
        "SRCARCH": arch,
        "KERNELVERSION": version,
        "CC": compiler,
        "LD": f"{cross_compile}ld",
        "NM": symbol_lister(cross_compile, env),
        "OBJCOPY": f"{cross_compile}objcopy",
        "AR": f"{cross_compile}ar",
        "HOSTCC": "gcc",
        "HOSTCXX": "g++",
        "PAHOLE": "pahole",
        "RUSTC": "rustc",
        "BINDGEN": "bindgen",
        "CLANG_FLAGS": "",
        "CC_VERSION_TEXT": compiler_version(compiler, env),
        "CONFIG_": "CONFIG_",
    }
    try:
        with tempfile.TemporaryDirectory(prefix="memtotal-") as scratch, _environ(variables):
            _Kconfig.scratch = scratch
            return _Kconfig(
                str(tree / "Kconfig"), warn=True, warn_to_stderr=False, suppress_traceback=False
            )
    except kconfiglib.KconfigError as error:
        raise UserError(f"The Kconfig files of {tree} cannot be read: {error}.") from error
    except OSError as error:
        raise UserError(f"The Kconfig files of {tree} cannot be read: {error}.") from error


def compiler_version(compiler: str, env: Mapping[str, str]) -> str:
    """First line of ``COMPILER --version``, as kbuild puts it into CC_VERSION_TEXT.

    Raises:
        UserError: the compiler is not installed or does not run.
    """
    try:
        said = subprocess.run(
            bound_to_parent([compiler, "--version"]),
            env=dict(env),
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise UserError(
            f"The compiler {compiler} does not run: {error}.", "Run: memtotal doctor"
        ) from error
    return said.stdout.splitlines()[0] if said.stdout else ""


@contextlib.contextmanager
def _environ(variables: Mapping[str, str]) -> Iterator[None]:
    """Kconfig's macros read the process's environment, and kconfiglib offers no other way in."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class _Kconfig(kconfiglib.Kconfig):  # type: ignore[misc]
    """kconfiglib for trees newer than it knows.

    Linux 5.13 writes ``modules`` where kconfiglib 14.1 wants ``option modules``, 6.18 adds
    ``transitional``. Shell calls run in a scratch folder, since some write beside themselves and a
    written-in tree refuses out-of-tree builds, and each command once, since many repeat.
    """

    scratch = ""

    @property
    def _functions(self) -> dict[str, Any]:
        return self._replaced_functions

    @_functions.setter
    def _functions(self, functions: dict[str, Any]) -> None:
        answers: dict[str, str] = {}

        def shell(kconf: _Node, _name: str, command: str) -> str:
            if command not in answers:
                answers[command] = _shell(command, self.scratch)
            return answers[command]

        self._replaced_functions = functions | {"shell": (shell, 1, 1)}

    def _tokenize(self, line: str) -> _Node:
        word = line.strip()
        if word == "modules":
            line = "option modules"
        elif word == "transitional":
            line = "# " + line
        return super()._tokenize(line)


def _shell(command: str, folder: str) -> str:
    with subprocess.Popen(
        # Kconfig's $(shell,...) is a shell command.
        bound_to_parent(["/bin/sh", "-c", command]),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as child:
        try:
            said, _ = child.communicate()
        except BaseException:
            kill_group(child.pid)  # Ctrl-C, with a compiler that hangs
            raise
    return said.rstrip("\n").replace("\n", " ")


def _check_defconfig(path: Path) -> None:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The defconfig {path} cannot be read: {error}.") from error
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#") and not _SETTING.match(line):
            raise UserError(
                f"{path}:{number}: {line[:80]!r} is not a setting.",
                "Expected CONFIG_NAME=value or '# CONFIG_NAME is not set'.",
            )


def _legal_range(symbol: _Symbol) -> tuple[int, int] | None:
    base = 16 if symbol.orig_type is kconfiglib.HEX else 10
    for low, high, condition in symbol.ranges:
        if kconfiglib.expr_value(condition):
            try:
                return int(low.str_value, base), int(high.str_value, base)
            except ValueError:
                return None
    return None


def _selectors(symbol: _Symbol) -> tuple[str, ...]:
    """Symbols whose select is in force now."""
    if kconfiglib.expr_value(symbol.rev_dep) == 0:
        return ()
    terms = kconfiglib.split_expr(symbol.rev_dep, kconfiglib.OR)
    names = []
    for term in terms:
        if kconfiglib.expr_value(term):
            holder = kconfiglib.split_expr(term, kconfiglib.AND)[0]
            names.append(getattr(holder, "name", None) or kconfiglib.expr_str(holder))
    return tuple(names)


def _menu(node: _Node) -> tuple[str, ...]:
    titles = []
    above = node.parent
    while above is not None and above.parent is not None:
        if above.prompt:
            titles.append(above.prompt[0])
        above = above.parent
    return tuple(reversed(titles))


def _same(got: str, asked: str, symbol: _Symbol) -> bool:
    if symbol is not None and symbol.orig_type is kconfiglib.HEX and got and asked:
        return int(got, 16) == int(asked, 16)
    return got == asked
