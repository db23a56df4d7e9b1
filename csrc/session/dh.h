/* dh: X25519 (RFC 7748), the product straight into secret memory. keys.h has the rest. */
#ifndef FASTUN_SESSION_DH_H
#define FASTUN_SESSION_DH_H

#include <stdint.h>

#include "keys.h"

enum { DH_SIZE = 32 };

/* -EDOM: the product is zero (RFC 7748 section 6.1). `shared` is the caller's to wipe. */
int dh_make(const uint8_t private_key[DH_SIZE], const uint8_t public_key[DH_SIZE],
            uint8_t shared[DH_SIZE]);

#endif
