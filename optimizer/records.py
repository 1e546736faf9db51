"""The frozen records that travel along the way of the data.

Units are in the names: ``_kb`` is 1024 bytes as in /proc/meminfo, ``_bytes``, ``_seconds``.
Kconfig symbols are written without the ``CONFIG_`` prefix everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

# How the detail of a check begins that could not be made.
NOT_RUN = "not run"


class Outcome(StrEnum):
    """How a trial ended."""

    PASSED = "passed"
    SMOKE_FAILED = "smoke_failed"
    BOOT_FAILED = "boot_failed"
    BUILD_FAILED = "build_failed"
    CONFIG_REFUSED = "config_refused"
    DUPLICATE = "duplicate"


# Trials of this sampler show what a kept option costs. They are refused by definition.
PRICE_SAMPLER = "price"
ATTRIBUTION_SAMPLER = "attribution"
STEPS_SAMPLER = "steps"
# Who asks for trials when the search is over, to measure what it found.
MEASURING_SAMPLERS = frozenset({PRICE_SAMPLER, ATTRIBUTION_SAMPLER, STEPS_SAMPLER})


class BootState(StrEnum):
    """How far a boot came, and what stopped it."""

    READY = "ready"  # the shell prompt came
    PANIC = "panic"  # the kernel said so
    OOPS = "oops"  # an oops or BUG, and no prompt after it
    HANG = "hang"  # kernel messages, then nothing until the deadline
    SILENT = "silent"  # not one byte on the console
    NO_CONSOLE = "no_console"  # the emulator ended before it printed anything
    NO_SHELL = "no_shell"  # the kernel came up and kept talking, but no prompt came


@dataclass(frozen=True)
class Assignment:
    """What is asked of Kconfig: symbol -> value ('y', 'm', 'n', an integer, a string).

    ``parameters`` are those of the kernel's command line: name -> value. They need no build.
    """

    values: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Refusal:
    """A symbol that did not take the value asked for, and Kconfig's reason."""

    symbol: str
    asked: str
    got: str
    reason: str


@dataclass(frozen=True)
class ResolvedConfig:
    """What Kconfig made of an assignment.

    ``text`` is a whole .config, ``defconfig`` what ``make savedefconfig`` would write,
    ``digest`` the SHA-256 of the settings in ``text`` (its comments do not count).
    """

    digest: str
    text: str
    defconfig: str
    refused: tuple[Refusal, ...] = ()


@dataclass(frozen=True)
class BuildResult:
    """One build of one resolved configuration.

    ``config_text`` is the .config that kbuild used in the end, ``sections`` the sizes of the
    allocated sections of vmlinux in bytes, ``errors`` the telling lines of a failed log. Of the
    ``objects`` that kbuild asked for or was spared, ``reused`` were taken from the store or left in
    place instead of compiled, and ``unlike`` were others when compiled from what their units were
    reduced to.
    """

    ok: bool
    seconds: float
    objects: int
    log: Path
    config_text: str
    image: Path | None = None
    image_bytes: int = 0
    image_sha256: str = ""
    vmlinux_bytes: int = 0
    sections: Mapping[str, int] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    timed_out: bool = False
    reused: int = 0
    unlike: tuple[str, ...] = ()


@dataclass(frozen=True)
class CheckResult:
    """One smoke check on a booted variant; ``detail`` is what was seen, for a person to read."""

    suite: str
    name: str
    passed: bool
    seconds: float
    detail: str = ""

    @property
    def skipped(self) -> bool:
        """Whether it could not be made, because the machine was lost before."""
        return not self.passed and self.detail.startswith(NOT_RUN)


