"""Many nodes: real processes with faults and load."""
