/* seal_libraries: what one message costs to seal and to open, by library and cipher.
 *
 *     cc -O2 -o seal_libraries seal_libraries.c -lgcrypt -lcrypto -lIPSec_MB
 *     ./seal_libraries [ROUNDS]
 *
 * As the tunnel does it: one context per key and direction, per message only a new nonce; sealing
 * in place, opening from one buffer into another. In every round each library takes its turn at
 * each size, so that a busy machine slows all of them alike; the figure is the median over the
 * rounds of this process's CPU time a message. Before anything is timed the libraries must have
 * agreed on every byte.
 */
#define _GNU_SOURCE
#include <gcrypt.h>
#include <intel-ipsec-mb.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { KEY = 32, NONCE = 12, TAG = 16, SIZE_MAX_BYTES = 65536, ROUNDS_MAX = 1000 };
enum { BYTES_A_TURN = 4 << 20, MESSAGES_A_TURN = 20000 };
enum cipher { CHACHA20_POLY1305, AES_256_GCM, N_CIPHERS };
enum operation { SEAL, OPEN, N_OPERATIONS };

static const char *cipher_names[] = {"ChaCha20-Poly1305", "AES-256-GCM"};
static const char *operation_names[] = {"seal", "open"};
static const size_t sizes[] = {64, 1436, 65536};
enum { N_SIZES = sizeof sizes / sizeof sizes[0] };

static const uint8_t key[KEY] = {1, 2, 3};
static uint8_t text[SIZE_MAX_BYTES + TAG], opened[SIZE_MAX_BYTES];

static void require(int condition, const char *what) {
    if (!condition) {
        fprintf(stderr, "seal_libraries: %s failed\n", what);
        exit(EXIT_FAILURE);
    }
}

static void nonce_write(uint8_t nonce[NONCE], uint64_t counter) {
    memset(nonce, 0, 4);
    memcpy(nonce + 4, &counter, sizeof counter);
}

/* -- libgcrypt --------------------------------------------------------------------------------- */

static gcry_cipher_hd_t gcrypt_contexts[N_CIPHERS];

static void gcrypt_prepare(void) {
    static const int algorithms[] = {GCRY_CIPHER_CHACHA20, GCRY_CIPHER_AES256};
    static const int modes[] = {GCRY_CIPHER_MODE_POLY1305, GCRY_CIPHER_MODE_GCM};
    require(gcry_check_version("1.8.0") != NULL, "gcry_check_version");
    gcry_control(GCRYCTL_DISABLE_SECMEM, 0);
    gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
    for (int cipher = 0; cipher < N_CIPHERS; cipher++) {
        require(gcry_cipher_open(&gcrypt_contexts[cipher], algorithms[cipher], modes[cipher], 0) ==
                        0 &&
                    gcry_cipher_setkey(gcrypt_contexts[cipher], key, KEY) == 0,
                "gcry_cipher_open");
    }
}

static void gcrypt_seal(enum cipher cipher, uint64_t counter, size_t length) {
    gcry_cipher_hd_t context = gcrypt_contexts[cipher];
    uint8_t nonce[NONCE];
    nonce_write(nonce, counter);
    require(gcry_cipher_setiv(context, nonce, NONCE) == 0 &&
                gcry_cipher_encrypt(context, text, length, NULL, 0) == 0 &&
                gcry_cipher_gettag(context, text + length, TAG) == 0,
            "libgcrypt's seal");
}

static void gcrypt_open(enum cipher cipher, uint64_t counter, size_t length) {
    gcry_cipher_hd_t context = gcrypt_contexts[cipher];
    uint8_t nonce[NONCE];
    nonce_write(nonce, counter);
    require(gcry_cipher_setiv(context, nonce, NONCE) == 0 &&
                gcry_cipher_decrypt(context, opened, length, text, length) == 0 &&
                gcry_cipher_checktag(context, text + length, TAG) == 0,
            "libgcrypt's open");
}

/* -- OpenSSL ----------------------------------------------------------------------------------- */

static EVP_CIPHER_CTX *evp_contexts[N_CIPHERS][N_OPERATIONS];

