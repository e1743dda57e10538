"""The town's modules, one file each."""
