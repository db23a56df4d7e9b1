"""The journal: fastun's changes of this host, recorded so that they are always undone.

Before each change its record (changes.py) is appended to STATE/journal/INTERFACE-XXXXXXXX.jsonl, a
file of mode 0600, as one line, and flushed to the disk:

    {"kind":"header","version":1,"boot":"4e3f…","netns":4026531840,"interface":"fastun0"}
    {"kind":"sysctl","name":"net/ipv4/conf/all/src_valid_mark","before":"0","ours":"1"}
    {"kind":"routing-rules","mark":51820}
    {"kind":"undone","line":1}

The end undoes what is not undone yet, and removes the file. A gateway that was killed leaves its
file, and the next start with the same state directory undoes its changes. Invariants:

- A gateway is alive as long as it holds the flock of its file; the file of a live one is only read.
- Only the last line can be truncated, and then its change was not made.
- Undoing compares first, so doing it twice, or after other programs, changes nothing.
- Boot ID and network namespace identify the kernel state. After a reboot that state is gone, and
  only records that outlive it matter. A file of another namespace is left alone.
- A change that several gateways share is undone by the last one. `.lock` is held from the check of
  the others until the change is made, and only for kernel calls that return at once.
- No step can block the others: each has its own thread and time limit, and all together have one.

If the directory cannot be written, the journal is in memory only, with a warning.
"""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, cast

from fastun import ending, log
from fastun.errors import RuntimeFailure, one_line
from fastun.host.journal import journal_file, sysctls
from fastun.host.journal.journal_file import Header, JournalFile, Undone
from fastun.host.journal.sysctls import Sysctl

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

    from fastun.host.journal.changes import AnyChange
    from fastun.host.journal.journal_file import Pending

DIRECTORY: Final = "journal"

# For undoing everything. With the workers' end before it, a gateway is gone within 15 s whatever
# hangs (worker_process.py).
UNDO_LIMIT_S: Final = 11.0
_STEP_LEAST_S = 1.0
_SLOW_S = 1.0
_LOOK_EVERY_S = 0.05
# A step that runs a program gives up by itself; its thread is waited for a little longer.
_GRACE_S = 0.5

# Another thread may be making a change. A program that it runs is killed when the end begins.
_CHANGING_LIMIT_S = 2.0


