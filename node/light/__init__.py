"""A light client that serves the RPC of a node to whoever trusts none: each answer is verified before it is given."""
