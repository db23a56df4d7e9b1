"""The tables fit the sources, so that `make mutation` can judge every mutant when it is asked to.

To run the mutants is not for every change: what they show depends on the tests alone, which run.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.mutation.run import CHECKOUT, SUITES, mutate
from tests.mutation.testing import run_native

if TYPE_CHECKING:
    from pathlib import Path

    from tests.mutation.mutant import Suite

each_suite = pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)


def path_of(suite: Suite, test: str) -> Path:
    if suite.run is run_native:
        return CHECKOUT / "tests" / "native" / f"{test}.c"
    return CHECKOUT / test.partition("::")[0]


@each_suite
def test_what_a_mutant_replaces_stands_once_in_its_file(suite: Suite) -> None:
    misfits = []
    for mutant in suite.mutants:
        try:
            mutate(mutant, (CHECKOUT / mutant.file).read_text(encoding="utf-8"))
        except ValueError as error:
            misfits.append(f"{mutant.claim}: {error}")
    assert not misfits, "\n".join(misfits)


@each_suite
def test_the_tests_that_should_notice_exist(suite: Suite) -> None:
    named = {test for mutant in suite.mutants for test in mutant.tests} | set(suite.tests)
    assert not [test for test in sorted(named) if not path_of(suite, test).exists()]


@each_suite
def test_no_mutant_stands_there_twice(suite: Suite) -> None:
    claims = Counter((mutant.file, mutant.claim) for mutant in suite.mutants)
    changes = Counter((mutant.file, mutant.old, mutant.new) for mutant in suite.mutants)
    assert not [claim for claim, n in claims.items() if n > 1]
    assert not [change for change, n in changes.items() if n > 1]
