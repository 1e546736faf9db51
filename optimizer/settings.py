"""A study's TOML file -> frozen settings. The only reader of the user's files and environment.

A study names a board and smoke suites; they are files of their own, looked for beside the study
(``boards/NAME.toml``, ``smoke/NAME.toml``, presets of what to keep in ``keep/NAME.toml``) and then
among those shipped in ``configs/``.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from optimizer.errors import UserError

SHIPPED_CONFIGS = Path(__file__).resolve().parent.parent / "configs"

# People paste names from a .config; both spellings mean the same symbol.
SymbolName = Annotated[
    str,
    BeforeValidator(lambda name: name.removeprefix("CONFIG_") if isinstance(name, str) else name),
    Field(pattern=r"^[A-Za-z0-9_]+$"),
]
MakeVariable = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")]
Model = TypeVar("Model", bound=BaseModel)
ParameterName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
# The kernel splits its command line at blanks and reads quotes.
ParameterValue = Annotated[str, Field(pattern=r"^[^\s\"']+$")]
ObjectiveName = Literal["mem_total", "mem_available", "image_bytes", "boot_seconds"]
FileStem = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class KernelSettings(_Frozen):
    """The kernel tree and how an image is built from it; ``{cache}`` is the cache folder.

    ``reuse_objects``: an object is not compiled again when all that its code can depend on was
    compiled before. ``cache_gb``: how much is kept for that, in 10^9 bytes.
    ``make_variables`` are handed to every make, such as KCFLAGS.
    """

    tree: Path
    arch: str = Field(pattern=r"^[a-z0-9_]+$")
    cross_compile: str = Field(pattern=r"^[A-Za-z0-9_./+-]*$")
    defconfig: str = Field(min_length=1)
    make_variables: Mapping[MakeVariable, str] = Field(default_factory=dict)
    target: str = Field(default="zImage", pattern=r"^[A-Za-z0-9_./-]+$")
    image: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]*$")
    device_tree: str = Field(default="", pattern=r"^([A-Za-z0-9_][A-Za-z0-9_./-]*)?$")
    build_timeout_seconds: float = Field(default=1800.0, gt=0)
    reuse_objects: bool = True
    cache_gb: float = Field(default=5.0, gt=0)


class BoardSettings(_Frozen):
    """A QEMU machine as a place to boot a kernel.

    ``arguments`` are more of the emulator's, in which ``{tftp}`` and ``{flash}`` stand for the
    trial's TFTP folder and flash image. ``flash_bytes`` of 0xff make that image.
    ``prompt`` is what the shell prints when it is ready (a regular expression).
    """

    emulator: str
    machine: str
    memory_mb: int = Field(gt=0, le=1 << 20)
    command_line: str
    arguments: tuple[str, ...] = ()
    flash_bytes: int = Field(default=0, ge=0)
    prompt: str
    boot_timeout_seconds: float = Field(default=30.0, gt=0)
    silence_timeout_seconds: float = Field(default=10.0, gt=0)

    def with_parameters(self, parameters: Mapping[str, str]) -> BoardSettings:
        """The same machine with more on the kernel's command line: name -> value.

        Of a parameter given twice the kernel takes the last one.
        """
        more = [f"{name}={value}" for name, value in parameters.items()]
        return self.model_copy(update={"command_line": " ".join([self.command_line, *more])})

    @field_validator("prompt")
    @classmethod
    def _prompt_is_a_regex(cls, value: str) -> str:
        return _regex(value)


class CheckSettings(_Frozen):
    """One smoke check: what is typed, what must come back, and how long it may take.

    ``kind``:
      * ``command``: ``command`` is typed at the prompt; its output must match ``expect`` (a
        regular expression, searched, ``^`` and ``$`` at lines).
      * ``typed``: ``bytes`` random characters are typed at once, in lines, into ``command``; its
        output must match. ``{md5:typed}`` in ``expect`` stands for their checksum.
      * ``host_clock``: the output's first match of ``expect`` has a group 1 with seconds since
        1970, which must be within ``tolerance_seconds`` of the host's clock.
      * ``reboot``: ``command`` is typed and the machine must end by itself, cleanly; then it is
        started again with the same flash, and the shell must come again.

    ``boot`` numbers the boot that the check runs on. Those of boot 1 run first, in the order of
    their suites, then its reboot checks, then the checks of boot 2, and so on. Reboot checks of one
    boot with the same ``command`` are one restart, so suites share what each of them asks for.

    ``files`` are made afresh for each trial in the folder that TFTP serves: name -> bytes of
    random content; ``{md5:NAME}`` in ``command`` and ``expect`` stands for that file's checksum.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    kind: Literal["command", "typed", "host_clock", "reboot"] = "command"
    command: str = Field(min_length=1)
    expect: str = ""
    timeout_seconds: float = Field(default=10.0, gt=0)
    boot: int = Field(default=1, ge=1, le=9)
    bytes: int = Field(default=0, ge=0, le=1 << 20)
    tolerance_seconds: float = Field(default=5.0, gt=0)
    files: Mapping[FileStem, int] = Field(default_factory=dict)

    @field_validator("expect")
    @classmethod
    def _expect_is_a_regex(cls, value: str) -> str:
        return _regex(value)

    @model_validator(mode="after")
    def _kind_has_what_it_needs(self) -> CheckSettings:
        if self.kind != "reboot" and not self.expect:
            raise ValueError(f"a check of kind {self.kind!r} needs 'expect'")
        if self.kind == "typed" and self.bytes == 0:
            raise ValueError("a check of kind 'typed' needs 'bytes'")
        return self


