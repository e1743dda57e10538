"""Jepsen's Tendermint test on our own nodes: clients with a register and a set, a nemesis, and a checker of histories.

After https://jepsen.io/analyses/tendermint-0-10-2: real processes, operations that may fail or stay unknown, and the
question whether any order of them explains what the clients saw. ``make jepsen`` runs all nemeses.
"""
