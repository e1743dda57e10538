"""``allting devnet``: a whole network on one machine, to look at, to break, and to measure."""

from devnet.cli import faults, life, measuring, simulating
from devnet.cli.group import devnet

__all__ = ["devnet", "faults", "life", "measuring", "simulating"]
