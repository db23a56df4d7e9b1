"""The control socket of an idle gateway, for each test that asks for ``path``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import structlog

from fastun import log
from tests.support.control_socket import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _log_to_stderr() -> Iterator[None]:
    """Keep events out of what `status` prints: unconfigured, structlog writes to stdout."""
    log.configure("console", 1)
    yield
    structlog.reset_defaults()


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    with serving(tmp_path / "run") as served:
        yield served
