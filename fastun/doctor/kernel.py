"""What ``fastun doctor`` looks at of the kernel, the processor and the libraries."""

from __future__ import annotations

import os
import platform
import re
import resource
import socket
import stat
import subprocess
import sys
from pathlib import Path

from fastun.doctor import gcrypt
from fastun.doctor.finding import PROC, Finding, Subject, capabilities, finding

TUN_DEVICE = Path("/dev/net/tun")

_CAP_NET_ADMIN, _CAP_SYS_RESOURCE = 12, 24  # linux/capability.h
_UDP_SEGMENT, _UDP_GRO = 103, 104  # linux/udp.h

# csrc/session/aead_gcrypt.c refuses older ones.
GCRYPT_VERSION_MIN = "1.9.0"
# A wheel brings its own; it is what the extension module is linked with.
_BROUGHT = sorted((Path(__file__).parents[2] / "fastun.libs").glob("libgcrypt-*.so*"))
_GCRYPT_LIBRARY = str(_BROUGHT[0]) if _BROUGHT else "libgcrypt.so.20"
_GCRY_CIPHER_CHACHA20 = 316  # gcrypt.h

# Of all workers the link-reader locks most: while keys change, up to four sessions a peer
# (N_RECEIVING_KEYS, csrc/session/key_table.h) with a key for each of two ciphers. Keys of all peers
# share mappings (csrc/session/secret_memory.c), so this is what one of many takes; with libgcrypt a
# key has a handle besides. UDP adds the keys of mac1 and of cookies, a mapping for each size; as
# measured by VmLck.
_BYTES_A_PEER = {"intel-ipsec-mb": 5632}
_GCRYPT_BYTES_A_PEER = 16 * 1024
LOCKED_BYTES_ON_UDP = 96 * 1024

Version = tuple[int, int, int]

# From, to, what is wrong, and the fix. What the probe finds by itself counts for more.
_FAULTY_KERNELS: tuple[tuple[Version, Version, str, str], ...] = (
    (
        (0, 0, 0),
        (5, 11, 999),
        "merges datagrams on UDP wrongly",
        "use Linux 5.12 or later, or set udp_offload = false in [interface]",
    ),
    *(
        (
            first,
            last,
            "can refuse valid super-packets",
            "update the kernel, or set gso = false in [interface]",
        )
        for first, last in (((6, 6, 44), (6, 6, 46)), ((6, 10, 3), (6, 10, 5)))
    ),
    (
        (7, 0, 0),
        (7, 1, 4),
        "corrupts super-packets of UDP with some network drivers",
        "update to Linux 7.1.5, or set udp_offload = false in [interface]",
    ),
)


