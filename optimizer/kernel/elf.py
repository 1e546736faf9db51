"""vmlinux and object files: sections and symbols. The only importer of pyelftools."""

from __future__ import annotations

from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile


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
