"""Where the peers of a wg-quick file were last, written into the file (its SaveConfig)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastun import log, state_file
from fastun.config.wg_quick_saved import with_endpoints

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# As much as is read of a configuration.
_BYTES_MAX: Final = 16 << 20


def save(path: Path, endpoints: Mapping[str, str]) -> None:
    """Have the file say these, by public key; a failure is a warning."""
    logger = log.get("hooks")
    try:
        text = state_file.read(path, _BYTES_MAX).decode()
        saved = with_endpoints(text, dict(endpoints))
        if saved != text:
            state_file.replace(path.resolve(), saved.encode(), is_durable=True)
            logger.info("saved the endpoints of peers", file=str(path))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        logger.warning("cannot save the endpoints of peers", file=str(path), error=why)
