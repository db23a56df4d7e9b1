/* A link's queue beside a naive one, and at its bounds. */
#include <string.h>

#include "check.h"
#include "loop/link_queue.h"
#include "random.h"

enum { LENGTH_MAX = 70000, MODEL_MAX = 1 << 17, N_STEPS = 60000, IOV_MAX_TAKEN = 40 };

/* Entries by number: length and bytes follow from it. */
struct model {
    uint32_t lengths[MODEL_MAX];
    size_t first, last; /* numbers; last is the next to be appended */
    size_t n_sent;      /* of the first */
};

static uint8_t bytes[LENGTH_MAX];
static struct model model;
static struct link_queue queue;
static struct queue_pool pool = {.max = LINK_QUEUE_ROOM};

static uint8_t content(size_t number, size_t i) {
    return (uint8_t)(number * 37 + i);
}

static void append(size_t length, bool *is_full) {
    struct queue_entry entry = {.length = (uint32_t)length,
                                .n_packets = (uint32_t)model.last,
                                .n_bytes = (uint32_t)model.last + 1};
    for (size_t i = 0; i < length; i++)
        bytes[i] = content(model.last, i);
    *is_full = !link_queue_append(&queue, &entry, bytes);
    if (!*is_full)
        model.lengths[model.last++] = (uint32_t)length;
}

/* The room that the header file promises: each entry costs its length, a header, and 15 at most. */
static size_t least_used(void) {
    size_t n = 0;
    for (size_t i = model.first; i < model.last; i++)
        n += sizeof(struct queue_entry) + model.lengths[i] + 15;
    return n;
}

/* Gathers, checks every byte and returns how many there are. */
static size_t gather(int n_max) {
    struct iovec iov[IOV_MAX_TAKEN];
    int n = link_queue_gather(&queue, iov, n_max);
    size_t n_entries = model.last - model.first, n_bytes = 0, skip = model.n_sent;
    CHECK_EQUAL(n, n_entries < (size_t)n_max ? n_entries : (size_t)n_max);
    for (int i = 0; i < n; i++, skip = 0) {
        size_t number = model.first + (size_t)i;
        const uint8_t *base = iov[i].iov_base;
        CHECK_EQUAL(iov[i].iov_len, model.lengths[number] - skip);
        for (size_t at = 0; at < iov[i].iov_len; at += 1 + iov[i].iov_len / 64)
            CHECK_EQUAL(base[at], content(number, skip + at));
        CHECK_EQUAL(base[iov[i].iov_len - 1], content(number, model.lengths[number] - 1));
        n_bytes += iov[i].iov_len;
    }
    return n_bytes;
}

static void check_entry(const struct queue_entry *entry) {
    CHECK_EQUAL(entry->length, model.lengths[model.first]);
    CHECK_EQUAL(entry->n_packets, (uint32_t)model.first);
    CHECK_EQUAL(entry->n_bytes, (uint32_t)model.first + 1);
}

static void settle(size_t n) {
    struct queue_entry entry;
    model.n_sent += n;
    while (model.first < model.last && model.n_sent >= model.lengths[model.first]) {
        CHECK(link_queue_consume(&queue, n, &entry));
        check_entry(&entry);
        model.n_sent -= model.lengths[model.first++];
        n = 0;
    }
    CHECK(!link_queue_consume(&queue, n, &entry));
}

static void take(void) {
    struct queue_entry entry;
    bool is_there = link_queue_pop(&queue, &entry);
    CHECK_EQUAL(is_there, model.first < model.last);
    if (!is_there)
        return;
    check_entry(&entry);
    model.first++;
    model.n_sent = 0;
}

static void open_queue(void) {
    memset(&model, 0, sizeof model);
    CHECK_EQUAL(link_queue_init(&queue, &pool), 0);
    CHECK(link_queue_is_empty(&queue));
}

static void whatever_is_done_to_it_it_is_a_list_of_entries(void) {
    struct random random = {31};
    size_t n_full = 0;
    open_queue();
    for (int step = 0; step < N_STEPS; step++) {
        bool is_full = false, grows = step / 2000 % 2 == 0;
        size_t what = random_below(&random, 16);
        if (what < (grows ? 13u : 3u)) {
            size_t bound = random_below(&random, 4) == 0 ? LENGTH_MAX : 1500;
            append(1 + random_below(&random, bound), &is_full);
            n_full += is_full;
            if (is_full) /* only where there is indeed no room */
                CHECK(least_used() + sizeof(struct queue_entry) + LENGTH_MAX + 15 >
                      LINK_QUEUE_BYTES);
        } else if (what < 15) {
            size_t n_bytes = gather(1 + (int)random_below(&random, grows ? 4 : IOV_MAX_TAKEN));
            settle(random_below(&random, 3) == 0 ? n_bytes : random_below(&random, n_bytes + 1));
        } else if (random_below(&random, 8) == 0) {
            take();
        }
        CHECK_EQUAL(link_queue_is_empty(&queue), model.first == model.last);
        CHECK(queue.end <= LINK_QUEUE_ROOM);
    }
    CHECK(n_full > 100); /* it was full, and went on */
    link_queue_free(&queue);
}

