"""Bytes between authenticated peers. Knows no block."""
