"""Only what pyproject.toml cannot say: the extension module that cffi builds."""

from setuptools import setup

setup(
    cffi_modules=["fastun/_build.py:ffi"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
