"""Why a light client does not begin: families whose texts are sentences for its user."""

from __future__ import annotations


class MemoryDamaged(Exception):
    """A file of the light client can't be used; the text says what to do."""


class NoRoot(Exception):
    """No node shows what trust is to begin with; the text says what to do."""


class BadBeginning(Exception):
    """Trust can't begin as the user says; the text says how it can."""


class BadSource(ValueError):
    """The URL is none of a node; says what one looks like."""