static void it_holds_up_to_its_last_byte_and_nothing_more(void) {
    bool is_full;
    open_queue();
    size_t entry = LINK_QUEUE_BYTES / 32;
    for (int i = 0; i < 32; i++) {
        append(entry - sizeof(struct queue_entry), &is_full);
        CHECK(!is_full);
    }
    append(1, &is_full);
    CHECK(is_full);
    settle(10); /* a part of an entry gives no room back */
    append(1, &is_full);
    CHECK(is_full);
    settle(entry - sizeof(struct queue_entry) - 10);
    append(entry - sizeof(struct queue_entry), &is_full);
    CHECK(!is_full);
    while (model.first < model.last)
        settle(gather(IOV_MAX_TAKEN));
    CHECK(link_queue_is_empty(&queue));
    link_queue_free(&queue);
}

/* -- what queues have in common ---------------------------------------------------------------- */

enum { ENTRY = 4096 - sizeof(struct queue_entry), POOL = 256 * 4096 };

static const uint64_t S = 1000000000;

/* Entries of a page each. Returns how many there was room for. */
static size_t fill_up(struct link_queue *filled, size_t n_max) {
    const struct queue_entry entry = {.length = ENTRY, .n_packets = 3};
    size_t n = 0;
    while (n < n_max && link_queue_append(filled, &entry, bytes))
        n++;
    return n;
}

static void take_all(struct link_queue *emptied) {
    struct queue_entry entry;
    while (link_queue_pop(emptied, &entry))
        ;
}

static void what_goes_beyond_a_share_comes_from_one_pool_and_goes_back(void) {
    struct queue_pool common = {.max = POOL};
    struct link_queue first, second;
    const size_t share = LINK_QUEUE_SHARE / 4096;
    CHECK_EQUAL(link_queue_init(&first, &common), 0);
    CHECK_EQUAL(link_queue_init(&second, &common), 0);
    CHECK_EQUAL(fill_up(&first, SIZE_MAX), share + 256);
    CHECK_EQUAL(fill_up(&second, SIZE_MAX), share);
    CHECK_EQUAL(common.n_used, POOL);
    for (size_t n = 1; n < share; n++) { /* what is left is moved once there is room for it twice */
        struct queue_entry entry;
        CHECK(link_queue_pop(&second, &entry));
        CHECK_EQUAL(fill_up(&second, 1), n >= share - n);
        if (n >= share - n)
            break;
    }
    CHECK_EQUAL(link_queue_pooled(&first), POOL);
    CHECK_EQUAL(common.n_queues, 1);
    CHECK(!link_queue_is_owed(&first, ENTRY));
    CHECK(link_queue_is_owed(&second, ENTRY));
    CHECK_EQUAL(link_queue_cut(&first), 3 * (share + 256));
    CHECK_EQUAL(common.n_used, 0);
    CHECK_EQUAL(common.n_queues, 0);
    CHECK(link_queue_is_empty(&first));
    take_all(&second);
    CHECK_EQUAL(fill_up(&second, share + 128), share + 128);
    CHECK_EQUAL(fill_up(&first, share + 128), share + 128);
    CHECK_EQUAL(common.n_queues, 2);
    CHECK(!link_queue_is_owed(&second, ENTRY)); /* each has half */
    link_queue_free(&first);
    CHECK_EQUAL(common.n_used, POOL / 2);
    link_queue_free(&second);
    CHECK_EQUAL(common.n_used, 0);
    CHECK_EQUAL(common.n_queues, 0);
}

static void a_queue_that_is_empty_gives_its_part_back_once_a_second(void) {
    struct queue_pool common = {.max = POOL};
    struct link_queue only;
    const size_t large = LINK_QUEUE_SHARE / 4096 + 10;
    CHECK_EQUAL(link_queue_init(&only, &common), 0);
    fill_up(&only, large);
    link_queue_rest(&only, 5 * S);
    CHECK_EQUAL(common.n_used, 10 * 4096); /* it is not empty */
    take_all(&only);
    link_queue_rest(&only, 5 * S);
    CHECK_EQUAL(common.n_used, 0);
    fill_up(&only, large);
    take_all(&only);
    link_queue_rest(&only, 6 * S - 1);
    CHECK_EQUAL(common.n_used, 10 * 4096);
    link_queue_rest(&only, 6 * S);
    CHECK_EQUAL(common.n_used, 0);
    link_queue_free(&only);
}

