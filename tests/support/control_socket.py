"""The control socket of an idle gateway."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

from fastun.gateway.captures import Captures
from fastun.gateway.reload import Reloaded
from fastun.status import control
from fastun.status.capture_service import CaptureService
from fastun.status.reading import INNER_ADDRESSES_MAX
from fastun.status.reply import LastError, LinkStatus, PeerStatus, Tcp
from fastun.status.server import own_socket, serve
from tests.support.idle_gateway import have, idle_gateway, peers_named, settings_for, viewing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

INTERFACE = "unit0"


@contextlib.contextmanager
def serving(
    run_dir: Path,
    interface: str = INTERFACE,
    peer_names: Sequence[str] = ("ant", "bee"),
    reloaded: Callable[[], Reloaded] = Reloaded,
) -> Iterator[Path]:
    """Serve the socket of an idle gateway; yield the socket's path.

    When the gateway reads its peer directory again, the first peer has been removed from it.
    """
    peers = peers_named(*peer_names)
    path = control.socket_path(run_dir, interface)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        with idle_gateway(settings_for(run_dir=run_dir, interface=interface)) as gateway:
            have(gateway, *peers)
            gateway.counts.refused = 3

            def refresh() -> None:
                assert threading.current_thread() is thread, "only the event loop changes peers"
                gateway.peer_slots.replace(peers[1:])

            async def reload() -> Reloaded:
                assert threading.current_thread() is thread
                return reloaded()

            captures = Captures(gateway.lanes, gateway.peer_slots)
            with viewing(gateway) as viewer:
                context = serve(
                    own_socket(path),
                    viewer.view,
                    refresh,
                    reload,
                    partial(CaptureService, captures, "tun"),
                    drain=gateway.moves.order,
                )
                asyncio.run_coroutine_threadsafe(context.__aenter__(), loop).result(5)
                try:
                    yield path
                finally:
                    end = context.__aexit__(None, None, None)
                    asyncio.run_coroutine_threadsafe(end, loop).result(5)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def connected(name: str) -> PeerStatus:
    """A peer with everything as wide as it gets in practice."""
    return PeerStatus(
        name=name,
        inner_addresses=INNER_ADDRESSES_MAX * ["fd00:1234:5678:9abc:def0:1234:5678:9abc"],
        up=True,
        remote="[2001:db8:1234:5678:9abc:def0:1234:5678]:55555",
        since_unix_seconds=time.time() - 3599,
        last_handshake_unix_seconds=time.time() - 59,
        receive_packets=2**53,
        receive_bytes=2**53,
        transmit_packets=2**53,
        transmit_bytes=2**53,
        dropped_packets=2**53,
        link=LinkStatus(
            software="s" * 64,
            transport="tcp",
            super_packets_outbound=True,
            super_packets_inbound=True,
            tcp=Tcp(rtt_seconds=0.98765, retransmits=2**31, notsent_bytes=2**31),
        ),
        last_error=LastError(reason="old_timestamp", unix_seconds=time.time(), text="e" * 160),
    )
