"""Tendermint as a pure state machine, and the facts it decides about. Pure: no clock, disk, socket or dice."""
