#define _GNU_SOURCE
#include "session/dh.h"

#include <errno.h>
#include <gcrypt.h>

#include "session/aead.h"

typedef int x25519(uint8_t *shared, const uint8_t *private_key, const uint8_t *public_key);

static int by_gcrypt(uint8_t *shared, const uint8_t *private_key, const uint8_t *public_key) {
    return gcry_ecc_mul_point(GCRY_ECC_CURVE25519, shared, private_key, public_key) == 0 ? 0 : -1;
}

static x25519 *multiply = by_gcrypt;

void dh_use(uintptr_t function) {
    /* dlsym's way: ISO C has no other from a number to a function. */
    multiply = function == 0 ? by_gcrypt : (x25519 *)function;
}

int dh_make(const uint8_t private_key[DH_SIZE], const uint8_t public_key[DH_SIZE],
            uint8_t shared[DH_SIZE]) {
    uint8_t any = 0;
    int error = aead_init();
    if (error < 0)
        return error;
    /* A library that refuses a zero product by itself may leave it unwritten. */
    if (multiply(shared, private_key, public_key) != 0)
        return -EDOM;
    for (int i = 0; i < DH_SIZE; i++)
        any |= shared[i];
    return any == 0 ? -EDOM : 0;
}

int dh_public_key(const uint8_t private_key[DH_SIZE], uint8_t public_key[DH_SIZE]) {
    static const uint8_t base[DH_SIZE] = {9};
    return dh_make(private_key, base, public_key);
}
