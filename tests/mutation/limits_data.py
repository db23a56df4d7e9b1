"""Mutants of the rule "Limits" of SECURITY.md, in the data path."""

# ruff: noqa: E501 (a table: what is replaced stands in one piece)

from __future__ import annotations

from tests.mutation.mutant import Suite, in_c, in_python
from tests.mutation.testing import run_native

_NATIVE = (
    *in_c(
        "answer_limit", "test_answer_limit",
        ("each kind has its own limits of a sender", "of_sender = (uint64_t)kind | (uint64_t)(packet", "of_sender = (uint64_t)(packet"),
        ("each kind has its own limits of an origin", "{hash(limit, from, (uint64_t)kind), ANSWERS_PER_ORIGIN},", "{hash(limit, from, 0), ANSWERS_PER_ORIGIN},"),
        ("a sender has a limit whatever peers it chooses", "        {hash(limit, sender, of_sender), ANSWERS_PER_SENDER},\n", "        {hash(limit, sender, of_sender), 100000},\n"),
        ("each kind has its own limit of all", "limit->all_full_at_ns[kind]", "limit->all_full_at_ns[0]"),
        ("senders towards another peer have their own", "of_peer = (uint64_t)slot << SHIFT_SLOT;", "of_peer = (uint64_t)0 * slot;"),
        ("an IPv4 sender is its address", "be32_read(packet + 12)", "be32_read(packet + 16)"),
        ("an IPv6 sender is its network", "le64_read(packet + 8)", "le64_read(packet + 16)"),
        ("each sender has its limit", "        if (!has_token(limit->full_at_ns[i][levels[i].bucket], now_ns, levels[i].per_second))\n            return false;\n", "            (void)has_token;\n"),
        ("other origins have their own", "from = (uint64_t)(origin + 1)", "from = 0"),
        ("all together have a limit", "    if (!token_take(&limit->all_full_at_ns[kind], now_ns, ANSWERS_PER_SECOND, ANSWERS_BURST))\n        return false;\n", ""),
        ("what is answered is counted", "        token_take(&limit->full_at_ns[i][levels[i].bucket], now_ns, levels[i].per_second,\n                   levels[i].per_second);\n", "        (void)levels;\n"),
        ("who is not answered takes nothing", "    return token_take(&full_at_ns, now_ns, per_second, per_second);", "    return token_take(&full_at_ns, now_ns, per_second, 2 * per_second);"),
    ),
    *in_c(
        "outbound", "test_path_mtu test_tun_reader",
        ("too big is not unreachable", "answer(loop, ANSWER_TOO_BIG, slot, packet", "answer(loop, ANSWER_NO_SESSION, slot, packet"),
        ("who is not told is counted apart", "is_told ? DROP_tun_reader_too_big : DROP_tun_reader_too_big_unanswered", "DROP_tun_reader_too_big"),
        ("the gateway sees the blocks", "        peer_set(&loop->peers->slots[slot].sealed_blocks, link->sending->n_blocks);\n", ""),
    ),
    *in_c(
        "session", "test_tun_reader",
        ("AES's blocks have a limit", "sending->aead != AEAD_AES_256_GCM ||", "true ||"),
        ("one longest message before it", "AES_BLOCKS_MAX - count_blocks(MESSAGE_MAX)", "AES_BLOCKS_MAX"),
        ("blocks are counted", "        sending->n_blocks += count_blocks(message->length);\n", "        sending->n_blocks += 0;\n"),
        ("the tag's blocks count", "/ AES_BLOCK + 2;", "/ AES_BLOCK;"),
        ("ChaCha's do not", "    if (sending->aead == AEAD_AES_256_GCM)\n        sending", "    if (true)\n        sending"),
    ),
    *in_c(
        "loop", "test_tun_reader",
        ("the same key told again keeps its blocks", "        n_blocks = link->sending->n_blocks;\n", ""),
        ("the last key's blocks are not the new one's", "    peer_set(&loop->peers->slots[slot].sealed_blocks, n_blocks);\n", ""),
    ),
    *in_c(
        "inbound", "test_datagram_reader",
        ("a reply to nothing of ours is dropped", "        if (slot < 0)\n            return drop(loop, DROP_link_reader_cookie_unasked, length);\n", "        slot = slot < 0 ? 0 : slot;\n"),
        ("an initiation's reply passes", "        if (loop->awaited_index[slot] == index)\n            return slot;\n", "        (void)slot;\n"),
        ("nobody waits for index 0", "index != 0 && slot < N_PEER_SLOTS", "slot < N_PEER_SLOTS"),
        ("a response's reply passes", "    if (key != NULL && !key->is_confirmed)\n        return (int)key->slot;\n", "    (void)key;\n"),
        ("a confirmed key waits for none", "key != NULL && !key->is_confirmed", "key != NULL"),
        ("a peer's replies have a limit", "!token_take(&loop->replies_full_at_ns[slot]", "!token_take(&(uint64_t){0}"),
        ("and it is the peer's", "&loop->replies_full_at_ns[slot]", "&loop->replies_full_at_ns[0]"),
    ),
    *in_c(
        "link_queue", "test_link_queue test_queue_memory",
        ("the pool has an end", " || n_more > queue->pool->max - queue->pool->n_used)", ")"),
        ("what is used is counted", "    queue->pool->n_used += n_more;\n", ""),
        ("who uses it is counted", "    queue->pool->n_queues += n_more > 0 && beyond_share(queue->n_paged) == 0;\n", "    queue->pool->n_queues += n_more > 0;\n"),
        ("pages go back", "    madvise(queue->memory + LINK_QUEUE_SHARE, n_pooled, MADV_DONTNEED);\n", ""),
        ("no byte is moved twice", "if (queue->start < held || !grow", "if (!grow"),
        ("an equal part is owed", "queue->pool->max / n_queues;", "queue->pool->max;"),
        ("once a second", "        now_ns < queue->returned_ns + LINK_QUEUE_RETURN_MS * 1000000ull)", "        false)"),
        ("only an empty queue rests", "if (!link_queue_is_empty(queue) || beyond_share", "if (beyond_share"),
        ("what is half out stays", "queue->n_sent > 0 || ", ""),
        ("a rest stays", " || entry_at(queue, place)->is_rest", ""),
        ("a queue that goes gives all back", "        shrink(queue);\n        munmap", "        munmap"),
    ),
    *in_c(
        "link_writer", "test_queue_memory",
        ("the longest makes way", "    return link_queue_is_owed(queue, entry->length) && cut_longest(loop, slot) &&\n", "    return false && cut_longest(loop, slot) &&\n"),
        ("what it held is counted", "    link_writer_dropped(loop, longest, DROP_link_writer_link_full, (uint32_t)n_packets);\n", "    (void)n_packets;\n"),
        ("an empty queue rests", "    link_queue_rest(&link->queue, now_ns);\n", ""),
        ("a rest is marked", "        .is_rest = n_sent > 0,\n", ""),
    ),
)  # fmt: skip