static void evp_prepare(void) {
    EVP_CIPHER *ciphers[] = {EVP_CIPHER_fetch(NULL, "ChaCha20-Poly1305", NULL),
                             EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL)};
    for (int cipher = 0; cipher < N_CIPHERS; cipher++) {
        for (int operation = 0; operation < N_OPERATIONS; operation++) {
            EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
            evp_contexts[cipher][operation] = context;
            require(EVP_CipherInit_ex2(context, ciphers[cipher], key, NULL, operation == SEAL,
                                       NULL) == 1,
                    "EVP_CipherInit_ex2");
        }
    }
}

static void evp_seal(enum cipher cipher, uint64_t counter, size_t length) {
    EVP_CIPHER_CTX *context = evp_contexts[cipher][SEAL];
    uint8_t nonce[NONCE];
    int n;
    nonce_write(nonce, counter);
    require(EVP_CipherInit_ex2(context, NULL, NULL, nonce, -1, NULL) == 1 &&
                EVP_EncryptUpdate(context, text, &n, text, (int)length) == 1 &&
                EVP_EncryptFinal_ex(context, text + n, &n) == 1 &&
                EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, TAG, text + length) == 1,
            "OpenSSL's seal");
}

static void evp_open(enum cipher cipher, uint64_t counter, size_t length) {
    EVP_CIPHER_CTX *context = evp_contexts[cipher][OPEN];
    uint8_t nonce[NONCE];
    int n;
    nonce_write(nonce, counter);
    require(EVP_CipherInit_ex2(context, NULL, NULL, nonce, -1, NULL) == 1 &&
                EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, TAG, text + length) == 1 &&
                EVP_DecryptUpdate(context, opened, &n, text, (int)length) == 1 &&
                EVP_DecryptFinal_ex(context, opened + n, &n) == 1,
            "OpenSSL's open");
}

/* -- intel-ipsec-mb ---------------------------------------------------------------------------- */

static IMB_MGR *manager;
static _Alignas(64) struct gcm_key_data schedule;

static void ipsec_mb_prepare(void) {
    manager = alloc_mb_mgr(0);
    require(manager != NULL, "alloc_mb_mgr");
    init_mb_mgr_auto(manager, NULL);
    IMB_AES256_GCM_PRE(manager, key, &schedule);
}

static void ipsec_mb_seal(enum cipher cipher, uint64_t counter, size_t length) {
    struct gcm_context_data aes;
    struct chacha20_poly1305_context_data chacha;
    uint8_t nonce[NONCE];
    nonce_write(nonce, counter);
    if (cipher == AES_256_GCM) {
        IMB_AES256_GCM_ENC(manager, &schedule, &aes, text, text, length, nonce, NULL, 0,
                           text + length, TAG);
        return;
    }
    IMB_CHACHA20_POLY1305_INIT(manager, key, &chacha, nonce, NULL, 0);
    IMB_CHACHA20_POLY1305_ENC_UPDATE(manager, key, &chacha, text, text, length);
    IMB_CHACHA20_POLY1305_ENC_FINALIZE(manager, &chacha, text + length, TAG);
}

static void ipsec_mb_open(enum cipher cipher, uint64_t counter, size_t length) {
    struct gcm_context_data aes;
    struct chacha20_poly1305_context_data chacha;
    uint8_t nonce[NONCE], tag[TAG];
    nonce_write(nonce, counter);
    if (cipher == AES_256_GCM) {
        IMB_AES256_GCM_DEC(manager, &schedule, &aes, opened, text, length, nonce, NULL, 0, tag,
                           TAG);
    } else {
        IMB_CHACHA20_POLY1305_INIT(manager, key, &chacha, nonce, NULL, 0);
        IMB_CHACHA20_POLY1305_DEC_UPDATE(manager, key, &chacha, opened, text, length);
        IMB_CHACHA20_POLY1305_DEC_FINALIZE(manager, &chacha, tag, TAG);
    }
    require(memcmp(tag, text + length, TAG) == 0, "intel-ipsec-mb's open");
}

/* -- measuring --------------------------------------------------------------------------------- */

typedef void work(enum cipher cipher, uint64_t counter, size_t length);

