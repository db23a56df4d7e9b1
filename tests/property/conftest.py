"""The C library with its insides, for the property tests: built once a run, used through cffi.

`fastun.native._fastun` offers only what Python needs at run time. Here the headers' other functions
are declared too, from the same sources. CSRC in the environment names another copy of them.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cffi
import pytest

from fastun.native import sealing_library

if TYPE_CHECKING:
    from types import ModuleType

CSRC = Path(os.environ.get("CSRC", Path(__file__).parents[2] / "csrc")).resolve()

HEADERS = (
    "<stdbool.h>",
    '"packet/amplification.h"',
    '"packet/gro.h"',
    '"packet/gso.h"',
    '"packet/headers.h"',
    '"loop/loop.h"',
    '"shared/token.h"',
)

# The compiler fills in what `...` leaves open and checks the rest against the headers.
DECLARATIONS = """
enum wire { WIRE_SIMPLETUN, WIRE_PLAIN, WIRE_WIREGUARD, ... };
enum mode { MODE_TUN, MODE_TAP, ... };
enum message_fault {
    MESSAGE_OK, MESSAGE_NOT_IP, MESSAGE_BAD_VIRTIO, MESSAGE_TOO_LARGE, MESSAGE_NOT_OFFERED,
    MESSAGE_BAD_TYPE, ...
};
enum loop_end { LOOP_DOORBELL, LOOP_EVENT, ... };
enum event_kind { EVENT_LINK_CLOSED, EVENT_LINK_FAULT, EVENT_LINK_ERROR, ... };
struct loop_event { enum event_kind kind; uint32_t slot; uint32_t link_id; ...; };
enum stats_role {
    ROLE_tun_reader, ROLE_link_writer, ROLE_link_reader, ROLE_tun_writer, N_ROLES, ...
};
enum stats_counter { COUNTER_packets, COUNTER_frames, COUNTER_bytes, ... };
#define RING_SIZE_MIN ...
#define MESSAGE_HEADROOM ...
#define MESSAGE_MAX ...
#define SIMPLETUN_MESSAGE_MAX ...

struct stats_block { ...; };
union stats_part { struct stats_block block; ...; };
struct stats { union stats_part parts[...]; ...; };
struct stats *stats_create(int *fd);
void stats_detach(struct stats *stats);
uint64_t stats_read_counter(struct stats *stats, unsigned role, unsigned counter);
uint64_t stats_read_drop(struct stats *stats, unsigned drop);
unsigned stats_n_drops(void);
const char *stats_drop_reason(unsigned drop);

struct ring_record {
    uint32_t space; uint32_t offset; uint32_t length; uint32_t n_packets; uint32_t n_bytes;
    uint64_t enqueued_ns; uint64_t n_before; ...;
};
struct ring_view { uint8_t *payload; uint32_t length; uint32_t n_packets; ...; };
struct waiter { ...; };
struct ring_shared { struct waiter consumer; ...; };
struct ring { struct ring_shared *shared; bool is_orphaned; uint64_t n_packets; ...; };
#define WAITER_ON_FUTEX ...
#define TOKEN_OFFERED ...
uint32_t waiter_prepare(struct waiter *waiter, uint32_t kind);
bool ring_publish_and_take(struct ring *ring, size_t n_bytes_max, struct ring *as_consumer,
                           struct stats_block *stats);
void ring_give_back(struct ring *ring, struct ring *as_consumer, struct stats_block *stats);
void ring_regain(struct ring *ring, int channel_fd);
int ring_producer_is_dead(struct ring *ring);
struct ring *ring_create(size_t size_bytes, int *fd);
struct ring *ring_attach(int fd, size_t size_bytes);
void ring_detach(struct ring *ring);
uint64_t ring_used_bytes(struct ring *ring);
struct ring_record *ring_reserve(struct ring *ring, size_t space);
void ring_commit(struct ring *ring, struct ring_record *record);
void ring_publish(struct ring *ring, struct stats_block *stats);
bool ring_has_unpublished(const struct ring *ring);
const struct ring_view *ring_peek(struct ring *ring, uint64_t *cursor, bool *corrupt);
void ring_release(struct ring *ring, uint64_t cursor, struct stats_block *stats);
void ring_discard(struct ring *ring, struct stats_block *stats);
uint64_t ring_first(const struct ring *ring);
uint64_t ring_released_packets(const struct ring *ring);
uint8_t *ring_payload(const struct ring_record *record);