/* Half out, or the rest of what was written from the ring: the stream needs it. */
static void what_is_half_out_stays_when_a_queue_is_cut(void) {
    struct queue_pool common = {.max = POOL};
    struct link_queue cut;
    struct queue_entry entry;
    struct queue_entry rest = {.length = ENTRY, .n_packets = 1, .is_rest = 1};
    CHECK_EQUAL(link_queue_init(&cut, &common), 0);
    fill_up(&cut, 40);
    CHECK(!link_queue_consume(&cut, 100, &entry));
    CHECK_EQUAL(link_queue_cut(&cut), 3 * 39);
    CHECK(link_queue_consume(&cut, ENTRY - 100, &entry));
    CHECK(link_queue_is_empty(&cut));
    CHECK(link_queue_append(&cut, &rest, bytes));
    fill_up(&cut, 39);
    CHECK_EQUAL(link_queue_cut(&cut), 3 * 39);
    CHECK(link_queue_pop(&cut, &entry));
    CHECK_EQUAL(entry.n_packets, 1);
    CHECK_EQUAL(link_queue_cut(&cut), 0);
    link_queue_free(&cut);
}

/* n_bytes says which entry it is. */
static bool put(struct link_queue *to, bool inserts, size_t length, uint32_t n_bytes) {
    const struct queue_entry entry = {.length = (uint32_t)length, .n_bytes = n_bytes};
    return inserts ? link_queue_insert(to, &entry, bytes) : link_queue_append(to, &entry, bytes);
}

/* What is inserted goes behind the first entry and what was inserted before, wherever that lies; the rest
 * keeps its order. */
static void what_is_inserted_goes_before_what_waits_and_keeps_its_order(void) {
    enum { FIRST = 1000000, N = 20000 };
    struct random random = {5};
    struct link_queue to = {0};
    struct queue_entry entry;
    uint32_t n_put[2] = {0}, n_got[2] = {0}, n_inserted = 0;
    CHECK_EQUAL(link_queue_init(&to, &pool), 0);
    CHECK(!put(&to, true, 100, 0)); /* there is nothing that waits */
    for (int step = 0; step < N; step++) {
        bool inserts = random_below(&random, 3) == 0;
        size_t length = 1 + random_below(&random, inserts ? 1600 : 20000);
        uint32_t *n = &n_put[inserts];
        if (put(&to, inserts, length, *n + (inserts ? FIRST : 0)))
            ++*n;
        n_inserted = n_put[1];
        for (size_t i = random_below(&random, 3); i > 0 && link_queue_pop(&to, &entry); i--) {
            bool was_inserted = entry.n_bytes >= FIRST;
            CHECK_EQUAL(entry.n_bytes - (was_inserted ? FIRST : 0), n_got[was_inserted]++);
        }
    }
    while (link_queue_pop(&to, &entry)) {
        bool was_inserted = entry.n_bytes >= FIRST;
        CHECK_EQUAL(entry.n_bytes - (was_inserted ? FIRST : 0), n_got[was_inserted]++);
    }
    CHECK(n_inserted > N / 10);
    CHECK_EQUAL(n_got[0], n_put[0]);
    CHECK_EQUAL(n_got[1], n_put[1]);
    link_queue_free(&to);
}

static void the_rest_of_a_message_stays_before_what_is_inserted(void) {
    struct link_queue to = {0};
    struct queue_entry entry;
    struct iovec iov[4];
    CHECK_EQUAL(link_queue_init(&to, &pool), 0);
    for (uint32_t i = 0; i < 3; i++)
        CHECK(put(&to, false, 1000, i));
    CHECK(link_queue_consume(&to, 1400, &entry)); /* one, and 400 bytes of the next */
    CHECK(put(&to, true, 100, 7));
    CHECK(put(&to, true, 100, 8));
    CHECK_EQUAL(link_queue_gather(&to, iov, 4), 4);
    CHECK_EQUAL(iov[0].iov_len, 600);
    CHECK_EQUAL(iov[1].iov_len, 100);
    CHECK_EQUAL(iov[3].iov_len, 1000);
    CHECK(link_queue_consume(&to, 800, &entry));
    CHECK_EQUAL(entry.n_bytes, 1);
    CHECK(link_queue_consume(&to, 0, &entry));
    CHECK_EQUAL(entry.n_bytes, 7);
    link_queue_free(&to);
}

static void freed_twice_or_never_begun_does_no_harm(void) {
    struct link_queue never = {0};
    link_queue_free(&never);
    open_queue();
    link_queue_free(&queue);
    link_queue_free(&queue);
    CHECK(link_queue_is_empty(&queue));
}

int main(void) {
    RUN(whatever_is_done_to_it_it_is_a_list_of_entries);
    RUN(it_holds_up_to_its_last_byte_and_nothing_more);
    RUN(what_goes_beyond_a_share_comes_from_one_pool_and_goes_back);
    RUN(a_queue_that_is_empty_gives_its_part_back_once_a_second);
    RUN(what_is_half_out_stays_when_a_queue_is_cut);
    RUN(what_is_inserted_goes_before_what_waits_and_keeps_its_order);
    RUN(the_rest_of_a_message_stays_before_what_is_inserted);
    RUN(freed_twice_or_never_begun_does_no_harm);
    return EXIT_SUCCESS;
}