class Suite(_Frozen):
    """A smoke suite: checks of its own after those of the suites it includes."""

    name: str = ""
    description: str = ""
    include: tuple[FileStem, ...] = ()
    check: tuple[CheckSettings, ...] = ()

    @model_validator(mode="after")
    def _restarts_are_asked_for(self) -> Suite:
        restarts = {check.boot for check in self.check if check.kind == "reboot"}
        for check in self.check:
            if missing := sorted(set(range(1, check.boot)) - restarts):
                raise ValueError(
                    f"check {check.name!r} is for boot {check.boot}, but nothing restarts the "
                    f"machine after boot {missing[0]}: a check of kind 'reboot' is needed"
                )
        return self


def checks_in_order(suites: Iterable[Suite]) -> tuple[tuple[str, CheckSettings], ...]:
    """(suite, check) in the order they run: boot by boot, what restarts the machine last."""
    checks = [(suite.name, check) for suite in suites for check in suite.check]
    return tuple(sorted(checks, key=lambda one: (one[1].boot, one[1].kind == "reboot")))


class KeepPreset(_Frozen):
    """A named list of symbols to keep; those that a tree does not have are passed over."""

    name: str
    description: str = ""
    symbols: tuple[SymbolName, ...] = Field(min_length=1)


class Mark(_Frozen):
    """Why an option is worth more than its RAM: what is lost when it leaves the ``safe`` value."""

    kind: Literal["hardening", "mitigation", "diagnosis"]
    symbols: tuple[SymbolName, ...] = Field(min_length=1)
    safe: str = "y"
    loses: str = Field(min_length=1)


class OptionSettings(_Frozen):
    """What the search may touch.

    ``gate``: turned on in every variant because other options are only visible then.
    ``keep``: stay as the baseline has them; what would drop them is not tried.
    ``presets``: named lists of more to keep; a study names them in ``keep_presets``.
    ``leave``: not candidates; Kconfig gives them what follows from the rest.
    ``try_only``: when not empty, the candidates are these and no others.
    ``turn_on``: options that may save RAM by being on.
    ``ranges``: integers to try, symbol -> (least, most).
    ``boot_parameters``: of the kernel's command line, name -> values to try, best hope first.
    """

    gate: tuple[SymbolName, ...] = ()
    keep: tuple[SymbolName, ...] = ()
    presets: tuple[KeepPreset, ...] = ()
    leave: tuple[SymbolName, ...] = ()
    try_only: tuple[SymbolName, ...] = Field(default=(), alias="try")
    turn_on: tuple[SymbolName, ...] = ()
    ranges: Mapping[SymbolName, tuple[int, int]] = Field(default_factory=dict)
    boot_parameters: Mapping[ParameterName, tuple[ParameterValue, ...]] = Field(
        default_factory=dict
    )

    @field_validator("ranges")
    @classmethod
    def _ordered(cls, value: Mapping[str, tuple[int, int]]) -> Mapping[str, tuple[int, int]]:
        for symbol, (least, most) in value.items():
            if least > most:
                raise ValueError(f"{symbol}: {least} is greater than {most}")
        return value

    @model_validator(mode="after")
    def _no_contradiction(self) -> OptionSettings:
        kept = set(self.keep) | {name for preset in self.presets for name in preset.symbols}
        for role, names in (
            ("leave", self.leave),
            ("try", self.try_only),
            ("turn_on", self.turn_on),
            ("ranges", tuple(self.ranges)),
        ):
            if both := sorted(kept & set(names)):
                where = "keep" if set(both) <= set(self.keep) else "keep_presets"
                raise ValueError(f"{', '.join(both)}: in '{where}' and in '{role}'")
        return self


