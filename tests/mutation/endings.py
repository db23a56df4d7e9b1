"""Mutants of the rule "Ending" of SECURITY.md: what a signal does, and what the journal undoes.

Left out is that background threads are daemons: the test notices, and pytest itself never ends. And
that workers ignore ending signals: a worker runs the installed fastun, and not the mutant's copy.
"""

# ruff: noqa: E501 (a table: what is replaced stands in one piece)

from __future__ import annotations

from tests.mutation.mutant import Suite, in_python

_MUTANTS = (
    *in_python(
        "ending", "unit/test_ending.py",
        ("only the first signal is heard", "    if not _asked_by:\n", "    if True:\n        _asked_by.clear()\n"),
        ("an ignored signal stays ignored", "if signal.getsignal(number) is not signal.SIG_IGN:", "if True:"),
        ("a hang-up asks as well", "signal.SIGQUIT, signal.SIGHUP)", "signal.SIGQUIT)"),
        ("^\\ asks as well", "signal.SIGINT, signal.SIGQUIT, ", "signal.SIGINT, "),
        ("SIGUSR1 ends in order", "_OTHERS = (signal.SIGUSR1, ", "_OTHERS = ("),
        ("the loop is woken", "signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)", "pass"),
        ("a signal from before the loop wakes it", "        if is_asked():\n            written.send", "        if False:\n            written.send"),
        ("no signal changes the exit code at the last moment", "handle(signal.SIG_IGN, (*SIGNALS, *_OTHERS))", "pass"),
        ("the guard waits for the end's beginning", "        os.read(bell, 8)", "        bool(bell)"),
        ("the guard hears of the end", "        for bell in _bells:\n            os.write(bell, _RING)\n", ""),
        ("the guard hears of an end that has begun", "    if is_asked():\n        os.write(bell, _RING)\n", ""),
        ("the guard leaves alone what has ended", "        left.set()", "        pass"),
        ("the guard ends the process whatever happens", "            finally:\n                os._exit(1)", "            except ZeroDivisionError:\n                os._exit(1)"),
        ("a lookup is left behind", "        check()\n        thread.join", "        thread.join"),
        ("a lookup's error is the caller's", "        raise errors[0]", "        raise AskedToStop"),
    ),
    *in_python(
        "threads", "unit/test_ending.py",
        ("threads are bounded", "if self._n_started < N_THREADS:", "if True:"),
    ),
    *in_python(
        "lane", "unit/test_lane.py",
        ("a terminal does not reach a worker", "                process_group=0,\n", ""),
        ("a worker in the kernel is not waited for", "            if not await _exited(worker.pidfd, KILL_GRACE_S):\n                return False\n", "            await _exited(worker.pidfd, 3600)\n"),
        ("a worker that stays is said", "        if stuck:", "        if False:"),
    ),
    *in_python(
        "host/programs", "unit/host/test_programs.py",
        ("a program has a time limit", "if is_cut or time.monotonic() >= deadline:", "if is_cut:"),
        ("a program's children go with it", "os.killpg(process.pid, signal.SIGKILL)", "process.kill()"),
        ("a terminal does not reach a program", "start_new_session=True, ", ""),
        ("an undoing is not cut short", "may_be_cut=not is_undo", "may_be_cut=True"),
        ("a change is cut short", "may_be_cut=not is_undo", "may_be_cut=False"),
        ("a refusal is noticed", "if process.returncode != 0:", "if False:"),
        ("a program reads from the start", "        given.seek(0)\n", ""),
    ),
    *in_python(
        "host/changes", "unit/host/test_journal.py unit/host/test_changes.py",
        ("a setting of others is left alone", "if read_sysctl(self.name) == self.ours:", "if True:"),
        ("a setting is restored to what it was", "write_sysctl(self.name, self.before)", "write_sysctl(self.name, self.ours)"),
        ("a setting that is gone is no failure", "except FileNotFoundError:", "except ZeroDivisionError:"),
        ("only settings of the network are written", 'pattern=r"^net(/[^/\\s.][^/\\s]*)+\\Z"', 'pattern=r"^[^/]+(/[^/\\s.][^/\\s]*)+\\Z"'),
        ("no path leads upwards", 'r"^net(/[^/\\s.][^/\\s]*)+\\Z"', 'r"^net(/[^/\\s]+)+\\Z"'),
        ("a table's name is a word", 'r"^[A-Za-z_][A-Za-z0-9_]{0,63}\\Z"', 'r"^[A-Za-z_]"'),
        ("an interface's name is no option", 'r"^[A-Za-z0-9_=+.][A-Za-z0-9_=+.-]{0,14}\\Z"', 'r"^.{1,15}\\Z"'),
        ("a table goes before what can hang", "    interface: _OddInterfaceName\n    rank: ClassVar[int] = 1", "    interface: _OddInterfaceName\n    rank: ClassVar[int] = 3"),
        ("a tunnel's rules keep their setting", "                if routing_rules.leads_any(netlink):", "                if False:"),
        ("DNS goes last", "    rank: ClassVar[int] = 2", "    rank: ClassVar[int] = -1"),
        ("DNS of a living gateway is left alone", "        if owner_died and _is_there_to_stay(self.interface):\n            return\n        try:", "        try:"),
        ("a table of a living gateway is left alone", "        if owner_died and _is_there_to_stay(self.interface):\n            return\n        #", "        #"),
        ("an interface that is gone takes resolvectl's settings along", 'if self.program != "resolvectl" or _exists(self.interface):', "if True:"),
    ),
    *in_python(
        "host/journal", "unit/host/test_journal.py",
        ("nothing is changed once the end has begun", "if self._is_over or ending.is_asked():", "if self._is_over:"),
        ("nothing is changed after the undoing", "if self._is_over or ending.is_asked():", "if ending.is_asked():"),
        ("a change is recorded before it is made", "                self._record(change)\n            yield\n", "                pass\n            yield\n            self._record(change)\n"),
        ("the undoing waits for a change", "is_quiet = self._mutex.acquire(timeout=_CHANGING_LIMIT_S)", "is_quiet = self._mutex.acquire(blocking=False)"),
        ("a sharer remembers what it was at first", "self.changing(next(filter(sysctl.is_same, known), sysctl))", "self.changing(sysctl)"),
        ("the last sharer undoes", "is_needed = change.is_shared and any(", "is_needed = False and any("),
        ("our own file is not another's", "if but is not None and path == but.path:", "if False:"),
        ("after a reboot the kernel's state is gone", "if change.outlives_boot}", "}"),
        ("another namespace's is left alone", "        elif not header.is_like(self._header):", "        elif False:"),
        ("what the disk does not take is warned of once", "            self._is_written = False\n", ""),
        ("what hangs is left behind", "            thread.join(limit_s + _GRACE_S - _SLOW_S)", "            thread.join()"),
        ("what fails does not end the undoing", "            except Exception as error:", "            except ZeroDivisionError as error:"),
        ("a failure is the end's error", "        if failures and error is None:", "        if False:"),
        ("another error is not hidden", "        if failures and error is None:", "        if failures:"),
        ("each line of ours is counted", "        if pending is self._pending:\n            self._n_lines += 1\n", ""),
        ("what is undone is struck out", "                file.append(Undone(line))", "                pass"),
        ("what could not be undone is kept", "        if pending:\n            file.close()  # for the next start", "        if False:\n            file.close()  # for the next start"),
        ("the file goes with the gateway", "                self._file.remove()", "                self._file.close()"),
        ("the newest goes first", "(item[1].rank, -item[0])", "(item[1].rank, item[0])"),
    ),
    *in_python(
        "host/journal_file", "unit/host/test_journal.py",
        ("a living gateway's file is not claimed", "            if _lock(descriptor):\n                return cls", "            if True:\n                return cls"),
        ("a gateway holds its file", "            fcntl.flock(file._descriptor, fcntl.LOCK_EX)\n", ""),
        ("others cannot read it", "os.open(path, flags, 0o600)", "os.open(path, flags, 0o644)"),
        ("a link is not followed", "os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW", "os.O_RDWR | os.O_APPEND"),
        ("what others can write is not believed", "or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)", ""),
        ("a file has a longest size", "or status.st_size > _BYTES_MAX", ""),
        ("another version's is left alone", "if header.version != VERSION:", "if False:"),
        ("a line that was cut is ignored", '.split(b"\\n")[:-1]', '.split(b"\\n")'),
        ("a damaged line hides no other", "            continue\n        if isinstance(record, Undone)", "            break\n        if isinstance(record, Undone)"),
        ("a damaged line is said", 'complaint = f"line {number + 1}: {error}"', 'complaint = ""'),
        ("what is undone is not pending", "            pending.pop(record.line, None)", "            pass"),
        ("a dead one shares nothing", "return None if _lock(descriptor) else", "return"),
    ),
    *in_python(
        "host/name_servers", "unit/host/test_name_servers.py",
        ("a refusal to set is undone at once", "                change.undo(change.limit_s, owner_died=False)", "                pass"),
        ("what was refused is not undone again", "            self._journal.strike(change)\n", ""),
        ("what hung is undone at the end", "except ProgramRefused:", "except RuntimeFailure:"),
    ),
    *in_python(
        "host/routing_rules", "unit/host/test_routing_rules.py",
        ("rules that stay are said", "return not clear_stale(netlink, mark)", "clear_stale(netlink, mark)\n    return True"),
    ),
)  # fmt: skip

SUITES: tuple[Suite, ...] = (Suite("endings", (), _MUTANTS),)
