"""Mutants of the rule "logs" of SECURITY.md: an unread log blocks nobody, and no source fills it.

Left out is what no test can tell from the code: the order of the two limits of strangers matters
only to how much of the one for all a source uses up that has used up its own, and the lock to
threads that meet in a few instructions.
"""

# ruff: noqa: E501 (a table: what is replaced stands in one piece)

from __future__ import annotations

from tests.mutation.mutant import Suite, in_python

_MUTANTS = (
    *in_python(
        "log_stderr", "unit/test_log_stderr.py",
        ("who writes does not wait", "os.set_blocking(self._writer, False)", "os.set_blocking(self._writer, True)"),
        ("what others share stays blocking", "os.set_blocking(self._writer, False)", "os.set_blocking(self._writer, False); os.set_blocking(target_fd, False)"),
        ("what is dropped is counted", "        self.n_dropped_lines += n_lines\n", ""),
        ("what is dropped is said", "        self._n_unsaid += n_lines\n\n", "\n"),
        ("it is said where there is room", "if not _has_room(self._writer):", "if False:"),
        ("it is said at the end too", "if self._writer >= 0 and self._catch_up():", "if self._writer >= 0:"),
        ("the last lines are waited for", "while self._thread.is_alive() and now_s <", "while False and now_s <"),
        ("the end has a limit", "now_s < min(end_s, still_until_s):", "True:"),
        ("a standstill has one", "now_s < min(end_s, still_until_s):", "now_s < end_s + 2:"),
        ("a slow reader has more time", "                n_passed, still_until_s = self._n_passed, now_s + standstill_s\n", "                pass\n"),
        ("a thread that waits does not keep the process", 'name="log", daemon=True', 'name="log", daemon=False'),
        ("what is refused is counted", "                else:\n                    self._count(data)\n", ""),
        ("what is refused is not said into the void", "if not self._n_unsaid or self._is_failing:", "if not self._n_unsaid:"),
        ("a non-blocking stderr is waited for", "        except BlockingIOError:  # another program has made it non-blocking\n", "        except ZeroDivisionError:\n"),
        ("a short write is gone on with", "rest = rest[n_written:]", "rest = rest[len(rest) :]"),
        ("a long line goes in pieces", "range(0, len(data), _WHOLE_BYTES)", "range(0, min(len(data), _WHOLE_BYTES), _WHOLE_BYTES)"),
    ),
    *in_python(
        "log_limits", "unit/test_log_limits.py",
        ("tokens are used up", "(tokens - has_one, now_s)", "(tokens, now_s)"),
        ("tokens come back", "tokens + (now_s - since_s) / self._limit.interval_s", "tokens"),
        ("no more of them than a burst", "tokens = min(burst, tokens + (now_s - since_s) / self._limit.interval_s)", "tokens = tokens + (now_s - since_s) / self._limit.interval_s"),
        ("what is remembered is bounded", "if len(self._by_key) > SOURCES_MAX:", "if False:"),
        ("the oldest is forgotten", "self._by_key.popitem(last=False)", "self._by_key.popitem(last=True)"),
        ("who is in use is not", "tokens, since_s = self._by_key.pop(key, (burst, now_s))", "tokens, since_s = self._by_key.get(key, (burst, now_s))"),
        ("each peer has its own", "self._of_peers.take((name, peer), now_s)", "self._of_peers.take(name, now_s)"),
        ("each event has its own", "self._of_peers.take((name, peer), now_s)", "self._of_peers.take(peer, now_s)"),
        ("each stranger has its own", "source = (name, source_of(str(remote)))", "source = name"),
        ("a source that is named is one", ' or _remote_of(event.get("source")):', ":"),
        ("a stranger is an address, not a port", "source = (name, source_of(str(remote)))", "source = (name, remote)"),
        ("all strangers have one together", " and self._of_events.take(name, now_s)", ""),
        ("an event without a source has a limit", "        return self._of_events.take(name, now_s)\n\n", "        return True\n\n"),
        ("an IPv6 source is a /64", "address.packed[:8].hex()", "address.packed.hex()"),
        ("a mapped address is IPv4's", "mapped = address.ipv4_mapped", "mapped = None"),
        ("what is held back is counted", "            self.n_held_back += 1\n", ""),
        ("what is held back is not written", "        raise structlog.DropEvent\n", "        return event\n"),
        ("it is said after a while", "if at_end or now_s - held.since_s >= SAY_AFTER_S", "if True"),
        ("it is said at the end", "if at_end or now_s - held.since_s >= SAY_AFTER_S", "if now_s - held.since_s >= SAY_AFTER_S"),
        ("it is said once", "due = [self._held_back.pop(name) for name in names]", "due = [self._held_back[name] for name in names]"),
        ("what is said of it is not held back", 'if _MORE in event or event.get("component") == OWN_COMPONENT:', "if False:"),
    ),
    *in_python(
        "log", "unit/test_log_limits.py unit/test_log_stderr.py",
        ("events keep to the limits", "            _limits,\n", ""),
        ("a value is bounded", "if isinstance(value, str) and len(value) > _VALUE_CHARACTERS_MAX:", "if False:"),
        ("libraries' words are events", "        logging.root.addHandler(_OfLibraries(logging.WARNING))\n", "        pass\n"),
        ("tracebacks do not wait either", "    sys.stderr = io.TextIOWrapper(", "    _ = io.TextIOWrapper("),
        ("the last lines are written", "    atexit.register(end)\n", ""),
        ("workers write to the same place", "    if _unblocked is not None:\n        return _unblocked.fileno()\n", ""),
        ("without a stderr workers have none", "return subprocess.DEVNULL if sys.stderr is None else None", "return None"),
    ),
)  # fmt: skip

SUITES: tuple[Suite, ...] = (
    Suite(
        name="logs",
        tests=("tests/unit/test_log_limits.py", "tests/unit/test_log_stderr.py"),
        mutants=_MUTANTS,
    ),
)
