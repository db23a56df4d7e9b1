"""A connection to PostgreSQL, and what goes wrong with it as one line.

Passwords and certificates are libpq's to find: a passfile, a service file, sslcert and the like.
Nothing that it says has a password in it, and the URL has none (config/fleet.py).
"""

from __future__ import annotations

import contextlib
import functools
import logging
import select
import time
from typing import TYPE_CHECKING, Any, Final

from fastun.errors import FastunError, RuntimeFailure, one_line

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    import psycopg

#: What libpq waits for each address of the host. From then on the server ends what lasts too long.
CONNECT_LIMIT_S: Final = 5
STATEMENT_LIMIT_S: Final = 10
#: What this side waits for an answer where the server does not end it: it hangs, or a proxy does.
ANSWER_LIMIT_S: Final = STATEMENT_LIMIT_S + 5
#: A change takes milliseconds. Two hundred that come at once wait for each other.
LOCK_LIMIT_S: Final = 10

# A path that has died in the middle of a connection: noticed after some 15 s.
_DEAD_PATH: Final = {
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}

# SQLSTATEs (PostgreSQL, appendix A), or their class, and what is to be done.
_MEANT: Final = {
    "42P01": "has no tables of fastun's; 'fastun fleet prepare URL' makes them",
    "3F000": "has no tables of fastun's; 'fastun fleet prepare URL' makes them",
    "42501": "this user may not do that; GRANT it, as docs/fleet.md says",
    "25006": "is read-only, a standby; name the primary, or add ?target_session_attrs=read-write",
    "55P03": "locked by another process for too long; try again",
    "57014": "has not answered in time; try again",
    "53": "has no room left (disk, memory or connections); nothing was changed",
    "22": "damaged; restore it from a backup",
    "23": "refused by a rule of its tables; nothing was changed",
    "40": "changed by others at the same moment; try again",
    "57": "is shutting down or starting; try again",
    "25P03": "a change has waited for too long, and was undone; try again",
}

_UNCERTAIN: Final = "the answer was lost, so the change may have been made; see 'fastun peer list'"


def load() -> None:
    """Load the library, for a user who may not read where it is (as_owner.py)."""
    import psycopg.conninfo  # noqa: F401, PLC0415 (for a fleet alone)


def connect(url: str) -> psycopg.Connection[Any]:
    """Return a connection with limits of time. Raises RuntimeFailure."""
    from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415 (for a fleet alone)

    logging.getLogger("psycopg").setLevel(logging.CRITICAL)  # what it says is raised as well
    with explained(url):
        ours: dict[str, Any] = {
            "connect_timeout": CONNECT_LIMIT_S,
            "application_name": "fastun",
            **_DEAD_PATH,
        }
        given = conninfo_to_dict(url)
        connection: psycopg.Connection[Any] = _kind().connect(
            url,
            autocommit=True,
            prepare_threshold=None,  # poolers between us and the server
            **{name: value for name, value in ours.items() if name not in given},
        )
        with contextlib.ExitStack() as undo:
            undo.callback(connection.close)
            connection.execute(
                f"SET statement_timeout = '{STATEMENT_LIMIT_S}s';"
                f"SET lock_timeout = '{LOCK_LIMIT_S}s';"
                f"SET idle_in_transaction_session_timeout = '{STATEMENT_LIMIT_S}s';"
                "SET search_path = fastun;"
                # Else who has waited for a lock would see things as they were before.
                "SET default_transaction_isolation = 'read committed';"
                "SET jit = off"  # half a second, where the planner has no statistics yet
            )
            undo.pop_all()
        return connection


@functools.cache
def _kind() -> type[psycopg.Connection[Any]]:
    """Return psycopg's connections, which would wait for an answer for ever, with a limit."""
    import psycopg  # noqa: PLC0415 (for a fleet alone)

    class Limited(psycopg.Connection[Any]):
        """Its methods are generators that yield what they wait for: 1 to read, 2 to write."""

        def wait(self, gen: Generator[Any, Any, Any], *_: object, **__: object) -> Any:
            until_s = time.monotonic() + ANSWER_LIMIT_S
            try:
                events = next(gen)
                while True:
                    wanted = select.POLLIN * bool(events & 1) | select.POLLOUT * bool(events & 2)
                    poll = select.poll()
                    poll.register(self.pgconn.socket, wanted)
                    left_ms = max(0.0, until_s - time.monotonic()) * 1000
                    ready = [bits for _, bits in poll.poll(left_ms)]
                    if not ready:
                        self.close()  # what is under way there has not happened, or comes to an end
                        raise psycopg.errors.QueryCanceled
                    others = ready[0] & ~(select.POLLIN | select.POLLOUT)
                    bits = (
                        3
                        if others
                        else bool(ready[0] & select.POLLIN) | 2 * bool(ready[0] & select.POLLOUT)
                    )
                    events = gen.send(events & bits)
            except StopIteration as end:
                return end.value

    return Limited


@contextlib.contextmanager
def explained(url: str, *, is_commit: bool = False) -> Iterator[None]:
    """Turn what PostgreSQL and libpq say into one line of RuntimeFailure.

    `is_commit`: the answer that is waited for says whether a change was made.
    """
    import psycopg  # noqa: PLC0415 (for a fleet alone)

    try:
        yield
    except FastunError:
        raise
    except psycopg.Error as error:
        why = _UNCERTAIN if is_commit and _is_uncertain(error) else _explain(error)
        raise RuntimeFailure(f"{shown(url)}: {why}") from None
    except (ValueError, TypeError, IndexError, RecursionError):  # as the store in SQLite
        raise RuntimeFailure(f"{shown(url)}: damaged; restore it from a backup") from None


def shown(url: str) -> str:
    """Return the directory's name for people."""
    return f"directory {url}"


def _is_uncertain(error: psycopg.Error) -> bool:
    """Return whether the database may have done it: the connection has ended, or nothing came."""
    return (
        not error.sqlstate or error.sqlstate.startswith(("08", "57")) or error.sqlstate == "40003"
    )


def _explain(error: psycopg.Error) -> str:
    code = error.sqlstate or ""
    meant = _MEANT.get(code) or _MEANT.get(code[:2])
    if meant is not None:
        return meant
    # libpq says more in further lines: hints for people at a keyboard.
    said = one_line(str(error).strip().partition("\n")[0]) or type(error).__name__
    return f"{said}; nothing was changed" if code else f"cannot be reached: {said}"
