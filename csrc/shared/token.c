#define _GNU_SOURCE
#include "shared/token.h"

#include <poll.h>

#include "shared/futex.h"

static bool change(struct waiter *consumer, uint32_t *from, uint32_t to) {
    return atomic_compare_exchange_strong(&consumer->asleep, from, to);
}

/* -- producer ---------------------------------------------------------------------------------- */

bool token_take(struct waiter *consumer) {
    /* Pairs with the fence in waiter_prepare: either the offer is seen here, or the consumer's second
     * look sees what was published. */
    atomic_thread_fence(memory_order_seq_cst);
    uint32_t word = atomic_load_explicit(&consumer->asleep, memory_order_relaxed);
    return (word & TOKEN_OFFERED) != 0 && (word & (TOKEN_HELD | TOKEN_ORPHANED)) == 0 &&
           change(consumer, &word, word | TOKEN_HELD);
}

void token_give_back(struct waiter *consumer, bool has_rest, int wake_fd,
                     struct stats_block *stats) {
    uint32_t word = atomic_load_explicit(&consumer->asleep, memory_order_relaxed);
    uint32_t kind = word & ~(uint32_t)(TOKEN_HELD | TOKEN_WANTED);
    uint32_t held = kind | TOKEN_HELD;
    if (change(consumer, &held, has_rest ? WAITER_AWAKE : kind)) {
        if (has_rest)
            waiter_end_sleep(consumer, kind, wake_fd, stats);
        return;
    }
    /* It is wanted: its owner waits for this word alone. */
    atomic_store(&consumer->asleep, WAITER_AWAKE);
    futex_wake_all(&consumer->asleep);
}

/* -- consumer ---------------------------------------------------------------------------------- */

/* The second line, as in waiter_sleep. */
static bool gateway_is_gone(int channel_fd) {
    struct pollfd channel = {.fd = channel_fd, .events = POLLIN};
    return ppoll(&channel, 1, &(struct timespec){0}, NULL) > 0 &&
           (channel.revents & (POLLHUP | POLLERR | POLLNVAL)) != 0;
}

bool token_regain(struct waiter *self, int channel_fd) {
    uint32_t word = atomic_load_explicit(&self->asleep, memory_order_acquire);
    while (word != WAITER_AWAKE) {
        if ((word & TOKEN_HELD) == 0) {
            if (change(self, &word, WAITER_AWAKE))
                return (word & TOKEN_ORPHANED) != 0;
            continue;
        }
        uint32_t wanted = word | TOKEN_WANTED;
        if (word != wanted && !change(self, &word, wanted))
            continue;
        if (futex_wait(&self->asleep, wanted, WAIT_HEARTBEAT_NS) != 0 &&
            gateway_is_gone(channel_fd))
            return true;
        word = atomic_load_explicit(&self->asleep, memory_order_acquire);
    }
    return false;
}

/* -- gateway ----------------------------------------------------------------------------------- */

bool token_orphan(struct waiter *consumer) {
    uint32_t word = atomic_load(&consumer->asleep);
    do
        if ((word & TOKEN_HELD) == 0)
            return false;
    while (!change(consumer, &word, (word & ~(uint32_t)TOKEN_HELD) | TOKEN_ORPHANED));
    futex_wake_all(&consumer->asleep);
    waiter_ring(consumer);
    return true;
}
