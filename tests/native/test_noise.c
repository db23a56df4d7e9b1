/* A handshake's state and its secrets, in C alone: fastun/session has its vectors. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>

#include "check.h"
#include "keys.h"
#include "session/aead.h"
#include "session/dh.h"
#include "session/hash.h"

static const char name[] = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";

static struct noise *begin(void) {
    struct noise *noise = noise_new((const uint8_t *)name, sizeof name - 1);
    CHECK(noise != NULL);
    return noise;
}

/* The step's result takes the state's place. */
static void step(struct noise **noise, struct noise *next) {
    CHECK(next != NULL);
    noise_free(*noise);
    *noise = next;
}

static void test_both_sides_come_to_the_same_keys(void) {
    struct secret *ours = secret_new_private(), *theirs = secret_new_private();
    uint8_t our_public[DH_SIZE], their_public[DH_SIZE], sealed[4 + AEAD_TAG_SIZE], text[4];
    CHECK_EQUAL(dh_public_key(secret_bytes(ours), our_public), 0);
    CHECK_EQUAL(dh_public_key(secret_bytes(theirs), their_public), 0);
    struct noise *one = begin(), *other = begin();
    step(&one, noise_mix_dh(one, secret_bytes(ours), their_public));
    step(&other, noise_mix_dh(other, secret_bytes(theirs), our_public));
    step(&one, noise_mix_key_and_hash(one, secret_bytes(ours)));
    step(&other, noise_mix_key_and_hash(other, secret_bytes(ours)));
    step(&one, noise_encrypt(one, (const uint8_t *)"text", 4, sealed));
    step(&other, noise_decrypt(other, sealed, sizeof sealed, text));
    CHECK(memcmp(text, "text", 4) == 0);
    for (unsigned direction = 0; direction < 2; direction++) {
        struct secret *a = noise_split(one, direction), *b = noise_split(other, direction);
        struct secret *turned = noise_split(other, 1 - direction);
        CHECK(secret_is_equal(a, b) && !secret_is_equal(a, turned));
        secret_free(a);
        secret_free(b);
        secret_free(turned);
    }
    CHECK(noise_split(one, 2) == NULL);
    noise_free(one);
    noise_free(other);
    secret_free(ours);
    secret_free(theirs);
}

static void test_what_is_refused_leaves_the_state_as_it_was(void) {
    static const uint8_t low_order[DH_SIZE] = {1};
    struct secret *private = secret_new_private();
    struct noise *noise = begin();
    uint8_t before[HASH_SIZE], after[HASH_SIZE], sealed[4 + AEAD_TAG_SIZE], text[4];
    step(&noise, noise_mix_key(noise, (const uint8_t *)"key", 3));
    noise_hash(noise, before);
    CHECK(noise_mix_dh(noise, secret_bytes(private), low_order) == NULL && errno == EDOM);
    struct noise *next = noise_encrypt(noise, (const uint8_t *)"text", 4, sealed);
    CHECK(next != NULL);
    sealed[0] ^= 1;
    memset(text, 0xff, sizeof text);
    CHECK(noise_decrypt(noise, sealed, sizeof sealed, text) == NULL && errno == EBADMSG);
    CHECK(text[0] == 0 && text[3] == 0);
    CHECK(noise_decrypt(noise, sealed, AEAD_TAG_SIZE - 1, text) == NULL && errno == EBADMSG);
    noise_hash(noise, after);
    CHECK(memcmp(before, after, sizeof before) == 0);
    noise_hash(next, after);
    CHECK(memcmp(before, after, sizeof before) != 0);
    noise_free(next);
    noise_free(noise);
    secret_free(private);
}

static void test_a_secret_seals_and_opens_by_either_cipher(void) {
    static const uint8_t bytes[AEAD_KEY_SIZE] = {1, 2, 3};
    struct secret *secret = secret_new(bytes);
    for (int aead = AEAD_CHACHA20_POLY1305; aead <= AEAD_AES_256_GCM; aead++) {
        uint8_t sealed[5 + AEAD_TAG_SIZE], text[5];
        CHECK_EQUAL(secret_seal(secret, (enum aead)aead, 7, (const uint8_t *)"hello", 5, sealed),
                    sizeof sealed);
        CHECK_EQUAL(secret_open(secret, (enum aead)aead, 7, sealed, sizeof sealed, text), 5);
        CHECK(memcmp(text, "hello", 5) == 0);
        CHECK_EQUAL(secret_open(secret, (enum aead)aead, 8, sealed, sizeof sealed, text), -EBADMSG);
    }
    uint8_t sealed[AEAD_TAG_SIZE];
    CHECK_EQUAL(secret_seal(secret, (enum aead)7, 0, sealed, 0, sealed), -EINVAL);
    secret_free(secret);
}

/* The first two of three keys are the same as without the third. */
static void test_more_keys_of_a_kdf_begin_with_the_fewer(void) {
    static const uint8_t salt[HASH_SIZE] = {5};
    uint8_t keys[3 * HASH_SIZE], fewer[2 * HASH_SIZE];
    CHECK_EQUAL(kdf_make(salt, (const uint8_t *)"x", 1, 3, keys), 0);
    CHECK_EQUAL(kdf_make(salt, (const uint8_t *)"x", 1, 2, fewer), 0);
    CHECK(memcmp(keys, fewer, sizeof fewer) == 0);
    CHECK(memcmp(keys, keys + HASH_SIZE, HASH_SIZE) != 0);
}

int main(void) {
    RUN(test_both_sides_come_to_the_same_keys);
    RUN(test_what_is_refused_leaves_the_state_as_it_was);
    RUN(test_a_secret_seals_and_opens_by_either_cipher);
    RUN(test_more_keys_of_a_kdf_begin_with_the_fewer);
    return 0;
}