static const struct {
    const char *name;
    work *work[N_OPERATIONS];
} libraries[] = {
    {"libgcrypt", {gcrypt_seal, gcrypt_open}},
    {"OpenSSL EVP", {evp_seal, evp_open}},
    {"intel-ipsec-mb", {ipsec_mb_seal, ipsec_mb_open}},
};
enum { N_LIBRARIES = sizeof libraries / sizeof libraries[0] };

static double figures[N_CIPHERS][N_OPERATIONS][N_SIZES][N_LIBRARIES][ROUNDS_MAX];

/* What one library sealed the next opens, to the same text. */
static void check_agreement(enum cipher cipher, size_t length) {
    static uint8_t original[SIZE_MAX_BYTES];
    for (int sealer = 0; sealer < N_LIBRARIES; sealer++) {
        for (size_t i = 0; i < length; i++)
            original[i] = text[i] = (uint8_t)(i * 7 + length);
        libraries[sealer].work[SEAL](cipher, length, length);
        memset(opened, 0, length);
        libraries[(sealer + 1) % N_LIBRARIES].work[OPEN](cipher, length, length);
        require(memcmp(opened, original, length) == 0, "agreement of the libraries");
    }
}

static double cpu_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static double turn_ns(work *do_work, enum cipher cipher, enum operation operation, size_t length) {
    int n =
        (int)(BYTES_A_TURN / length < MESSAGES_A_TURN ? BYTES_A_TURN / length : MESSAGES_A_TURN);
    if (operation ==
        OPEN) /* the same message again and again, from cache: only sealing changes it */
        evp_seal(cipher, 1, length);
    double begin = cpu_ns();
    for (int i = 0; i < n; i++)
        do_work(cipher, operation == OPEN ? 1 : (uint64_t)i, length);
    return (cpu_ns() - begin) / n;
}

static void measure_round(int round) {
    for (int cipher = 0; cipher < N_CIPHERS; cipher++)
        for (int operation = 0; operation < N_OPERATIONS; operation++)
            for (int size = 0; size < N_SIZES; size++)
                for (int i = 0; i < N_LIBRARIES; i++) {
                    int library = (i + round) % N_LIBRARIES; /* none is always first */
                    figures[cipher][operation][size][library][round] =
                        turn_ns(libraries[library].work[operation], (enum cipher)cipher,
                                (enum operation)operation, sizes[size]);
                }
}

static int compare(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double median(double *values, int n) {
    qsort(values, (size_t)n, sizeof *values, compare);
    return values[n / 2];
}

static void print_row(int cipher, int operation, int library, int n_rounds) {
    printf("| %-17s | %s | %-14s |", cipher_names[cipher], operation_names[operation],
           libraries[library].name);
    for (int size = 0; size < N_SIZES; size++) {
        double ns = median(figures[cipher][operation][size][library], n_rounds);
        printf(" %7.0f (%.2f) |", ns, (double)sizes[size] / ns);
    }
    printf("\n");
}

int main(int argc, char **argv) {
    int n_rounds = argc > 1 ? atoi(argv[1]) : 31;
    require(n_rounds > 0 && n_rounds <= ROUNDS_MAX, "reading the number of rounds");
    gcrypt_prepare();
    evp_prepare();
    ipsec_mb_prepare();
    for (int cipher = 0; cipher < N_CIPHERS; cipher++)
        for (size_t length = 0; length <= SIZE_MAX_BYTES; length += length < 600 ? 1 : 8117)
            check_agreement((enum cipher)cipher, length);
    for (int round = 0; round < n_rounds; round++)
        measure_round(round);
    printf("libgcrypt %s, %s, intel-ipsec-mb %s; median of %d rounds: CPU-ns a message (GB/s)\n\n",
           gcry_check_version(NULL), OpenSSL_version(OPENSSL_VERSION), imb_get_version_str(),
           n_rounds);
    printf("| cipher            | work | library        | 64 B | 1436 B | 65536 B |\n");
    printf("| ----------------- | ---- | -------------- | ---- | ------ | ------- |\n");
    for (int cipher = 0; cipher < N_CIPHERS; cipher++)
        for (int operation = 0; operation < N_OPERATIONS; operation++)
            for (int library = 0; library < N_LIBRARIES; library++)
                print_row(cipher, operation, library, n_rounds);
    return EXIT_SUCCESS;
}