@dataclass(frozen=True)
class BootResult:
    """A boot and the checks made on it. ``detail`` is the console line that tells why it failed.

    ``seconds`` runs from the emulator's start to the first prompt (or to giving up);
    ``kernel_log`` and ``meminfo_text`` are as printed by the guest.
    """

    state: BootState
    seconds: float
    transcript: Path
    smoke_seconds: float = 0.0
    detail: str = ""
    kernel_log: str = ""
    meminfo_text: str = ""
    checks: tuple[CheckResult, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the shell came and every check passed."""
        return self.state is BootState.READY and all(check.passed for check in self.checks)


@dataclass(frozen=True)
class Measurement:
    """The figures of a variant that booted. ``meminfo_kb`` holds every line of /proc/meminfo."""

    mem_total_kb: int
    mem_available_kb: int | None
    meminfo_kb: Mapping[str, int]
    memory_line: str


class Judgement(StrEnum):
    """Why a candidate still has its baseline's value in the winner."""

    NEEDED = "needed"  # without it something breaks
    REQUIRED = "required"  # Kconfig drops with it what is needed
    NO_SAVING = "no_saving"  # it was changed, everything worked, and nothing was gained
    UNSETTLED = "unsettled"  # it failed among others only, or was not tried yet


@dataclass(frozen=True)
class Verdict:
    """What the trials say of a value that the winner does not have.

    ``option`` stays at ``value`` rather than being ``tried``. ``broken`` is what broke ("build",
    "boot", "suite/check") in ``trial``; ``alone`` says that nothing else was new in that trial
    (what Kconfig drops with it aside). ``through`` is the option that it is required for.
    ``gained`` is what the objective gained by the change, where that was measured.
    """

    option: str
    value: str
    tried: str
    judgement: Judgement
    broken: str = ""
    trial: int | None = None
    alone: bool = False
    through: str = ""
    gained: float | None = None


class Part(StrEnum):
    """Where in a ledger an entry counts."""

    RESERVED = "reserved"  # between the RAM given and MemTotal
    FREED = "freed"  # reserved while booting, then given back: in MemTotal, a memo and no term
    TAKEN = "taken"  # between MemTotal and MemFree
    HELD = "held"  # between MemFree and MemAvailable; negative where memory is added


@dataclass(frozen=True)
class LedgerEntry:
    """Some memory and who has it; ``source`` told so: a function, a section, a file of /proc."""

    part: Part
    name: str
    bytes: int
    source: str = ""


@dataclass(frozen=True)
class Ledger:
    """Where the RAM went: what was given, what is left, and an entry for all in between.

    ``given_bytes`` is None where the kernel did not tell, the others where /proc/meminfo does not.
    ``method`` says how the early reservations were had, ``notes`` what is not known and why.
    """

    entries: tuple[LedgerEntry, ...]
    given_bytes: int | None
    mem_total_bytes: int | None
    mem_free_bytes: int | None = None
    mem_available_bytes: int | None = None
    method: str = ""
    notes: tuple[str, ...] = ()

    def sum_bytes(self, part: Part) -> int:
        """Bytes of all entries of a part."""
        return sum(entry.bytes for entry in self.entries if entry.part is part)

    @property
    def unexplained_bytes(self) -> int | None:
        """What is missing between the RAM given and MemTotal; 0 when the ledger closes."""
        if self.given_bytes is None or self.mem_total_bytes is None:
            return None
        return self.given_bytes - self.sum_bytes(Part.RESERVED) - self.mem_total_bytes


@dataclass(frozen=True)
class Symbol:
    """A name in a linked image or an object; ``bytes`` is 0 where the assembler gave no size."""

    address: int
    bytes: int
    name: str


@dataclass(frozen=True)
class Section:
    """A section that takes memory when the image runs."""

    name: str
    address: int
    bytes: int


@dataclass(frozen=True)
class ImageLayout:
    """A linked kernel: its sections and symbols by address."""

    sections: tuple[Section, ...]
    symbols: tuple[Symbol, ...]


@dataclass(frozen=True)
class Definition:
    """A function or variable in an object.

    ``kind``: text, data, rodata, bss, or init for what is freed after boot. ``weak`` definitions
    give way to others of their name.
    """

    name: str
    kind: str
    section: str
    offset: int
    bytes: int
    function: bool
    weak: bool = False
    local: bool = False


@dataclass(frozen=True)
class Reference:
    """A place in an object that names another, there or elsewhere.

    The place is an offset in ``section``. What it names is ``symbol`` where that is defined in
    another object, else ``offset`` of ``target`` in this one. ``call`` tells a branch from a place
    that holds an address.
    """

    section: str
    place: int
    call: bool
    symbol: str = ""
    target: str = ""
    offset: int = 0


@dataclass(frozen=True)
class ObjectContents:
    """All that is in an object of the image: what it defines and what it names.

    ``bytes`` is what it keeps in memory, ``options`` are those that bring it.
    """

    path: str
    options: frozenset[str]
    bytes: int
    definitions: tuple[Definition, ...]
    references: tuple[Reference, ...]


@dataclass(frozen=True)
class Inspection:
    """What a booted kernel tells about its memory; '' for what it does not have.

    ``console`` is all that came before the prompt, ``trace`` the emulator's log of calls if there
    is one.
    """

    state: BootState
    console: str
    kernel_log: str = ""
    meminfo: str = ""
    zoneinfo: str = ""
    vmallocinfo: str = ""
    statm: str = ""
    trace: Path | None = None


@dataclass(frozen=True)
class Trial:
    """One variant evaluated, as it is stored.

    ``effective`` maps each candidate of the search space to the value it really had;
    ``objective`` is what the search maximizes, in kB: RAM, or the image's size with a minus, of
    which less is better. It is None unless the trial passed (or repeats one that did).
    """

    number: int
    outcome: Outcome
    sampler: str
    params: Mapping[str, str]
    assignment: Assignment
    effective: Mapping[str, str]
    resolved: ResolvedConfig
    objective: float | None = None
    build: BuildResult | None = None
    boot: BootResult | None = None
    measurement: Measurement | None = None
    duplicate_of: int | None = None
    reason: str = ""
    started_at: str = ""
    seconds: float = 0.0
    log_dir: Path | None = None
    tools: Mapping[str, str] = field(default_factory=dict)
    ledger: Ledger | None = None

    @property
    def rank(self) -> tuple[float, int, int]:
        """What the best of the passed trials has most of: the objective, then the smaller image,
        then the lower number."""
        image_bytes = self.build.image_bytes if self.build else 0
        return (self.objective or 0.0, -image_bytes, -self.number)


@dataclass(frozen=True)
class SymbolFacts:
    """What Kconfig says of a symbol, and what it is in one configuration.

    ``menu`` are the titles from the top menu down to it, ``depends`` its condition as written.
    ``settable`` holds the values that Kconfig would accept there, ``holders`` the symbols that
    select it there, ``choice`` the members of the choice it belongs to.
    """

    name: str
    type: str
    prompt: str = ""
    menu: tuple[str, ...] = ()
    help: str = ""
    depends: str = ""
    value: str = "n"
    visible: bool = False
    settable: tuple[str, ...] = ()
    holders: tuple[str, ...] = ()
    choice: tuple[str, ...] = ()


class AttributionKind(StrEnum):
    """Where a saving was measured."""

    WINNER = "winner"  # the change taken back alone, everything else as in the winner
    BASELINE = "baseline"  # the change made alone, everything else as in the baseline
    KEPT = "kept"  # what the study keeps, dropped from the winner


@dataclass(frozen=True)
class Attribution:
    """Two trials that differ in one change: what it saves is the difference of their figures.

    ``with_trial`` has ``option`` at ``value``, ``without_trial`` does not. ``tied`` are the other
    changes (option, value) that Kconfig makes along with it.
    """

    kind: AttributionKind
    option: str
    value: str
    with_trial: int
    without_trial: int
    tied: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Step:
    """One step of the way from the baseline to a winner: its trial has all changes so far."""

    position: int
    title: str
    changes: tuple[tuple[str, str], ...]
    trial: int
