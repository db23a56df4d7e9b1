"""Imports of large libraries of which fastun uses a part: for a gateway's memory, and its start.

    with imports.deferred("pyroute2"):
        from pyroute2.iproute import IPRoute

Only for the one module that wraps a library; `kept` is for the command that starts a gateway.
tests/unit/house/test_imports_at_start.py says what a gateway and a worker must not load.
"""

from __future__ import annotations

import gc
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Final

_HASHES: Final = ("_md5", "_sha1", "_sha3", "_blake2")  # and SHA-2, by a name of its version


@contextmanager
def kept() -> Iterator[None]:
    """Import what stays until the process ends, out of the garbage collector's sight.

    Looking through it takes 30 ms of CPU while a gateway imports, 20 ms at each full collection
    after that, and 60 ms at its end.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def deferred(*packages: str) -> Iterator[None]:
    """Import modules of packages whose own __init__.py, which imports all others, does not run yet.

    It runs when a package is asked for what it does not have yet, so others find it whole.
    """
    made = [_without_init(package) for package in packages if package not in sys.modules]
    try:
        yield
    finally:
        for module in made:
            _run_init_at_use(module)


@contextmanager
def without(package: str) -> Iterator[None]:
    """Import a library as if a package that it can do without were not installed."""
    if package in sys.modules:  # its memory is taken already
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment] # so that its import fails
    try:
        yield
    finally:
        del sys.modules[package]


def has_own_hashes() -> bool:
    """Return whether Python has all hash functions of `hashlib` itself, beside OpenSSL's."""
    sha_2 = "_sha2" if sys.version_info >= (3, 12) else "_sha512"
    return all(map(importlib.util.find_spec, (*_HASHES, sha_2)))


@contextmanager
def standing_in(*modules: str) -> Iterator[None]:
    """Import a library that needs modules only to be there: for parts of it that we do not use.

    What it takes of them are empty classes. Later imports get the real modules.
    """
    before = {name: sys.modules[name] for name in modules if name in sys.modules}
    sys.modules.update({name: _StandIn(name) for name in modules if not before.get(name)})
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]
            package, _, module = name.rpartition(".")
            if isinstance(vars(sys.modules.get(package, sys)).get(module), _StandIn):
                delattr(sys.modules[package], module)
        sys.modules.update(before)


@contextmanager
def in_place_of(name: str, module: ModuleType) -> Iterator[None]:
    """Import what gets ``module`` where it asks for the one of that name, which has more.

    Later imports get the real one.
    """
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        yield
    finally:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before


class _StandIn(ModuleType):
    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__init__": lambda *_, **__: None})


def _without_init(package: str) -> ModuleType:
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    module = sys.modules[package] = importlib.util.module_from_spec(spec)
    return module


def _run_init_at_use(module: ModuleType) -> None:
    def run_and_get(name: str) -> object:
        del module.__getattr__
        assert module.__spec__ is not None  # noqa: S101 (module_from_spec has set both)
        assert module.__spec__.loader is not None  # noqa: S101
        module.__spec__.loader.exec_module(module)
        return getattr(module, name)

    module.__getattr__ = run_and_get  # type: ignore[method-assign] # PEP 562