_PYTHON = (
    *in_python(
        "session/timers", "unit/session/test_timers.py",
        ("blocks have a limit", " or not has_blocks", ""),
        ("the limit is exact", "n_blocks < self.constants.rekey_after_blocks", "n_blocks <= self.constants.rekey_after_blocks"),
        ("the last session's blocks are not the new one's", "age_s < self.constants.rekey_timeout_s or (", "False or ("),
    ),
    *in_python(
        "link/observer", "unit/link/test_observer.py",
        ("the timers hear of blocks", "on_data_sent(at_s, counter, n_blocks)", "on_data_sent(at_s, counter)"),
    ),
    *in_python(
        "link/stream_sessions", "unit/link/test_stream_sessions.py",
        ("the key comes before the connection", "        self._installer.add_receiving(greeted.member.slot, keys, counter=greeted.n_opened)\n        link = self._links.attach_stream(greeted, connection, remote)\n", "        link = self._links.attach_stream(greeted, connection, remote)\n        self._installer.add_receiving(greeted.member.slot, keys, counter=greeted.n_opened)\n"),
    ),
    *in_python(
        "link/greeting", "unit/link/test_stream_sessions.py",
        ("keys are handed on once", "keys, self.keys = self.keys, None", "keys = self.keys"),
    ),
    *in_python(
        "link/correspondents", "unit/link/test_datagram_handshakes.py",
        ("the link-reader knows our initiations", '        self._lane.send("link-reader", awaited)\n', ""),
    ),
)  # fmt: skip

SUITES: tuple[Suite, ...] = (
    Suite("limits-data-native", ("test_path_mtu",), _NATIVE, run_native),
    Suite("limits-data-python", ("tests/unit/link/test_finding.py",), _PYTHON),
)
