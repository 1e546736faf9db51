"""vmlinux and object files: sections and symbols. The only importer of pyelftools."""

from __future__ import annotations

import bisect
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from optimizer.records import ImageLayout, Section, Symbol


def section_sizes(path: Path) -> dict[str, int]:
    """Bytes of each section that takes memory when the file is loaded, by section name.

    Raises:
        ValueError: the file is no ELF file.
    """
    try:
        with path.open("rb") as stream:
            return {
                section.name: int(section["sh_size"])
                for section in ELFFile(stream).iter_sections()
                if section["sh_flags"] & SH_FLAGS.SHF_ALLOC and section["sh_size"]
            }
    except ELFError as error:
        raise ValueError(f"{path} is not an ELF file: {error}") from error


@dataclass(frozen=True)
class Function:
    """A function of a linked image; ``init`` says that it is freed after boot."""

    address: int
    bytes: int
    name: str
    init: bool


def functions(path: Path) -> list[Function]:
    """Every function of vmlinux, by address.

    Raises:
        ValueError: the file is no ELF file or has no symbol table.
    """
    try:
        with path.open("rb") as stream:
            image = ELFFile(stream)
            init = [
                (int(section["sh_addr"]), int(section["sh_addr"]) + int(section["sh_size"]))
                for section in image.iter_sections()
                if section.name.startswith((".init", ".exit"))
            ]
            table = image.get_section_by_name(".symtab")
            if not isinstance(table, SymbolTableSection):
                raise ValueError(f"{path} has no symbol table")
            found = [
                Function(
                    int(symbol["st_value"]) & ~1,
                    int(symbol["st_size"]),
                    symbol.name,
                    any(low <= symbol["st_value"] < high for low, high in init),
                )
                for symbol in table.iter_symbols()
                if symbol["st_info"]["type"] == "STT_FUNC" and symbol["st_size"]
            ]
    except ELFError as error:
        raise ValueError(f"{path} is not an ELF file: {error}") from error
    return sorted(found, key=lambda function: function.address)


_UNDEFINED = 0
# st_info's types of names that stand for code, data or neither (an absolute or assembler's label).
_NOTYPE, _OBJECT, _FUNC = 0, 1, 2


def layout(path: Path) -> ImageLayout:
    """Sections and named addresses of vmlinux.

    Read record by record with ``struct``: a study asks this of every trial, and 87,000 symbols take
    seconds as objects of pyelftools, tenths of one this way.

    Raises:
        ValueError: the file is no ELF file or has no symbol table.
    """
    try:
        with path.open("rb") as stream:
            image = ELFFile(stream)
            sections = tuple(
                Section(one.name, int(one["sh_addr"]), int(one["sh_size"]))
                for one in image.iter_sections()
                if one["sh_flags"] & SH_FLAGS.SHF_ALLOC and one["sh_size"]
            )
            symbols = tuple(
                sorted(
                    (
                        Symbol(value, size, name)
                        for name, value, size, info, where in _symbols(image, path)
                        if where != _UNDEFINED and info & 15 in (_NOTYPE, _OBJECT, _FUNC)
                    ),
                    key=lambda one: (one.address, -one.bytes),
                )
            )
    except ELFError as error:
        raise ValueError(f"{path} is not an ELF file: {error}") from error
    return ImageLayout(tuple(sorted(sections, key=lambda one: one.address)), symbols)


def _symbols(image: ELFFile, path: Path) -> Iterator[tuple[str, int, int, int, int]]:
    """(name, value, size, info, section) of each symbol that has a name."""
    table = image.get_section_by_name(".symtab")
    if not isinstance(table, SymbolTableSection):
        raise ValueError(f"{path} has no symbol table")
    names = table.stringtable.data()
    order = "<" if image.little_endian else ">"
    if image.elfclass == 32:  # Elf32_Sym and Elf64_Sym have their fields in another order
        rows = (
            (name, value, size, info, where)
            for name, value, size, info, _other, where in struct.iter_unpack(
                f"{order}IIIBBH", table.data()
            )
        )
    else:
        rows = (
            (name, value, size, info, where)
            for name, info, _other, where, value, size in struct.iter_unpack(
                f"{order}IBBHQQ", table.data()
            )
        )
    for name, value, size, info, where in rows:
        text = names[name : names.index(b"\0", name)].decode("utf-8", "replace")
        # $a, $d, $t: ARM's marks of code and data.
        if text and not text.startswith("$"):
            yield text, value, size, info, where


@dataclass(frozen=True)
class RawSection:
    """A section of an object, by its flags."""

    name: str
    bytes: int
    allocated: bool
    executable: bool
    writable: bool
    in_file: bool
    offset: int


@dataclass(frozen=True)
class RawSymbol:
    """A symbol of an object: ``section`` is 0 where it is defined elsewhere; type and binding are
    ELF's numbers."""

    name: str
    value: int
    bytes: int
    section: int
    type: int
    binding: int


@dataclass(frozen=True)
class RawRelocation:
    """A place to fill in: in which section, at which offset, ELF's number of its type, the symbol's
    index. ``addend`` is None where it is kept in the place itself."""

    section: int
    offset: int
    type: int
    symbol: int
    addend: int | None


