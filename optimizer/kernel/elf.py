"""vmlinux and object files: sections and symbols. The only importer of pyelftools."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection


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
