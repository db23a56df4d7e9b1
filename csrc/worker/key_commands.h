/* key_commands: a worker's keys, once they are known; keys.h has what names them. For tests too, which
 * have no region. */
#ifndef FASTUN_WORKER_KEY_COMMANDS_H
#define FASTUN_WORKER_KEY_COMMANDS_H

#include "keys.h"
#include "session/aead.h"

/* loop_set_sending_key and loop_add_receiving_key with the cipher's own key, the caller's to wipe. */
int key_use_for_sending(struct loop *loop, unsigned slot, enum aead aead,
                        const uint8_t key[AEAD_KEY_SIZE], uint32_t receiver_index,
                        const struct counter_source *source, uint64_t expires_ns);
int key_add_for_receiving(struct loop *loop, unsigned slot, enum aead aead,
                          const uint8_t key[AEAD_KEY_SIZE], uint32_t index, uint64_t counter,
                          uint64_t expires_ns);

#endif
