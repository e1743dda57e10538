"""Deliberate defects: each is put into a copy of the code in turn, and some test or world must notice.

``make mutants`` runs them all and prints what killed which; a survivor is a test that is missing.
"""
