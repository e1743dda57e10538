"""What went wrong in other engines, as tests of ours: each named after its advisory or issue.

CometBFT's security advisories (ASA-…) and the issues that ENGINE lists. Where ours is built differently, the test shows
why it can't happen, or what stands in its place. More of them stand where their subject is tested: `grep -rn 'ASA-\\|
cometbft#' tests`.
"""
