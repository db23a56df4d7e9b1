"""Mutants of the rule "pushed_settings" of SECURITY.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.mutation.mutant import Suite

SUITES: tuple[Suite, ...] = ()