struct ip_headers {
    uint32_t transport; uint8_t protocol; uint8_t n_extensions; bool is_fragment;
    bool is_later_fragment; bool is_authenticated; ...;
};
struct ip_headers ip_walk(const uint8_t *packet, size_t length);
size_t ip_packet_length(const uint8_t *packet);
const uint8_t *ip_source(const uint8_t *packet);
const uint8_t *ip_destination(const uint8_t *packet);
size_t ethernet_find_ip(const uint8_t *frame, size_t length);

struct vnet {
    uint8_t flags; uint8_t gso_type; uint16_t hdr_len; uint16_t gso_size; uint16_t csum_start;
    uint16_t csum_offset; uint16_t ip_start; ...;
};
struct vnet vnet_read(const uint8_t *bytes);
void vnet_write(const struct vnet *vnet, uint8_t *bytes);
int vnet_check(struct vnet *vnet, const uint8_t *frame, size_t length, size_t l3);
int vnet_check_local(struct vnet *vnet, const uint8_t *frame, size_t length, size_t l3);
bool amplifies(const struct vnet *vnet, int n_segments, const uint8_t *frame, size_t length);
bool vnet_has_many_segments(const struct vnet *vnet, size_t length);
bool vnet_complete(struct vnet *vnet, uint8_t *frame, size_t length, size_t l3);

struct gso_split { int n_segments; ...; };
int gso_split_begin(struct gso_split *split, const struct vnet *vnet, const uint8_t *frame,
                    size_t length);
size_t gso_segment_length(const struct gso_split *split, int i);
void gso_write_segment(const struct gso_split *split, int i, uint8_t *out);

struct iovec { void *iov_base; size_t iov_len; };
struct gro_group { size_t n_packets; struct iovec iov[...]; ...; };
bool gro_begin(struct gro_group *group, const uint8_t *frame, size_t length, size_t lead);
bool gro_extend(struct gro_group *group, const uint8_t *frame, size_t length);
int gro_finish(struct gro_group *group);

struct link_format {
    enum wire wire; enum mode mode; int super_outbound; int super_inbound; size_t message_max;
    ...;
};
struct message_outbound { uint8_t *start; size_t length; int n_packets; ...; };
struct message_inbound {
    struct vnet vnet; uint8_t *frame; size_t length; int n_packets; ...;
};
enum message_fault message_encapsulate(const struct link_format *format, uint8_t *vnet,
                                   size_t frame_length, struct message_outbound *outbound);
void message_prefix(struct message_outbound *outbound);
enum message_fault message_decapsulate(const struct link_format *format, uint8_t *message,
                                      size_t length, struct message_inbound *inbound);

struct peer_table { ...; };
struct peer_table *peer_table_create(int *fd);
void peer_table_detach(struct peer_table *table);

struct loop_parts {
    unsigned role;
    enum wire wire;
    enum mode mode;
    struct ring *ring;
    struct stats *stats;
    struct peer_table *peers;
    int device_fd, channel_fd, wake_fd;
    ...;
};
struct loop *loop_new(const struct loop_parts *parts);
void loop_free(struct loop *loop);
void loop_detach_link(struct loop *loop, unsigned slot);
enum loop_end loop_run(struct loop *loop);
const struct loop_event *loop_event(struct loop *loop);
int loop_attach_link(struct loop *loop, unsigned slot, uint32_t link_id, int fd,
                     const struct link_format *format);
"""


class Internals(NamedTuple):
    """The two names of a cffi module."""

    ffi: Any
    lib: Any


def _built(directory: Path) -> str:
    """Return the path of the library in ``directory``, which the first process that asks makes."""
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = directory / "made"
        if not made.exists():
            made.write_text(_build(directory), encoding="utf-8")
        return made.read_text(encoding="utf-8")


def _build(directory: Path) -> str:
    ffi = cffi.FFI()
    ffi.cdef(DECLARATIONS)
    ffi.set_source(
        "fastun_internals",
        "".join(f"#include {header}\n" for header in HEADERS),
        sources=[str(path) for path in sorted(CSRC.rglob("*.c"))],
        include_dirs=[str(CSRC)],
        libraries=["gcrypt"],  # without its faster fellow: sealing is tested elsewhere
        extra_compile_args=["-std=c11", "-O1", "-g", "-DFASTUN_BESIDE_ANOTHER"],
    )
    return str(ffi.compile(tmpdir=str(directory)))


def _loaded(shared_object: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("fastun_internals", shared_object)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def internals(tmp_path_factory: pytest.TempPathFactory) -> Internals:
    assert sealing_library()  # libgcrypt is prepared once a process: by fastun's own copy, first
    directory = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        directory = directory.parent  # that of the whole run
    directory /= "internals"
    directory.mkdir(exist_ok=True)
    module = _loaded(_built(directory))
    return Internals(module.ffi, module.lib)
