"""An independent peer of the simpletun wire.

Usage: simpletun_peer.py tun|tap IFNAME server|client HOST PORT

A stream of u16 big-endian length | packet over one TCP connection, a buffer of 2000 bytes, one
select loop that blocks in every read and write, as in Davide Brini's program. Unlike that one, it
ends with code 3 and a message when a received length is 0 or does not fit the buffer.
"""

import fcntl
import os
import select
import socket
import struct
import sys

BUFFER_BYTES = 2000
TUNSETIFF, IFF_TUN, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0001, 0x0002, 0x1000


def open_device(mode: str, name: str) -> int:
    device = os.open("/dev/net/tun", os.O_RDWR)
    flags = (IFF_TUN if mode == "tun" else IFF_TAP) | IFF_NO_PI
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    return device


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
    pump(open_device(mode, name), open_link(role, host, int(port)))
