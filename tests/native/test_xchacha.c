/* XChaCha20-Poly1305 by what others have published, and by what may not change it. */
#define _GNU_SOURCE
#include "check.h"
#include "session/xchacha.h"

enum { TEXT_MAX = 256 };

static size_t from_hex(const char *hex, uint8_t *bytes) {
    size_t length = strlen(hex) / 2;
    for (size_t i = 0; i < length; i++) {
        unsigned byte = 0;
        CHECK_EQUAL(sscanf(hex + 2 * i, "%2x", &byte), 1);
        bytes[i] = (uint8_t)byte;
    }
    return length;
}

/* C2SP Wycheproof, testvectors_v1/xchacha20_poly1305_test.json (Apache License 2.0), by their
 * number; all of them, and their source, stand with Python's tests. The first is the draft's. */
static const struct vector {
    unsigned number;
    const char *key, *nonce, *associated, *text, *sealed, *tag;
} vectors[] = {
    {1, "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
     "404142434445464748494a4b4c4d4e4f5051525354555657", "50515253c0c1c2c3c4c5c6c7",
     "4c616469657320616e642047656e746c656d656e206f662074686520636c617373206f6620273939"
     "3a204966204920636f756c64206f6666657220796f75206f6e6c79206f6e652074697020666f7220"
     "746865206675747572652c2073756e73637265656e20776f756c642062652069742e",
     "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa644"
     "0bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e"
     "3f3fac2bc369488f76b2383565d3fff921f9664c97637da9768812f615c68b13b52e",
     "c0875924c1c7987947deafd8780acf49"},
    {2, "ab1562faea9f47af3ae1c3d6d030e3af230255dff3df583ced6fbbcbf9d606a9",
     "6a5e0c4617e07091b605a4de2c02dde117de2ebd53b23497", "", "", "",
     "e2697ea6877aba39d9555a00e14db041"},
    {9, "b720aea3df85fb3fb00583eddbebc5c545bcdcb7f6f2a94c1087950e16d68278",
     "1436f36466fce5db337a73ec18e269e6e985d91035128183", "9d53316bd2aa3e3d", "4799c4", "d41c02",
     "8faa889d7f189cd9473e19200ef03920"},
    {34, "6a1f808358461e75072a054e2fc4e4c3e7f882c57920dda3278d0c860ca704e3",
     "25dc279923c1bcdaa7a36e7b884b51f62343abad71986037", "", "f242209c67698ea32c2152f8785b7d82",
     "732715c60018fb0ed55c14c1fa9a5273", "afe3c4f050bf001e1dfcb2313dd8edd2"},
    {35, "7fb18b56f3f5122585754a3b6c6a4e523036e66793db569c3e8e28032e916eb6",
     "c02c8c595064ac303b1be5df6ab43048856e97ae9962fb8f", "8981c7260d514ab6",
     "6e8c0bb3361908f5b33e059408651ae3", "a7eb11bfaa0d1c2ce457598049399575",
     "485a94f61aa5f47a3036e85a57effd2f"},
    {124, "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
     "000102030405060708090a0b0c0d0e0f1011121314151617", "00000000000000000000000000000000",
     "60e28a8f89adf230daab792c94dfebe766eda542d7c092d97ccb7501486fc6a31ec9568c72a76229"
     "6f76685b29a5f903cb0198722ad071bde29b48a62d367f3b1e90919140f50187df7df42caa372875"
     "38c16d481265de62bbf98c235d595c824575acd33c51e271f13844673cb5dafd249dbd394b866c34"
     "aecd42c57f2630e5",
     "00000000000000000000000000000000000000000000000000000000000000000000000000000000"
     "00000000000000000000000000000000000000000000000000000000000000000000000000000000"
     "00000000000000000000000000000000000000000000000000000000000000000000000000000000"
     "0000000000000000",
     "70b88b3bf88b8f11f7513545b8dbfa63"},
};

static void published_vectors_are_met(void) {
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        const struct vector *vector = &vectors[i];
        uint8_t key[AEAD_KEY_SIZE], nonce[XCHACHA_NONCE], associated[TEXT_MAX];
        uint8_t text[TEXT_MAX + AEAD_TAG_SIZE], sealed[TEXT_MAX + AEAD_TAG_SIZE];
        CHECK_EQUAL(from_hex(vector->key, key), AEAD_KEY_SIZE);
        CHECK_EQUAL(from_hex(vector->nonce, nonce), XCHACHA_NONCE);
        size_t associated_length = from_hex(vector->associated, associated);
        size_t length = from_hex(vector->text, text);
        CHECK_EQUAL(from_hex(vector->sealed, sealed), length);
        CHECK_EQUAL(from_hex(vector->tag, sealed + length), AEAD_TAG_SIZE);
        struct xchacha_key *made = xchacha_key_new(key);
        CHECK_EQUAL(xchacha_seal(made, nonce, associated, associated_length, text, length), 0);
        CHECK_EQUAL(memcmp(text, sealed, length + AEAD_TAG_SIZE), 0);
        xchacha_key_free(made);
    }
}

static void a_key_is_not_spoilt_by_its_use(void) {
    const uint8_t nonces[3][XCHACHA_NONCE] = {{2}, {9}, {2}};
    uint8_t texts[3][32 + AEAD_TAG_SIZE] = {{0}};
    struct xchacha_key *key = xchacha_key_new((uint8_t[AEAD_KEY_SIZE]){1});
    for (size_t i = 0; i < 3; i++)
        CHECK_EQUAL(xchacha_seal(key, nonces[i], nonces[i], i % 2, texts[i], 32), 0);
    CHECK_EQUAL(memcmp(texts[0], texts[2], sizeof texts[0]), 0);
    CHECK(memcmp(texts[0], texts[1], sizeof texts[0]) != 0);
    xchacha_key_free(key);
}

static void every_byte_of_the_nonce_counts(void) {
    uint8_t plain[16 + AEAD_TAG_SIZE] = {0}, zeros[XCHACHA_NONCE] = {0};
    struct xchacha_key *key = xchacha_key_new((uint8_t[AEAD_KEY_SIZE]){1});
    CHECK_EQUAL(xchacha_seal(key, zeros, NULL, 0, plain, 16), 0);
    for (size_t i = 0; i < XCHACHA_NONCE; i++) {
        uint8_t nonce[XCHACHA_NONCE] = {0}, text[16 + AEAD_TAG_SIZE] = {0};
        nonce[i] = 1;
        CHECK_EQUAL(xchacha_seal(key, nonce, NULL, 0, text, 16), 0);
        CHECK(memcmp(text, plain, 16) != 0);
    }
    xchacha_key_free(key);
}

int main(void) {
    RUN(published_vectors_are_met);
    RUN(a_key_is_not_spoilt_by_its_use);
    RUN(every_byte_of_the_nonce_counts);
    return EXIT_SUCCESS;
}
