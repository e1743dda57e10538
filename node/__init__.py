"""One running node."""
