"""Bytes between authenticated peers. Knows no block.

From the wire up: `transport` (TCP) and `memory` carry streams; `noise` and `handshake` agree on a session; `records`
and `frames` carry messages in it; `channel` and `lanes` queue them within credit; `peer` is one connection with its
services. Above the peers: `named` (whom the settings name), `roster` (who may be connected), `scores` (bans),
`address_book`, `exchange` and `dialler` (who is dialled), and `network`, which holds all of it and is what the rest of
the node uses.
"""