class RawObject:
    """A relocatable object, read record by record: a kernel has a thousand with half a million.

    Args:
        content: of the file.
        name: for messages.

    Raises:
        ValueError: no ELF object, or cut off.
    """

    def __init__(self, content: bytes, name: str) -> None:
        if content[:4] != b"\x7fELF":
            raise ValueError(f"{name} is not an ELF file")
        self._content = content
        self.order = "<" if content[5] == 1 else ">"
        self._wide = content[4] == 2
        try:
            self._read()
        except (struct.error, IndexError, ValueError) as error:
            raise ValueError(f"{name} is a broken object: {error}") from error

    def data(self, index: int) -> bytes:
        """What a section holds."""
        section = self.sections[index]
        return self._content[section.offset : section.offset + section.bytes]

    def arm_code(self, index: int) -> Iterator[tuple[int, int]]:
        """Offsets from and to which a section holds ARM instructions; between lie literals.

        Marked by $a and $d (ELF for the Arm Architecture, 5.5.5).
        """
        marks = sorted(self._marks.get(index, ()))
        for number, (start, mark) in enumerate(marks):
            end = marks[number + 1][0] if number + 1 < len(marks) else self.sections[index].bytes
            if mark == "$a":
                yield start, end

    def _read(self) -> None:
        order, wide = self.order, self._wide
        (self.machine,) = struct.unpack_from(f"{order}H", self._content, 18)
        start = struct.unpack_from(
            f"{order}{'Q' if wide else 'I'}", self._content, 40 if wide else 32
        )
        size, count, names_at = struct.unpack_from(f"{order}HHH", self._content, 58 if wide else 46)
        form = f"{order}IIQQQQIIQQ" if wide else f"{order}10I"
        heads = [
            struct.unpack_from(form, self._content, start[0] + number * size)
            for number in range(count)
        ]
        names = heads[names_at]
        self.sections = tuple(
            RawSection(
                self._text(names[4], head[0]),
                head[5],
                bool(head[2] & SH_FLAGS.SHF_ALLOC),
                bool(head[2] & SH_FLAGS.SHF_EXECINSTR),
                bool(head[2] & SH_FLAGS.SHF_WRITE),
                head[1] != 8,  # SHT_NOBITS
                head[4],
            )
            for head in heads
        )
        self._marks: dict[int, list[tuple[int, str]]] = {}
        symbols: list[RawSymbol] = []
        for head in heads:
            if head[1] == 2:  # SHT_SYMTAB
                symbols = list(self._symbols(head[4], head[5], heads[head[6]][4]))
        self.symbols = tuple(symbols)
        self.relocations = tuple(
            one for head in heads if head[1] in (4, 9) for one in self._relocations(head)
        )

    def _text(self, table: int, at: int) -> str:
        begin = table + at
        return self._content[begin : self._content.index(b"\0", begin)].decode("utf-8", "replace")

    def _symbols(self, offset: int, size: int, names: int) -> Iterator[RawSymbol]:
        form = f"{self.order}IBBHQQ" if self._wide else f"{self.order}IIIBBH"
        for row in struct.iter_unpack(form, self._content[offset : offset + size]):
            if self._wide:
                name, info, _other, where, value, length = row
            else:
                name, value, length, info, _other, where = row
            text = self._text(names, name) if name else ""
            if text.startswith("$"):
                self._marks.setdefault(where, []).append((value, text[:2]))
            yield RawSymbol(text, value, length, where, info & 15, info >> 4)

    def _relocations(self, head: tuple[int, ...]) -> Iterator[RawRelocation]:
        added = head[1] == 4  # SHT_RELA
        form = self.order + ("QQ" if self._wide else "II")
        if added:
            form += "q" if self._wide else "i"
        shift, mask = (32, 0xFFFFFFFF) if self._wide else (8, 0xFF)
        for row in struct.iter_unpack(form, self._content[head[4] : head[4] + head[5]]):
            yield RawRelocation(
                head[7], row[0], row[1] & mask, row[1] >> shift, row[2] if added else None
            )


def raw_object(path: Path) -> RawObject:
    """Read an object.

    Raises:
        ValueError: no ELF object, or cut off.
        OSError: it cannot be read.
    """
    return RawObject(path.read_bytes(), str(path))


class Resolver:
    """Addresses of an image as names."""

    def __init__(self, image: ImageLayout) -> None:
        self._named = [
            one for one in image.symbols if not one.name.startswith(("__ksymtab", "__kstrtab"))
        ]
        self._starts = [one.address for one in self._named]

    def name(self, address: int) -> str:
        """The symbol that an address is in, '' when it is in none."""
        index = bisect.bisect_right(self._starts, address) - 1
        while index >= 0:
            one = self._named[index]
            if one.bytes and one.address <= address < one.address + one.bytes:
                return one.name
            if address - one.address > 1 << 20:
                return ""
            index -= 1
        return ""


def string_at(path: Path, address: int) -> str:
    """The text that an image holds at an address, '' when there is none.

    Raises:
        ValueError: the file is no ELF file.
    """
    try:
        with path.open("rb") as stream:
            for one in ELFFile(stream).iter_segments():
                start = int(one["p_vaddr"])
                if one["p_type"] == "PT_LOAD" and start <= address < start + one["p_filesz"]:
                    stream.seek(one["p_offset"] + address - start)
                    return stream.read(80).split(b"\0")[0].decode("ascii", "replace")
    except ELFError as error:
        raise ValueError(f"{path} is not an ELF file: {error}") from error
    return ""
