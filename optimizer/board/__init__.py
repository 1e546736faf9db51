"""A place where a kernel boots, and the checks made there."""

from optimizer.board.qemu import QemuMachine, version
from optimizer.board.smoke import evaluate

__all__ = ["QemuMachine", "evaluate", "version"]
