"""Only what pyproject.toml cannot say: the extension module that cffi builds."""

from setuptools import setup

setup(
    cffi_modules=["fastun/native/build.py:ffi"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
