"""Every decoder that a stranger can reach, under bytes that nobody would send.

`test_decoders.py` tries messages made by grammar, and the same with bytes changed; ``make fuzz`` hands each decoder to
a fuzzer that is guided by coverage, for `FUZZ_S` seconds in all.
"""
