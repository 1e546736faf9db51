"""What is in each object of a built image: definitions, and references to others.

Relocations tell most references. A branch within a section has none, because the assembler knows
the distance, so 32-bit ARM's branches are decoded too (ARM Architecture Reference Manual, A8.8.18).
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from optimizer.errors import MachineFault
from optimizer.kernel import elf
from optimizer.kernel.elf import RawObject
from optimizer.kernel.ownership import Rules, built
from optimizer.records import Definition, ObjectContents, Reference

EM_ARM = 40
# ELF for the Arm Architecture, 5.6.1: branches, and what no code or data comes from.
_CALLS = frozenset({1, 10, 28, 29, 30, 51, 52, 102, 103})
_NO_REFERENCE = frozenset({0, 40})
# Tables of places in code (faults, warnings, patches) and of unwinding: not a use of the function.
_TABLES = (
    *(".ARM.ex", ".ARM.extab", ".debug", ".comment", ".eh_frame", ".discard", ".note", ".modinfo"),
    *(
        "__mcount_loc",
        "__patchable",
        "__ex_table",
        "__bug_table",
        "__jump_table",
        ".alt",
        ".pv_table",
    ),
    *("__kcrctab", ".stack_sizes", ".rel"),
)
_FREED = (
    ".init",
    ".exit",
    ".meminit",
    ".cpuinit",
    ".initcall",
    ".con_initcall",
    ".security_initcall",
)
_NOT_KEPT = (*_FREED, ".ARM.ex", "__ksymtab", ".modinfo", ".discard")


def contents(
    tree: Path, output: Path, cross_compile: str, env: Mapping[str, str]
) -> list[ObjectContents]:
    """Every object that the built tree's image was linked from, with all that is in it.

    Args:
        tree: the kernel's sources.
        output: a tree in which the image was built.
        cross_compile: prefix of the cross binutils.
        env: environment for ar.

    Raises:
        ValueError: an object is no ELF file.
        OSError: one cannot be read.
        MachineFault: ar does not run.
    """
    rules = Rules(tree)
    linked = _linked(output, cross_compile, env)
    found = []
    for path in sorted(built(output)):
        if linked and path not in linked:
            continue  # left there by a configuration that was built before
        found.append(object_contents(output / path, path, rules.options(path)))
    return found


def object_contents(file: Path, path: str, options: frozenset[str]) -> ObjectContents:
    """What is in one object.

    Args:
        file: the object.
        path: what to call it.
        options: those that bring it.

    Raises:
        ValueError: it is no ELF file.
        OSError: it cannot be read.
    """
    raw = elf.raw_object(file)
    return ObjectContents(
        path,
        options,
        sum(
            one.bytes
            for one in raw.sections
            if one.allocated and not one.name.startswith(_NOT_KEPT)
        ),
        tuple(_definitions(raw)),
        tuple(_references(raw)),
    )


def _linked(output: Path, cross_compile: str, env: Mapping[str, str]) -> set[str]:
    """Paths of the objects that go into the image: members of vmlinux.a, and those of the libraries
    from which the linker takes what is asked for. Empty for kernels before 6.1, which have none."""
    archives = [output / "vmlinux.a"]
    if not archives[0].is_file():
        return set()
    archives += [output / "lib/lib.a", *sorted((output / "arch").glob("*/lib/lib.a"))]
    found: set[str] = set()
    for archive in archives:
        if not archive.is_file():
            continue
        try:
            said = subprocess.run(
                [f"{cross_compile}ar", "t", str(archive.relative_to(output))],
                cwd=output,
                env=dict(env),
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
        except OSError as error:
            raise MachineFault(
                f"{cross_compile}ar does not run: {error}.", "Run: memtotal doctor"
            ) from error
        found |= set(said.stdout.split())
    return found


def _kind(raw: RawObject, index: int) -> str:
    section = raw.sections[index]
    if section.name.startswith(_FREED):
        return "init"
    if section.executable:
        return "text"
    if not section.in_file:
        return "bss"
    return "data" if section.writable else "rodata"


def _definitions(raw: RawObject) -> Iterator[Definition]:
    for one in raw.symbols:
        if one.section == 0 or one.section >= len(raw.sections) or one.type not in (1, 2):
            continue
        if raw.sections[one.section].allocated:
            yield Definition(
                one.name,
                _kind(raw, one.section),
                raw.sections[one.section].name,
                one.value,
                one.bytes,
                one.type == 2,
                weak=one.binding == 2,
                local=one.binding == 0,
            )


def _references(raw: RawObject) -> Iterator[Reference]:
    known: dict[int, set[int]] = {}
    for relocation in raw.relocations:
        section = raw.sections[relocation.section]
        known.setdefault(relocation.section, set()).add(relocation.offset)
        if (
            not section.allocated
            or section.name.startswith(_TABLES)
            or relocation.type in _NO_REFERENCE
        ):
            continue
        symbol = raw.symbols[relocation.symbol]
        call = raw.machine == EM_ARM and relocation.type in _CALLS
        if symbol.section == 0:
            yield Reference(section.name, relocation.offset, call, symbol=symbol.name)
        elif symbol.section < len(raw.sections):
            addend = relocation.addend
            if addend is None:
                addend = _addend(raw, relocation.section, relocation.offset, relocation.type)
            target = raw.sections[symbol.section].name
            # A section's own symbol stands for its beginning; a name's addend is within it.
            offset = symbol.value + addend
            yield Reference(section.name, relocation.offset, call, target=target, offset=offset)
    if raw.machine == EM_ARM:
        yield from _branches(raw, known)


def _addend(raw: RawObject, index: int, offset: int, kind: int) -> int:
    """What the instruction or word holds besides (relocations of the REL sort keep it there)."""
    word = int(struct.unpack_from(f"{raw.order}I", raw.data(index), offset)[0])
    if kind in (1, 28, 29):
        # A branch's distance in words, from 8 bytes beyond it.
        return (((word & 0xFFFFFF) ^ 0x800000) - 0x800000) * 4 + 8
    if kind in (43, 44):
        # movw and movt: 16 bits in two fields, signed.
        half = (word >> 4 & 0xF000) | (word & 0xFFF)
        return (half ^ 0x8000) - 0x8000
    return (word ^ 0x80000000) - 0x80000000


def _branches(raw: RawObject, known: Mapping[int, set[int]]) -> Iterator[Reference]:
    for index, section in enumerate(raw.sections):
        if not (section.executable and section.allocated) or not section.bytes:
            continue
        data = raw.data(index)
        relocated = known.get(index, set())
        for start, end in raw.arm_code(index):
            for place in range(start, end - 3, 4):
                word = struct.unpack_from(f"{raw.order}I", data, place)[0]
                if place in relocated or word >> 28 == 15 or (word >> 25) & 7 != 5:
                    continue
                distance = (((word & 0xFFFFFF) ^ 0x800000) - 0x800000) * 4 + 8
                if 0 <= place + distance < section.bytes:
                    yield Reference(
                        section.name, place, True, target=section.name, offset=place + distance
                    )