class StudySettings(_Frozen):
    """One study: which kernel, on which board, passing what, optimizing what, by which options."""

    name: FileStem
    kernel: KernelSettings
    board: BoardSettings
    initramfs: Path
    suites: tuple[Suite, ...] = Field(min_length=1)
    objective: Annotated[
        tuple[ObjectiveName, ...],
        BeforeValidator(lambda given: (given,) if isinstance(given, str) else given),
        Field(min_length=1, max_length=2),
    ] = ("mem_total",)
    options: OptionSettings = Field(default_factory=OptionSettings)
    source: Path
    text: str

    @field_validator("objective")
    @classmethod
    def _different_objectives(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("the two objectives must differ")
        if value[0] == "boot_seconds":
            raise ValueError("boot_seconds can only be the second of two objectives")
        return value

    @property
    def checks(self) -> tuple[tuple[str, CheckSettings], ...]:
        """(suite, check) in the order they run."""
        return checks_in_order(self.suites)


def cache_folder() -> Path:
    """Where kernel trees, build trees and root file systems are kept.

    ``MEMTOTAL_CACHE``, else ``memtotal`` in the user's cache folder (XDG base directories).
    """
    if given := os.environ.get("MEMTOTAL_CACHE"):
        return Path(given).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "memtotal"


def results_folder() -> Path:
    """Where studies keep their results: ``MEMTOTAL_RESULTS``, else ``results`` in this folder."""
    return Path(os.environ.get("MEMTOTAL_RESULTS") or "results").expanduser().absolute()


def environment() -> dict[str, str]:
    """What of the user's environment the children get: enough to find programs, no more.

    The locale is fixed so that messages can be read by programs, and kbuild's own variables are
    left out because they would change what is built.
    """
    passed = ("PATH", "HOME", "TMPDIR", "USER", "CCACHE_DIR")
    return {key: os.environ[key] for key in passed if key in os.environ} | {
        "LC_ALL": "C",
        "TZ": "UTC",
    }


def load_study(study: str) -> StudySettings:
    """Read a study.

    Args:
        study: path of a TOML file, or the name of one in ``configs/``.

    Raises:
        UserError: no such file, not TOML, or a wrong key or value; says where.
    """
    path = _find_study(study)
    text, data = _read_toml(path)
    data.setdefault("name", path.stem)
    board_name = data.pop("board", None)
    suite_names = data.pop("smoke", None)
    _expect(path, text, "board", isinstance(board_name, str), "the name of a board file")
    _expect(
        path,
        text,
        "smoke",
        isinstance(suite_names, list) and all(isinstance(name, str) for name in suite_names),
        'a list of smoke suites, such as ["console"]',
    )
    for key in ("source", "text", "suites"):
        _expect(path, text, key, key not in data, "no such key in a study")
    if isinstance(options := data.get("options"), dict):
        preset_names = options.pop("keep_presets", [])
        _expect(
            path,
            text,
            "keep_presets",
            isinstance(preset_names, list) and all(isinstance(one, str) for one in preset_names),
            'a list of keep presets, such as ["diagnosable"]',
        )
        _expect(path, text, "presets", "presets" not in options, "no such key in a study")
        options["presets"] = [_load_preset(name, path) for name in preset_names]
    board = _load_board(_find("boards", str(board_name), path))
    suites = _load_suites(list(suite_names or ()), path)
    if isinstance(kernel := data.get("kernel"), dict) and "tree" in kernel:
        kernel["tree"] = _located(str(kernel["tree"]), path)
    if "initramfs" in data:
        data["initramfs"] = _located(str(data["initramfs"]), path)
    document = data | {"board": board, "suites": suites, "source": path, "text": text}
    return _validated(StudySettings, document, path, text)


def load_marks() -> dict[str, Mark]:
    """The options marked in ``configs/marks/``, by symbol.

    Raises:
        UserError: a file is not TOML, or has a wrong key or value; says where.
    """
    found: dict[str, Mark] = {}
    for path in sorted(SHIPPED_CONFIGS.glob("marks/*.toml")):
        text, data = _read_toml(path)
        for mark in _validated(_Marks, data, path, text).mark:
            found |= dict.fromkeys(mark.symbols, mark)
    return found


class _Marks(_Frozen):
    mark: tuple[Mark, ...] = ()


def _find_study(study: str) -> Path:
    for path in (Path(study), SHIPPED_CONFIGS / study, SHIPPED_CONFIGS / f"{study}.toml"):
        if path.is_file():
            return path.resolve()
    shipped = ", ".join(sorted(path.stem for path in SHIPPED_CONFIGS.glob("*.toml"))) or "none"
    raise UserError(f"There is no study file {study}.", f"Shipped studies: {shipped}.")


def _find(folder: str, name: str, study: Path) -> Path:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UserError(f"{study}: {name!r} is not a file name in {folder}/.")
    for base in (study.parent, SHIPPED_CONFIGS):
        if (path := base / folder / f"{name}.toml").is_file():
            return path
    known = {
        path.stem
        for base in (study.parent, SHIPPED_CONFIGS)
        for path in base.glob(f"{folder}/*.toml")
    }
    raise UserError(
        f"{study}: there is no {folder}/{name}.toml.",
        f"Known: {', '.join(sorted(known)) or 'none'}.",
    )


def _load_board(path: Path) -> BoardSettings:
    text, data = _read_toml(path)
    return _validated(BoardSettings, data, path, text)


def _load_preset(name: str, study: Path) -> KeepPreset:
    path = _find("keep", name, study)
    text, data = _read_toml(path)
    return _validated(KeepPreset, data | {"name": name}, path, text)


def _load_suites(names: Sequence[str], study: Path) -> list[Suite]:
    """The suites and what they include, each once, included ones first."""
    found: dict[str, Suite] = {}

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise UserError(f"Smoke suites include each other: {' -> '.join((*above, name))}.")
        if name in found:
            return
        path = _find("smoke", name, study)
        text, data = _read_toml(path)
        suite = _validated(Suite, data | {"name": name}, path, text)
        for included in suite.include:
            visit(included, (*above, name))
        found[name] = suite

    for name in names:
        visit(name, ())
    return [suite for suite in found.values() if suite.check]


def _located(value: str, study: Path) -> str:
    value = value.replace("{cache}", str(cache_folder()))
    return str((study.parent / Path(value).expanduser()).absolute())


def _read_toml(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}).") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not valid TOML: {error}.") from error


