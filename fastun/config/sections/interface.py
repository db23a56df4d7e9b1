"""`[interface]`: the device, what goes through it, and this side's key."""

from typing import Annotated

from fastun.config.ranges import MARK_MAX, MTU, PORT_MAX
from fastun.config.sections.base import Int, Secret, Section, described, one_of
from fastun.config.vocabulary import ACCEPTABLE, MODES, WIRES
from fastun.native import LANES_MAX


class InterfaceSection(Section, frozen=True):
    """`[interface]`: the device, what goes through it, and this side's key. `mtu` in bytes.

    None is for what has a default that depends on other fields. The path of a key file is relative
    to the file that names it. `dns` has addresses of servers and domains to search.
    """

    name: Annotated[
        str,
        described(
            "Name of the device. Two gateways on one host need different names, metrics addresses"
            " and state directories.",
            values="1 to 15 bytes",
            example="tun7",
            option="--interface",
        ),
    ] = "fastun0"
    mode: Annotated[
        str,
        described(
            "Carry IP packets (TUN) or Ethernet frames (TAP). Both ends need the same.",
            values=one_of(MODES),
            example="tap",
            option="--mode",
        ),
    ] = "tun"
    address: Annotated[
        tuple[str, ...],
        described(
            "Addresses of the device, with prefix length. A length of 1 makes no route, one of 0"
            " is refused. `serve` on the wireguard wire defaults to 10.55.0.1/24.",
            example=["10.9.0.1/24", "fd00:9::1/64"],
            option="--address",
        ),
    ] = ()
    mtu: Annotated[
        Int | None,
        described(
            "MTU of the device, in bytes. At least 1280 with an IPv6 address; at most 2000 on the"
            " simpletun wire (TAP: 1982).",
            values=f"{MTU[0]}-{MTU[-1]}",
            unset="1420 where a link can be UDP, else 1500; TAP: 1500",
            example=1380,
            option="--mtu",
        ),
    ] = None
    lanes: Annotated[
        str | Int,
        described(
            "Device queues, each with its own four workers. The peers of a server are spread"
            " over them; one that has several lanes as well has a connection in each, or on UDP a"
            " session and a source port, as soon as there is load for it"
            " (`workers.lanes_at_once`)."
            " `auto`: half as many as this machine has cores, 1 below 4 cores. A TAP device and the"
            " unsealed wires have one.",
            values=f"1-{LANES_MAX}, `auto`",
            example="auto",
            option="--lanes",
        ),
    ] = 1
    wire: Annotated[
        str,
        described(
            "Protocol on the link: wireguard is encrypted, plain is fastun unencrypted, simpletun"
            " talks to the original program. The last two need `--insecure`: anyone on the path can"
            " read and inject packets.",
            values=one_of(WIRES),
            example="plain",
            option="--wire",
        ),
    ] = "wireguard"
    gso: Annotated[
        bool,
        described(
            "Use super-packets. `false` passes packets one by one, for kernels that corrupt"
            " super-packets.",
            example=False,
        ),
    ] = True
    udp_offload: Annotated[
        bool,
        described(
            "Use UDP_SEGMENT and UDP_GRO on the outer sockets. `false` sends and receives datagrams"
            " one by one, for drivers that corrupt them.",
            example=False,
        ),
    ] = True
    mss_clamp: Annotated[
        bool,
        described(
            "Lower the MSS of TCP connections inside to the MTU. For paths on which the answers"
            ' "too big" get lost.',
            example=True,
        ),
    ] = False
    listen_port: Annotated[
        Int | None,
        described(
            "Local UDP port of `connect`; 0 for any. `serve` uses `listen.udp`.",
            values=f"0-{PORT_MAX}",
            unset="any",
            example=51820,
        ),
    ] = None
    fwmark: Annotated[
        Int,
        described(
            "Firewall mark of every outer packet. 0: none, or a free one from 51820 up where a"
            " route may come to contain an endpoint.",
            values=f"0-{MARK_MAX}",
            example=51820,
        ),
    ] = 0
    table: Annotated[
        str | Int | None,
        described(
            "Routing of the peers' `allowed_ips`. `\"off\"`: only the device's own networks and"
            ' pushed routes. `"auto"`: all of them; a default route, and any other that contains'
            " an endpoint, in a table of its own, with rules that keep the tunnel's own packets out"
            " of it. A number, or a name in `/etc/iproute2/rt_tables`: all of them in that table."
            ' `"all"`: only `connect`, as `--all`. TAP: `"off"` only.',
            values=f"{one_of(('off', 'auto', 'all'))}, a name, or 1-{MARK_MAX} except 253 and 255",
            unset='`"off"`; in wg-quick files `"auto"`',
            example="auto",
        ),
    ] = None
    strong_host: Annotated[
        bool | str,
        described(
            "Drop packets for the device's addresses that arrive on another interface."
            ' `"auto"`: if the device has a default route, for each IP version that this host does'
            " not forward.",
            values="`true`, `false`, `auto`",
            example=True,
        ),
    ] = "auto"
    allow_lan: Annotated[
        bool,
        described(
            "With `--all` or `--kill-switch`: reach the LAN's private addresses directly. Only"
            " `connect`, where"
            " [everything goes through the tunnel](#everything-through-the-tunnel), or with a kill"
            " switch.",
            example=True,
            option="--allow-lan",
        ),
    ] = False
    kill_switch: Annotated[
        bool,
        described(
            "Let nothing leave this host outside the tunnel, until `fastun disconnect`. From the"
            " start on, also while fastun is not running. Only `connect`. See"
            " [kill switch](operations.md#kill-switch).",
            example=True,
            option="--kill-switch",
        ),
    ] = False
    bridge: Annotated[
        str | None,
        described(
            "TAP: the bridge that the device is a port of. It joins when the bridge is there, and"
            " again when others remove it or make the bridge anew. The host's addresses belong on"
            " the bridge, so `address` is refused beside it.",
            example="br0",
        ),
    ] = None
    dns: Annotated[
        tuple[str, ...],
        described(
            "Only `connect`: DNS servers, and domains to search or for [split DNS](#dns), while"
            " connected. A link-local server may have a zone.",
            example=["10.9.0.1", "example.net"],
        ),
    ] = ()
    private_key: Annotated[
        Secret | None,
        described(
            "This side's private key, as `fastun keygen` prints it. Without it `serve` uses, or"
            " creates, `private.key` in the state directory; so does `connect`.",
            values="base64 of 32 bytes",
            example="PRIVATE KEY",
        ),
    ] = None
    private_key_file: Annotated[
        str | None,
        described(
            "File with the private key, relative to this file; instead of `private_key`."
            " `$CREDENTIALS_DIRECTORY/NAME` is the credential NAME of a"
            " [service](guide/service.md).",
            example="private.key",
        ),
    ] = None
    accept: Annotated[
        tuple[str, ...] | None,
        described(
            "Only `connect`: what to apply of the pushed settings; see [below](#accept).",
            values=one_of(ACCEPTABLE),
            unset="what this file does not set, without `default` and `dns`",
            example=["routes", "dns"],
        ),
    ] = None
