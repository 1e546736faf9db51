"""memtotal: find the kernel configuration that leaves the most RAM to user space."""

__version__ = "0.1.0"
