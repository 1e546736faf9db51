"""Where the RAM went."""

from optimizer.memory.bootlog import measure, memory_line, parse_meminfo

__all__ = ["measure", "memory_line", "parse_meminfo"]
