"""`[hooks]`, `[metrics]`, `[log]`, `[workers]`: how a gateway runs, and what others see of it."""

from typing import Annotated

from fastun.config.ranges import HOOK_TIMEOUTS_S
from fastun.config.sections.base import Section, described, one_of
from fastun.config.vocabulary import LOG_FORMATS, LOG_LEVELS

_WORDS = "a program and its arguments"


class HooksSection(Section, frozen=True):
    """`[hooks]`: a program and its arguments for each event. `timeout` of each in seconds."""

    up: Annotated[
        tuple[str, ...] | None,
        described(
            "When the device is there, with its addresses and routes, before the first packet. The"
            " gateway waits for its end.",
            values=_WORDS,
            example=["/etc/fastun/up", "eth0"],
        ),
    ] = None
    down: Annotated[
        tuple[str, ...] | None,
        described(
            "At the end, while the device is still there but no packet passes any more. Also when"
            " the gateway fails, and when `up` has failed. Not after SIGKILL.",
            values=_WORDS,
            example=["/etc/fastun/down"],
        ),
    ] = None
    peer_up: Annotated[
        tuple[str, ...] | None,
        described(
            "When a peer gets a link. One that is replaced by another, as when UDP takes over from"
            " TCP, does not count.",
            values=_WORDS,
            example=["logger", "-t", "vpn", "peer up"],
        ),
    ] = None
    peer_down: Annotated[
        tuple[str, ...] | None,
        described(
            "When a peer has no link any more; also at the end, before `down`.",
            values=_WORDS,
            example=["logger", "-t", "vpn", "peer down"],
        ),
    ] = None
    timeout: Annotated[
        float,
        described(
            "Seconds after which a hook is killed with its process group. At the end all hooks of"
            " peers together, and then `down`, have so long.",
            values="{:g}-{:g}".format(*HOOK_TIMEOUTS_S),
            example=30,
        ),
    ] = 10.0


class MetricsSection(Section, frozen=True):
    """`[metrics]`: where Prometheus scrapes."""

    listen: Annotated[
        str,
        described(
            "Address at which Prometheus scrapes the [metrics](metrics.md).",
            values="`HOST:PORT`, `off`",
            example="off",
            option="--metrics",
        ),
    ] = "127.0.0.1:10055"


class LogSection(Section, frozen=True):
    """`[log]`: what goes to stderr."""

    format: Annotated[
        str,
        described(
            "Format of the log on stderr.",
            values=one_of(LOG_FORMATS),
            example="json",
            option="--log-format",
        ),
    ] = "console"
    level: Annotated[
        str,
        described(
            "What is logged: `debug` logs debug events as well, as `--verbose`.",
            values=one_of(LOG_LEVELS),
            example="debug",
        ),
    ] = "info"


class WorkersSection(Section, frozen=True):
    """`[workers]`: how the workers of the data path share their work."""

    hand_over: Annotated[
        bool,
        described(
            "A worker that is awake does the step of one that sleeps, where only a packet or two"
            " is under way: pings, requests and responses are quicker. `false`: each does its own"
            " step only.",
            example=False,
        ),
    ] = True
    # None: on a serving side, which does not hibernate.
    secret_memory: Annotated[
        bool | None,
        described(
            "Keep the keys of sessions in memory that even the kernel does not map"
            " (`memfd_secret`, Linux 5.14; before 6.5 with `secretmem.enable=1` on the kernel's"
            " command line), so that no debugger and no bug that reads kernel memory gets at them."
            " **While such memory exists the host cannot hibernate.** `false`, or where the kernel"
            " has none: locked memory that is in no core dump.",
            unset="`true` with `serve`, `false` with `connect`",
            example=True,
        ),
    ] = None
    lanes_at_once: Annotated[
        bool,
        described(
            "A client's connections in all `lanes` are made at the start; on UDP load alone opens"
            " them. `false`: a further lane is opened when those in use have enough to do and a"
            " core of this host has nothing: lanes that share cores cost more than they carry.",
            example=True,
        ),
    ] = False