def _expect(path: Path, text: str, key: str, holds: bool, expected: str) -> None:
    if not holds:
        raise UserError(f"{_place(path, text, (key,))}: {key}: expected {expected}.")


def _validated(model: type[Model], data: Mapping[str, Any], path: Path, text: str) -> Model:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = [_explain(model, item, path, text) for item in error.errors()]
        raise UserError("\n".join(lines)) from None


def _explain(model: type[BaseModel], item: Mapping[str, Any], path: Path, text: str) -> str:
    """One finding of pydantic as a line: file:line: key: what is wrong, what was expected."""
    where = [str(part) for part in item["loc"]]
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        known = _keys(model, item["loc"][:-1])
        message = f"unknown key; expected one of {', '.join(known)}"
    elif item["type"] == "missing":
        message = "missing; this key is required"
    elif not isinstance(item["input"], Mapping):
        # What is wrong with a whole table says its message; the table itself would say too much.
        message = f"{message}, not {item['input']!r}"[:300]
    key = f"{'.'.join(where)}: " if where else ""
    return f"{_place(path, text, where)}: {key}{message}."


def _keys(model: type[BaseModel], where: Iterable[str | int]) -> list[str]:
    current: Any = model
    for part in where:
        if isinstance(part, int):
            continue
        annotation = current.model_fields[part].annotation
        inner = [annotation, *getattr(annotation, "__args__", ())]
        current = next(
            (one for one in inner if isinstance(one, type) and issubclass(one, BaseModel)), current
        )
    fields = {field.alias or name for name, field in current.model_fields.items()}
    # What loading puts in the place of names that a study gives.
    if current is StudySettings:
        fields = (fields | {"smoke"}) - {"source", "text", "suites"}
    elif current is OptionSettings:
        fields = (fields | {"keep_presets"}) - {"presets"}
    return sorted(fields)


def _place(path: Path, text: str, where: Sequence[str]) -> str:
    """``file:line`` of a key such as ("kernel", "arch"), just the file when it is not there."""
    keys = [part for part in where if not part.isdigit()]
    table, key = ".".join(keys[:-1]), keys[-1] if keys else ""
    current = ""
    last = 0
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[+\s*([^\]]+?)\s*\]+", line):
            current = header.group(1)
            if current == ".".join(keys) or current == table:
                last = number
        elif current == table and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line):
            return f"{path}:{number}"
    return f"{path}:{last}" if last else str(path)


def _regex(value: str) -> str:
    try:
        re.compile(re.sub(r"\{md5:[^}]+\}", "0", value))
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return value
