/* futex: the system call, on a word that processes share; so FUTEX_PRIVATE_FLAG must not be set. */
#ifndef FASTUN_SHARED_FUTEX_H
#define FASTUN_SHARED_FUTEX_H

#include <stdatomic.h>
#include <stdint.h>

void futex_wake_all(_Atomic uint32_t *word);
/* Sleeps while the word is `seen`, for `timeout_ns` at most. 0: it was woken; else -1, with errno
 * ETIMEDOUT, EAGAIN (the word is another) or EINTR. */
long futex_wait(_Atomic uint32_t *word, uint32_t seen, uint64_t timeout_ns);

#endif
