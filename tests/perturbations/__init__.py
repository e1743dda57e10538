"""CometBFT's end-to-end test on our nodes: seven validators under load, perturbed one by one, and two late full nodes.

After `test/e2e` of CometBFT: kill, pause, restart, disconnect; then its invariant tests, each under its own name. What
has no counterpart: `App_VoteExtensions` (votes carry none).
"""
