"""``python -m fastun.bench.model.all_lanes``: fastun that uses all its lanes from the start.

As with `workers.lanes_at_once`, whatever its file says: the model wants to know what they cost.
"""

from __future__ import annotations

import runpy
from typing import TYPE_CHECKING, Any

from msgspec import structs

from fastun.config import settings
from fastun.config.data_path import DataPath, data_path

if TYPE_CHECKING:
    from fastun.config.document import Document


def _at_once(document: Document) -> DataPath:
    return structs.replace(data_path(document), lanes_at_once=True)


if __name__ == "__main__":
    replaced: Any = settings
    replaced.data_path = _at_once
    runpy.run_module("fastun", run_name="__main__", alter_sys=True)
