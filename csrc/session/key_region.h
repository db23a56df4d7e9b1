/* key_region: the keys of a lane's sessions, where a worker and its successors find them.
 *
 *   gateway                          workers
 *   key_region_put()  -- a place, a generation, by the channel -->  key_area_read()
 *   key_region_wipe()
 *
 * Two areas, each memory of its own: the sending keys, which only the tun-reader maps, and the
 * receiving keys, which only the link-reader maps, both read-only. The gateway alone writes. A key
 * is the session's directional key; what each cipher needs of it is derived in the worker
 * (session_key.h). A message names a key by place and generation and never carries it, so none is
 * left in the buffer of a channel.
 *
 * A session has one place, the same in both areas, from the moment it is put until it is wiped: in
 * Python, for as long as its SessionKeys are referred to. A successor of a killed worker is sent the
 * same names again (KeyInstaller) and finds the same keys.
 *
 * The generation of a place is 0 while the place is empty or being written, so a
 * half-written key is never used, and no two keys of a region have the same generation, so a name
 * that is out of date finds nothing. (Order: a writer sets 0, release fence, key, release store of
 * the generation; a reader loads the generation with acquire, copies, acquire fence, looks again.)
 *
 * The memory is memfd_secret's where that is wanted and the kernel has it (Linux 5.14): then not even
 * the kernel maps it, and it cannot be read by /proc/PID/mem, process_vm_readv or a debugger. While
 * such memory exists the kernel refuses to hibernate. Otherwise it is a memfd, locked as far as
 * RLIMIT_MEMLOCK allows and in no core dump. Either goes with the last process that maps it.
 *
 * The gateway's functions are for one thread. key_area_read() is for any process.
 */
#ifndef FASTUN_SESSION_KEY_REGION_H
#define FASTUN_SESSION_KEY_REGION_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>

#include "keys.h"
#include "session/aead.h"
#include "shared/peer_table.h"

/* A peer has up to seven sessions at once: on UDP one each that we began and that it began, the
 * present and the last one; on a stream the one that is being made, the next and the present one. */
enum { N_KEY_PLACES = 8 * N_PEER_SLOTS };

struct key_entry {
    alignas(64) _Atomic uint64_t generation;
    uint8_t key[AEAD_KEY_SIZE];
};

struct key_area {
    struct key_entry entries[N_KEY_PLACES];
};

/* Copies the key to `key`, which is the caller's to wipe. -ENOENT: it is not there any more. */
int key_area_read(const struct key_area *area, const struct key_name *name,
                  uint8_t key[AEAD_KEY_SIZE]);

#endif
