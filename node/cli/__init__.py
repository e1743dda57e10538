"""The command ``allting``."""