def tun_device(_: Subject) -> Finding:
    """Check that the TUN driver exists and can be opened."""
    try:
        if not stat.S_ISCHR(TUN_DEVICE.stat().st_mode):
            return finding("FAIL", f"{TUN_DEVICE} is not a device", "mknod it: c 10 200, mode 0666")
        os.close(os.open(TUN_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        fix = "modprobe tun; in a container, pass the device in"
        return finding("FAIL", f"{TUN_DEVICE} is missing", fix)
    except OSError as error:
        fix = "run as root; in a container, allow the device (c 10:200 rwm)"
        return finding("FAIL", f"cannot open {TUN_DEVICE} ({error.strerror})", fix)
    return finding("ok", f"{TUN_DEVICE} can be opened")


def net_admin(_: Subject) -> Finding:
    """Check the capability that makes devices, addresses and routes."""
    if capabilities() >> _CAP_NET_ADMIN & 1:
        return finding("ok", "this process may create devices and routes")
    fix = "run as root, or with AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW in the service"
    return finding("FAIL", "this process may not create devices and routes", fix)


def kernel(_: Subject) -> Finding:
    """Check the version against those with known faults."""
    release = platform.release()
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", release)
    if match is None:
        return finding("unknown", f"cannot parse the version of Linux, {release!r}")
    version = (int(match[1]), int(match[2]), int(match[3] or 0))
    for first, last, fault, fix in _FAULTY_KERNELS:
        if first <= version <= last:
            return finding("warn", f"Linux {release} {fault}", fix)
    return finding("ok", f"Linux {release}, no known faults")


def super_packets(subject: Subject) -> Finding:
    """Check which super-packets a TUN device passes to us."""
    match subject.probe.offload:
        case None:
            return finding("unknown", subject.probe.failure)
        case "none":
            return finding("warn", "the kernel does not pass super-packets", "use a newer kernel")
        case "tcp":
            message = "the kernel passes super-packets of TCP only"
            return finding("warn", message, "use Linux 6.2 or later for those of UDP")
    return finding("ok", "the kernel passes super-packets of TCP and UDP")


def super_packet_writes(subject: Subject) -> Finding:
    """Check that super-packets written to a TUN device arrive."""
    probe = subject.probe
    if probe.tcp_write is None:
        return finding("unknown", probe.failure)
    for name, wrong in (("TCP", probe.tcp_write), ("UDP", probe.udp_write)):
        if wrong:
            fix = "update the kernel, or set gso = false in [interface]"
            return finding("FAIL", f"a super-packet of {name} written to a TUN: {wrong}", fix)
    return finding("ok", "super-packets written to a TUN device arrive")


def udp_offload(subject: Subject) -> Finding:
    """Check that UDP sockets can segment and merge, and that segments arrive intact."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for name, option in (("UDP_SEGMENT", _UDP_SEGMENT), ("UDP_GRO", _UDP_GRO)):
            try:
                probe.setsockopt(socket.IPPROTO_UDP, option, 1)
            except OSError:
                fix = "optional: a newer kernel makes links over udp faster"
                return finding("warn", f"UDP sockets have no {name}", fix)
    if wrong := subject.probe.udp_cut:
        fix = "update the kernel, or set udp_offload = false in [interface]"
        return finding("FAIL", f"a buffer of datagrams sent with UDP_SEGMENT: {wrong}", fix)
    tried = "" if subject.probe.udp_cut is None else "; segmented datagrams arrive intact"
    return finding("ok", f"UDP sockets have UDP_SEGMENT and UDP_GRO{tried}")


def cipher(subject: Subject) -> Finding:
    """Report which cipher will be used."""
    from fastun import native  # noqa: PLC0415 (it may not load: that is a finding)

    library = subject.sealing_library
    implementation = f"; implementation: {library}" if library else ""
    if native.has_aes_instructions():
        message = "AES-256-GCM where both ends have AES instructions, else ChaCha20-Poly1305"
    else:
        message = "ChaCha20-Poly1305: the processor has no AES instructions"
    return finding("ok", message + implementation)


def libgcrypt(_: Subject) -> Finding:
    """Check the library that encrypts."""
    # fmt: off
    asked = subprocess.run(
        [sys.executable, "-I", "-m", "fastun.doctor.gcrypt",
         _GCRYPT_LIBRARY, GCRYPT_VERSION_MIN, str(_GCRY_CIPHER_CHACHA20)],
        capture_output=True, text=True, check=False,
    )
    # fmt: on
    if asked.returncode == gcrypt.MISSING:
        fix = "install it (Debian: libgcrypt20)"
        return finding("FAIL", f"{_GCRYPT_LIBRARY} is not installed", fix)
    version, is_new, has_chacha = asked.stdout.split()
    if is_new == "0":
        fix = f"update it to {GCRYPT_VERSION_MIN} or later"
        return finding("FAIL", f"libgcrypt {version} is too old", fix)
    if has_chacha == "0":
        fix = "turn FIPS mode off; the encrypted wire needs that cipher"
        return finding("FAIL", f"libgcrypt {version} refuses ChaCha20-Poly1305", fix)
    return finding("ok", f"libgcrypt {version}" + (", of this package" if _BROUGHT else ""))


def locked_memory(subject: Subject) -> Finding:
    """Check that the keys of all peers can be kept from being swapped out."""
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    # With the capability, workers raise the limit before they give all capabilities up.
    if limit == resource.RLIM_INFINITY or capabilities() >> _CAP_SYS_RESOURCE & 1:
        return finding("ok", "no limit: keys are never swapped out")
    n_enough = max(0, limit - LOCKED_BYTES_ON_UDP) // locked_bytes_a_peer(subject.sealing_library)
    n_peers = max(1, len(subject.peers_known()))
    message = f"{limit // 1024} KiB: enough for the keys of {n_enough:,} connected peers"
    if n_enough >= n_peers:
        return finding("ok", message)
    fix = "raise it: ulimit -l, or LimitMEMLOCK=infinity in the service"
    if (PROC / "swaps").read_text(encoding="ascii").count("\n") <= 1:
        return finding("ok", f"{message}, of {n_peers:,}; there is no swap")
    return finding("warn", f"{message}, of {n_peers:,}; keys of the others may be swapped out", fix)


def locked_bytes_a_peer(library: str) -> int:
    """Return how much memory the link-reader locks for a peer at most, in bytes."""
    return _BYTES_A_PEER.get(library, _GCRYPT_BYTES_A_PEER)


def open_files(subject: Subject) -> Finding:
    """Check that all peers can be connected over TCP at once: a descriptor each."""
    from fastun import descriptors  # noqa: PLC0415 (it may not load: that is a finding)

    n_enough, n_peers = descriptors.peers_at_once(), max(1, len(subject.peers_known()))
    message = f"enough for {n_enough:,} connected peers over tcp"
    if n_enough >= n_peers:
        return finding("ok", message)
    most = descriptors.WANTED
    fix = f"raise the hard limit: ulimit -Hn {most}, or LimitNOFILE={most} in the service"
    return finding("warn", f"{message}, of {n_peers:,}", fix)
