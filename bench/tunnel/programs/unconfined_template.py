"""The template of unconfined.py, and the workers that it forks: they give nothing up."""

from __future__ import annotations

from fastun.lane import template_process

if __name__ == "__main__":
    import os

    from fastun import native

    native.confine = lambda *_, **__: native.Confined(os.geteuid(), 0, has_filter=False)
    native.confine_template = lambda *_: None
    template_process.main()
