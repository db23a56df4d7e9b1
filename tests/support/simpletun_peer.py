"""An independent peer of the simpletun wire.

Usage: simpletun_peer.py tun|tap IFNAME server|client HOST PORT

A stream of u16 big-endian length | packet over one TCP connection, a buffer of 2000 bytes, one
select loop that blocks in every read and write, as in Davide Brini's program. Unlike that one, it
ends with code 3 and a message when a received length is 0 or does not fit the buffer. It goes to
the network when somebody has set its device up, which that one expects to be done before it starts.
"""

import fcntl
import os
import select
import socket
import struct
import sys
import time
from pathlib import Path

BUFFER_BYTES = 2000
TUNSETIFF, IFF_TUN, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0001, 0x0002, 0x1000
IFF_UP = 0x1


def open_device(mode: str, name: str) -> int:
    device = os.open("/dev/net/tun", os.O_RDWR)
    flags = (IFF_TUN if mode == "tun" else IFF_TAP) | IFF_NO_PI
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    return device


def wait_until_up(name: str) -> None:
    """A write to a device that is not up is an error."""
    while not int(Path(f"/sys/class/net/{name}/flags").read_text(), 16) & IFF_UP:
        time.sleep(0.02)


def open_link(role: str, host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if role == "server":
        link = socket.create_server((host, port), family=family).accept()[0]
    else:
        link = socket.create_connection((host, port))
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return link


def pump(device: int, link: socket.socket) -> None:
    while True:
        ready, _, _ = select.select([device, link], [], [])
        if device in ready:
            packet = os.read(device, BUFFER_BYTES)
            link.sendall(struct.pack("!H", len(packet)) + packet)
        if link in ready:
            length_bytes = link.recv(2, socket.MSG_WAITALL)
            if not length_bytes:
                return
            (length,) = struct.unpack("!H", length_bytes)
            if not 0 < length <= BUFFER_BYTES:
                sys.stderr.write(f"received length {length}\n")
                sys.exit(3)
            os.write(device, link.recv(length, socket.MSG_WAITALL))


if __name__ == "__main__":
    mode, name, role, host, port = sys.argv[1:]
    device = open_device(mode, name)
    wait_until_up(name)
    pump(device, open_link(role, host, int(port)))
