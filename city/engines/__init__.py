"""Mechanisms that several modules share; empty until two modules need the same one."""
