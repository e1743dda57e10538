"""The list of defects is one that can be run: ``make mutants`` does."""

import pytest

from tests.mutants import consensus_defects, light_defects, node_defects
from tests.mutants.defect import ROOT, WORLDS, Defect

DEFECTS = (*consensus_defects.DEFECTS, *node_defects.DEFECTS, *light_defects.DEFECTS)


def test_there_are_at_least_forty_different_defects() -> None:
    assert len({defect.name for defect in DEFECTS}) == len(DEFECTS) >= 40


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_each_has_one_place_in_the_code_and_tests_that_exist(defect: Defect) -> None:
    assert (ROOT / defect.path).read_text().count(defect.before) == 1
    assert defect.before != defect.after
    assert all(check == WORLDS or (ROOT / check).is_file() for check in defect.checks)