class Journal:
    """The changes of one gateway. Use as a context manager: the end undoes them.

    Blocks: not on the event loop's thread. Changes may be made by several threads.
    """

    def __init__(self, state_dir: Path, interface: str) -> None:
        """Prepare; nothing is touched before the first change."""
        self._directory = state_dir / DIRECTORY
        self._header = Header(
            boot=Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip(),
            netns=Path("/proc/thread-self/ns/net").stat().st_ino,  # this thread's
            interface=interface,
        )
        self._file: JournalFile | None = None
        self._is_written = True  # whether changes go to the disk
        self._pending: Pending = {}
        self._n_lines = 0  # of our file, less the header
        self._is_over = False
        self._mutex = threading.Lock()
        self._log = log.get("journal")

    def wait_for_last(self, is_open: Callable[[], bool]) -> None:
        """Wait while another fastun undoes what it has changed for the same interface.

        ``is_open`` returns whether a program has the interface: then that one is not ending. Raises
        AskedToStop.
        """
        until_s, is_said = time.monotonic() + UNDO_LIMIT_S, False
        while self._has_namesake() and not is_open() and time.monotonic() < until_s:
            ending.check()
            if not is_said:
                is_said = True
                self._log.info(
                    "waiting for the last fastun of this interface, which restores the host",
                    interface=self._header.interface,
                )
            time.sleep(_LOOK_EVERY_S)

    def _has_namesake(self) -> bool:
        """Return whether another one that lives has the same interface."""
        for path in journal_file.paths(self._directory):
            with journal_file.locked(self._directory):
                found = journal_file.living(path)
            is_its = found is not None and found[0].interface == self._header.interface
            if found is not None and is_its and found[0].is_like(self._header):
                return True
        return False

    def __enter__(self) -> Self:
        """Undo what killed gateways left; a failure is a warning."""
        for path in journal_file.paths(self._directory):
            try:
                self._settle(path)
            except FileNotFoundError:  # another start was quicker
                pass
            except OSError as error:
                self._leave_alone(path, error.strerror)
        return self

    def __exit__(self, kind: object, error: object, _: object) -> None:
        """Undo all. Raises RuntimeFailure when something could not be, but for no other error."""
        failures = self.undo_all()
        if failures and error is None:
            raise RuntimeFailure("; ".join(failures))

    # -- changing -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def changing(self, change: AnyChange) -> Iterator[None]:
        """Record a change, which the block then makes. AskedToStop when the end has begun."""
        with self._mutex:
            if self._is_over or ending.is_asked():
                raise ending.AskedToStop
            if change not in self._pending.values():
                self._open()
                self._record(change)
            yield

    def set_sysctl(self, name: str, value: str) -> None:
        """Change a setting below /proc/sys, by its path there. Raises OSError."""
        with self.sharing(lambda: Sysctl(name, sysctls.read(name), value)):
            sysctls.write(name, value)

    @contextlib.contextmanager
    def sharing(self, look: Callable[[], AnyChange]) -> Iterator[None]:
        """Record a change that others may have made before, unless there is nothing to undo.

        As `changing`. ``look`` says what it is, and what is there now.
        """
        self._open()
        with journal_file.locked(self._directory):
            change = look()
            known = self._known(change)
            if known is None and change.changes_nothing:
                yield
                return
            # What was before the first gateway changed it, not what that made it.
            ours = change if known is None else cast("AnyChange", change.taking_over(known))
            with self.changing(ours):
                yield

    def _known(self, change: AnyChange) -> AnyChange | None:
        """Return the same change of this or another gateway, None if none has made it."""
        known = [*self._pending.values(), *self._others(self._file)]
        return next(filter(change.is_same, known), None)

    def of_all(self) -> tuple[AnyChange, ...]:
        """Return what this and the other live gateways of this directory have changed."""
        with journal_file.locked(self._directory):
            return *self.made(), *self._others(self._file)

    def has_set(self, sysctl: str) -> bool:
        """Return whether this gateway has changed a setting, by its path below /proc/sys."""
        return any(isinstance(each, Sysctl) and each.name == sysctl for each in self.made())

    def lost(self) -> list[str]:
        """Return which settings are not any more as this gateway has set them."""
        return [change.what for change in self.made() if change.is_lost()]

    def made(self) -> tuple[AnyChange, ...]:
        """Return what this gateway has changed and not undone."""
        with self._mutex:
            return tuple(self._pending.values())

    def strike(self, change: AnyChange) -> None:
        """Remove a change that was not made after all."""
        with self._mutex:
            for line in [line for line, made in self._pending.items() if made == change]:
                self._strike(line, self._pending, self._file)

    def _open(self) -> None:
        """Make the file, if there is none yet."""
        if self._file is None and self._is_written:
            with self._warning():
                self._file = JournalFile.create(self._directory, self._header)

    def _record(self, change: AnyChange) -> None:
        self._n_lines += 1
        self._pending[self._n_lines] = change
        if self._file is not None and self._is_written:
            with self._warning():
                self._file.append(change)

    @contextlib.contextmanager
    def _warning(self) -> Iterator[None]:
        """Warn, once, that changes are kept in memory only."""
        try:
            yield
        except OSError as error:
            self._is_written = False
            self._log.warning(
                "cannot write the journal: changes to this host would survive a kill of fastun",
                directory=str(self._directory),
                error=error.strerror,
            )

    def _others(self, but: JournalFile | None) -> Iterator[AnyChange]:
        """Yield the changes of live gateways of this boot and namespace; `.lock` is held."""
        for path in journal_file.paths(self._directory):
            if but is not None and path == but.path:
                continue
            found = journal_file.living(path)
            if found is not None and found[0].is_like(self._header):
                yield from found[1].values()

    # -- undoing ------------------------------------------------------------------------------

    def undo_those(self, select: Callable[[AnyChange], bool]) -> list[str]:
        """Undo some changes while the gateway goes on; return what could not be undone."""
        with self._mutex:
            some = [change for change in self._pending.values() if select(change)]
            return self._undo(self._pending, self._file, owner_died=False, only=some)

    def undo_all(self) -> list[str]:
        """Undo everything, and refuse further changes; return what could not be undone."""
        is_quiet = self._mutex.acquire(timeout=_CHANGING_LIMIT_S)
        try:
            self._is_over = True
            failures = self._undo(self._pending, self._file, owner_died=False)
            if self._file is not None and not self._pending:
                self._file.remove()
                self._file = None
            return failures
        finally:
            if is_quiet:
                self._mutex.release()

    def _settle(self, path: Path) -> None:
        """Undo what a file says, if its owner is dead and it is of this namespace."""
        file = JournalFile.claim(path)
        if file is None:
            return
        try:
            header, pending, complaint = file.read()
        except RuntimeFailure as error:
            self._leave_alone(path, str(error))
            file.close()
            return
        if header.boot != self._header.boot:
            pending = {line: change for line, change in pending.items() if change.outlives_boot}
        elif not header.is_like(self._header):
            file.close()
            return
        if complaint:
            self._log.warning("damaged journal", file=str(path), error=complaint)
        if pending:
            self._log.info("undoing the changes of a killed fastun", interface=header.interface)
        self._undo(pending, file, owner_died=True)
        if pending:
            file.close()  # for the next start
        else:
            file.remove()

    def _leave_alone(self, path: Path, why: str | None) -> None:
        self._log.warning("journal ignored", file=str(path), error=why)

    def _undo(
        self,
        pending: Pending,
        file: JournalFile | None,
        *,
        owner_died: bool,
        only: Container[AnyChange] | None = None,
    ) -> list[str]:
        """Undo what is pending, and record that; return what could not be undone."""
        deadline = time.monotonic() + UNDO_LIMIT_S
        failures = []
        for line, change in sorted(pending.items(), key=lambda item: (item[1].rank, -item[0])):
            if only is not None and change not in only:
                continue
            with self._exclusive(change):
                limit_s = max(_STEP_LEAST_S, min(change.limit_s, deadline - time.monotonic()))
                is_needed = change.is_shared and any(map(change.is_same, self._others(file)))
                why = "" if is_needed else self._within(limit_s, change, owner_died=owner_died)
                if not why:
                    self._strike(line, pending, file)
            if why:
                self._log.warning(f"could not restore {change.what}", error=why)
                failures.append(f"could not restore {change.what}: {why}; run '{change.by_hand}'")
        return failures

    def _strike(self, line: int, pending: Pending, file: JournalFile | None) -> None:
        pending.pop(line, None)
        if pending is self._pending:
            self._n_lines += 1
        if file is not None:
            with contextlib.suppress(OSError):
                file.append(Undone(line))

    def _exclusive(self, change: AnyChange) -> contextlib.AbstractContextManager[None]:
        """Keep other gateways from sharing a change while it is undone."""
        if change.is_shared:
            return journal_file.locked(self._directory)
        return contextlib.nullcontext()

    def _within(self, limit_s: float, change: AnyChange, *, owner_died: bool) -> str:
        """Undo a change, in a thread that is abandoned if it hangs; return what went wrong."""
        outcome: list[str] = []

        def undo() -> None:
            try:
                change.undo(limit_s, owner_died=owner_died)
            except Exception as error:  # noqa: BLE001 (whatever it was, the others are undone)
                outcome.append(one_line(str(error)) or type(error).__name__)
            else:
                outcome.append("")

        thread = threading.Thread(target=undo, name="undo", daemon=True)
        thread.start()
        thread.join(_SLOW_S)
        if thread.is_alive():
            self._log.info(f"still restoring {change.what}", limit=f"{limit_s:.0f} s")
            thread.join(limit_s + _GRACE_S - _SLOW_S)
        return outcome[0] if outcome else f"not finished within {limit_s:.3g} s"
