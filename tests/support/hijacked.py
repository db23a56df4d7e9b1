"""A process in an attacker's hands: it is made to make a system call, as code of theirs would.

Or in a debugger's, which holds it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

_ATTACH, _GETREGS, _SETREGS, _DETACH, _PEEKTEXT, _SINGLESTEP = 16, 12, 13, 17, 1, 9
_ALSO_TRACED = 0x40000000  # __WALL: it is not our child
_SYSCALL = b"\x0f\x05"
_NO_CALL = 2**64 - 1  # in orig_rax: there is none to go on with

# struct user_regs_struct of x86-64
# fmt: off
_NAMES = (
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi",
    "rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs",
    "gs",
)
# fmt: on
_ARGUMENTS = ("rdi", "rsi", "rdx", "r10", "r8", "r9")


class _Registers(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in _NAMES]


def _trace(request: int, pid: int, address: int, data: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.restype = ctypes.c_long
    result = libc.ptrace(request, pid, ctypes.c_void_p(address), data)
    if result == -1 and ctypes.get_errno() != 0:
        raise OSError(ctypes.get_errno(), f"ptrace {request}")
    return int(result)


@contextlib.contextmanager
def held(pid: int) -> Iterator[None]:
    """Let another process do nothing meanwhile. Enter and leave it in one thread: the tracer."""
    _trace(_ATTACH, pid, 0, None)
    os.waitpid(pid, _ALSO_TRACED)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # it was killed
            _trace(_DETACH, pid, 0, None)


@contextlib.contextmanager
def held_by_another(pid: int) -> Iterator[None]:
    """As `held`, by another process: a child of ours that dies is then not ours to collect."""
    (is_held, say_held), (until, end) = os.pipe(), os.pipe()
    tracer = os.fork()
    if tracer == 0:
        try:
            os.close(end)
            with held(pid):
                os.write(say_held, b"held")
                os.read(until, 1)
        finally:
            os._exit(0)
    try:
        os.close(say_held)
        assert os.read(is_held, 4) == b"held"
        yield
    finally:
        for each in (is_held, until, end):
            os.close(each)
        os.waitpid(tracer, 0)


_BELOW_STACK = 64 * 1024  # where no frame of the process is


class DiedError(Exception):
    """The process broke its filter, and is ended by SIGSYS."""


class Hijacked:
    """A process held by a debugger, as code of an attacker's would run in it. A context manager.

    `call` makes a system call with its rights; then it goes on with the one that it was in.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def __enter__(self) -> Self:
        while True:
            _trace(_ATTACH, self._pid, 0, None)
            os.waitpid(self._pid, _ALSO_TRACED)
            self._before = _registers(self._pid)
            if _is_in_call(self._pid, self._before):
                return self
            _trace(_DETACH, self._pid, 0, None)
            time.sleep(0.001)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, DiedError):
            _trace(_DETACH, self._pid, 0, signal.SIGSYS)
            return
        self._before.rip -= len(_SYSCALL)
        self._before.rax, self._before.orig_rax = self._before.orig_rax, _NO_CALL
        _trace(_SETREGS, self._pid, 0, ctypes.byref(self._before))
        _trace(_DETACH, self._pid, 0, None)

    @property
    def scratch(self) -> int:
        """An address that can be written."""
        return int(self._before.rsp) - _BELOW_STACK

    def write(self, address: int, content: bytes) -> None:
        with open(f"/proc/{self._pid}/mem", "r+b", buffering=0) as memory:  # noqa: PTH123
            memory.seek(address)
            memory.write(content)

    def call(self, number: int, *arguments: int) -> int:
        """Return what the call returns, a negative errno on failure. DiedError."""
        registers = _Registers.from_buffer_copy(self._before)
        registers.rip -= len(_SYSCALL)
        registers.rax, registers.orig_rax = number, _NO_CALL
        for name, value in zip(_ARGUMENTS, (*arguments, *[0] * 6), strict=False):
            setattr(registers, name, value & _NO_CALL)
        _trace(_SETREGS, self._pid, 0, ctypes.byref(registers))
        _trace(_SINGLESTEP, self._pid, 0, None)
        _, status = os.waitpid(self._pid, _ALSO_TRACED)
        if not os.WIFSTOPPED(status) or os.WSTOPSIG(status) == signal.SIGSYS:
            raise DiedError
        return ctypes.c_longlong(_registers(self._pid).rax).value


def _registers(pid: int) -> _Registers:
    registers = _Registers()
    _trace(_GETREGS, pid, 0, ctypes.byref(registers))
    return registers


def _is_in_call(pid: int, registers: _Registers) -> bool:
    """Whether the instruction behind which it is makes a system call."""
    code = (_trace(_PEEKTEXT, pid, registers.rip - 2, None) & 0xFFFF).to_bytes(2, "little")
    return code == _SYSCALL


def make_call(pid: int, number: int) -> None:
    """Let another process, as soon as it is in some system call, go on with that of this number."""
    while not _replace_call(pid, number):
        time.sleep(0.001)


def _replace_call(pid: int, number: int) -> bool:
    """Return whether it was in one; if not it goes on as it was."""
    _trace(_ATTACH, pid, 0, None)
    os.waitpid(pid, _ALSO_TRACED)
    registers = _registers(pid)
    is_in_call = _is_in_call(pid, registers)
    if is_in_call:
        # The instruction once more, with another number.
        registers.rip -= len(_SYSCALL)
        registers.rax, registers.orig_rax = number, _NO_CALL
        registers.rdi = registers.rsi = registers.rdx = 0
        _trace(_SETREGS, pid, 0, ctypes.byref(registers))
    _trace(_DETACH, pid, 0, None)
    return is_in_call
