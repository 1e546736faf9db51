"""The ``memtotal`` command: wires the parts together; the only printer and exiter."""

from optimizer.cli.main import main

__all__ = ["main"]
