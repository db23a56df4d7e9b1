"""``python -m bench.tunnel.programs.unconfined``: fastun with nothing confined, to be measured.

It has no option for that, nor should it. Here gateway, template and workers give nothing up: no
user, capability or path, and no system call; and keys are in locked and not in secret memory.
"""

from __future__ import annotations

import os
from typing import Any

from msgspec import structs

from fastun import native
from fastun.host import template_start, users

TEMPLATE = "bench.tunnel.programs.unconfined_template"


def nothing_given_up(*_: object, **__: object) -> native.Confined:
    """In the place of what gives something up."""
    return native.Confined(os.geteuid(), 0, has_filter=False)


def main() -> None:
    """Run fastun."""
    from fastun.command.cli import main as run  # noqa: PLC0415 (after what is replaced below)
    from fastun.gateway import gateway  # noqa: PLC0415 (as above)

    replaced: Any = gateway
    plan_of = replaced.plan_of

    def without_secret_memory(*arguments: Any) -> Any:
        return structs.replace(plan_of(*arguments), secret_keys=False)

    replaced.plan_of = without_secret_memory
    run()


if __name__ == "__main__":
    native.confine_gateway = nothing_given_up
    users.choose = lambda: users.KEPT
    template_start.MODULE = TEMPLATE
    main()
