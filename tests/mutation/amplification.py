"""Mutants of the rule "amplification" of SECURITY.md, and of what a consumer and a cipher believe.

Left out is what no test can tell from the code, because another check says the same:

- seal_ipsec_mb.c: that each of the three calls of ChaCha20-Poly1305 was done. The second is asked
  for with no text, the first and third with no nonce and no tag; that the opening ones were done,
  too: their tag is zeros then, which is nobody's.
- ring.c: that a header is read as volatile, since the compiler reads it once anyway.
"""

# ruff: noqa: E501 (a table: what is replaced stands in one piece)

from __future__ import annotations

from tests.mutation.mutant import Suite, in_c
from tests.mutation.testing import run_native

_MUTANTS = (
    *in_c(
        "amplification", "test_amplification",
        ("what grows too much is refused", "bytes_on_wire(vnet, (size_t)n_segments, length) > AMPLIFICATION_MAX * length", "false"),
        ("what grows as much as it may passes", "length) > AMPLIFICATION_MAX * length", "length) >= AMPLIFICATION_MAX * length"),
        ("extension headers are refused", "return has_extension_headers(vnet, frame) ||\n          ", "return"),
        ("IPv4 options are no extension headers", "frame[vnet->ip_start] >> 4 == 6 && ", ""),
        ("IP begins behind VLAN tags", "vnet->csum_start != vnet->ip_start + IPV6_HEADER", "vnet->csum_start != IPV6_HEADER"),
        ("each segment has its headers", "n_segments * (vnet->hdr_len + (size_t)AMPLIFICATION_OVERHEAD)", "vnet->hdr_len + n_segments * (size_t)AMPLIFICATION_OVERHEAD"),
        ("each segment has what stands around it", "(vnet->hdr_len + (size_t)AMPLIFICATION_OVERHEAD)", "(size_t)vnet->hdr_len"),
        ("the payload counts", " + payload;", ";\n    (void)payload;"),
    ),
    *in_c(
        "message", "test_amplification test_outbound test_message",
        ("a super-packet from the network is looked at", "return is_super && amplifies(&inbound->vnet, inbound->n_packets, frame, length)", "return false"),
        ("a packet alone is not", "return is_super && amplifies(", "return amplifies("),
        ("the sender asks what the receiver will", " &&\n           !amplifies(vnet, n_packets, frame, frame_length);", ";"),
        ("the sender's own kernel is checked before", "return n_packets > 0 && format->super_outbound &&", "return format->super_outbound &&"),
    ),
    *in_c(
        "inbound", "test_sealed_reader test_link_reader",
        ("what amplifies has its reason", "    case MESSAGE_AMPLIFIES:\n        return DROP_link_reader_amplifies;\n", ""),
    ),
    *in_c(
        "splitting", "test_outbound",
        ("what is left is for the link that it was cut for", " || (loop->wire == WIRE_WIREGUARD && link->id != loop->splitting->link_id);", ";"),
        ("on the other wires any link will do", "(loop->wire == WIRE_WIREGUARD && link->id != loop->splitting->link_id)", "(link->id != loop->splitting->link_id)"),
        ("the link is remembered", "    splitting->link_id = link->id;\n", ""),
    ),
    *in_c(
        "ring", "test_ring_corrupt test_ring",
        ("a batch's views are valid together", "ring->next_view++ % RING_VIEWS_MAX", "ring->next_view++ % (RING_VIEWS_MAX - 1)"),
        ("a view has the record's length", ".length = record->length,", ".length = record->space,"),
        ("a record's header is checked", "if (!is_sound(ring, &record, ring->peer - *cursor)) {", "if (record.space == 0) {"),
    ),
    *in_c(
        "seal_ipsec_mb", "test_seal",
        ("what AES refuses is not sealed", "                           tag, SEAL_TAG);\n        done = is_done();", "                           tag, SEAL_TAG);\n        done = true;"),
        ("what ChaCha20 refuses is not sealed", "    done = done && is_done();\n    IMB_CHACHA20_POLY1305_ENC_FINALIZE", "    IMB_CHACHA20_POLY1305_ENC_FINALIZE"),
        ("what is refused is told", "return done ? 0 : -EINVAL;", "return 0;"),
        ("what is not refused is not", "return imb_get_errno(manager) == 0;", "return imb_get_errno(manager) != 0;"),
    ),
)  # fmt: skip

SUITES: tuple[Suite, ...] = (
    Suite(
        name="amplification",
        tests=("test_amplification", "test_outbound", "test_message"),
        mutants=_MUTANTS,
        run=run_native,
    ),
)
