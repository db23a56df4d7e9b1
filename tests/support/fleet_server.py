"""What a gateway says of itself in a directory, where that alone is needed and none runs."""

from __future__ import annotations

from ipaddress import ip_interface

from fastun.peers.peer import Server

SERVER = Server(
    interface="ft0",
    run_dir="/run/fastun",
    mode="tun",
    addresses=(ip_interface("10.9.0.1/24"),),
    public_key=b"s" * 32,
    listen=(),
)
