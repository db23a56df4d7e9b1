"""docs/reliability.md lists what the tests promise, with the figures that are stored."""

from __future__ import annotations

from tests.support.figures import PAGE, last_lines, promises, table, with_table


def test_the_page_and_the_tests_list_the_same_promises_and_figures() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_table(page, table(promises(), last_lines())), (
        "run python -m tests.support.figures"
    )


def test_no_promise_is_made_twice_in_other_words_of_the_same_test() -> None:
    found = promises()
    assert len(found) >= 2
    assert len({(each.file, each.test) for each in found}) == len(found)
