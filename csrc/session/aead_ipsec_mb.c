/* Sealing by intel-ipsec-mb, where it is installed. Its header must be there when this is compiled
 * (FASTUN_WITH_IPSEC_MB), the library itself is looked for at run time, so that a binary package
 * runs on hosts without it. Its calls go through a table whose layout is its version's: only the
 * version of the header is used (major and minor).
 *
 * Only on processors with AVX-512 and its AES: there it takes half or a third of libgcrypt's time,
 * with AVX2 it is the slower one. Its key schedules are plain memory, which is ours to choose; what
 * its functions leave in registers and on the stack they clear themselves (SAFE_DATA), and without
 * that it is not used. SAFE_PARAM is required as well: the functions return nothing, and only with
 * it do they report that they refused their arguments and did nothing, leaving the text in plain
 * and the tag unwritten.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>

#include "session/aead_library.h"

#ifdef FASTUN_WITH_IPSEC_MB

#include <dlfcn.h>
#include <intel-ipsec-mb.h>
#include <stdio.h>
#include <string.h>

#include "session/code_pages.h"
#include "session/cpu_features.h"
#include "session/secret_memory.h"

#define FEATURES                                                                                   \
    (IMB_FEATURE_AVX512_SKX | IMB_FEATURE_VAES | IMB_FEATURE_VPCLMULQDQ | IMB_FEATURE_SAFE_DATA |  \
     IMB_FEATURE_SAFE_PARAM)

struct ipsec_mb_key {
    struct aead_key base;
    enum aead aead;
    uint8_t chacha[AEAD_KEY_SIZE];
    _Alignas(64) struct gcm_key_data aes; /* read in whole vectors */
};

/* What it exports, as far as it is needed. */
static struct {
    unsigned (*get_version)(void);
    IMB_MGR *(*alloc_mb_mgr)(uint64_t flags);
    void (*free_mb_mgr)(IMB_MGR *manager);
    void (*init_mb_mgr_avx512)(IMB_MGR *manager);
    int (*get_errno)(IMB_MGR *manager);
} exported;

/* Its table of functions; the manager of jobs around it is not used. */
static IMB_MGR *manager;

static struct ipsec_mb_key *whole(struct aead_key *key) {
    return (struct ipsec_mb_key *)(void *)key;
}

/* ISO C knows no way from an object's address to a function's; POSIX promises that this is one. */
static bool find(void *handle, const char *name, void *function) {
    void *found = dlsym(handle, name);
    memcpy(function, &found, sizeof found);
    return found != NULL;
}

static bool is_of_the_header(unsigned version) {
    return version >> 8 == (unsigned)IMB_VERSION_NUM >> 8;
}

/* It stays loaded if it is of use. */
static bool load(void) {
    char name[32];
    snprintf(name, sizeof name, "libIPSec_MB.so.%d", IMB_VERSION_NUM >> 16);
    void *handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL)
        return false;
    if (find(handle, "imb_get_version", &exported.get_version) &&
        is_of_the_header(exported.get_version()) &&
        find(handle, "alloc_mb_mgr", &exported.alloc_mb_mgr) &&
        find(handle, "free_mb_mgr", &exported.free_mb_mgr) &&
        find(handle, "init_mb_mgr_avx512", &exported.init_mb_mgr_avx512) &&
        find(handle, "imb_get_errno", &exported.get_errno))
        return true;
    dlclose(handle);
    return false;
}

/* It tests itself when it is initialised, if it was built to. */
static bool is_usable(void) {
    if ((manager->features & FEATURES) != FEATURES)
        return false;
    exported.init_mb_mgr_avx512(manager);
    bool is_tested = (manager->features & IMB_FEATURE_SELF_TEST) != 0;
    return !is_tested || (manager->features & IMB_FEATURE_SELF_TEST_PASS) != 0;
}

static int prepare(void) {
    /* Loading takes 10 MiB of addresses; the library itself looks at all of FEATURES. */
    if (!cpu_has_avx512() || !load())
        return -ENOTSUP;
    manager = exported.alloc_mb_mgr(0);
    if (manager == NULL)
        return -ENOMEM;
    bool usable = is_usable();
    /* The test has gone through 3 MiB of code, of which sealing takes a tenth. */
    code_pages_drop((const void *)(uintptr_t)exported.init_mb_mgr_avx512);
    if (usable)
        return 0;
    exported.free_mb_mgr(manager);
    return -ENOTSUP;
}

/* Whether the last call succeeded: each call sets the error code anew. */
static bool is_done(void) {
    return exported.get_errno(manager) == 0;
}

static struct aead_key *key_new(enum aead aead, const uint8_t key[AEAD_KEY_SIZE]) {
    bool is_aes = aead == AEAD_AES_256_GCM;
    struct ipsec_mb_key *made =
        secret_memory_new(is_aes ? sizeof *made : offsetof(struct ipsec_mb_key, aes));
    if (made == NULL)
        return NULL;
    made->base.library = &aead_ipsec_mb;
    made->aead = aead;
    if (is_aes)
        IMB_AES256_GCM_PRE(manager, key, &made->aes);
    else
        memcpy(made->chacha, key, AEAD_KEY_SIZE);
    return &made->base;
}

static void key_free(struct aead_key *key) {
    secret_memory_free(key);
}

/* -- messages ---------------------------------------------------------------------------------- */

/* A context holds the end of the key stream, and Poly1305's key. */
union context {
    struct gcm_context_data aes;
    struct chacha20_poly1305_context_data chacha;
};

static bool seal_chacha(const struct ipsec_mb_key *key, union context *context,
                        const uint8_t nonce[AEAD_NONCE_SIZE], const uint8_t *text, size_t length,
                        uint8_t *sealed, uint8_t tag[AEAD_TAG_SIZE]) {
    IMB_CHACHA20_POLY1305_INIT(manager, key->chacha, &context->chacha, nonce, NULL, 0);
    bool done = is_done();
    IMB_CHACHA20_POLY1305_ENC_UPDATE(manager, key->chacha, &context->chacha, sealed, text, length);
    done = done && is_done();
    IMB_CHACHA20_POLY1305_ENC_FINALIZE(manager, &context->chacha, tag, AEAD_TAG_SIZE);
    return done && is_done();
}

static int seal(struct aead_key *key, const uint8_t nonce[AEAD_NONCE_SIZE], const uint8_t *text,
                size_t length, uint8_t *sealed, uint8_t tag[AEAD_TAG_SIZE]) {
    struct ipsec_mb_key *sealing = whole(key);
    union context context;
    bool done;
    if (sealing->aead == AEAD_AES_256_GCM) {
        IMB_AES256_GCM_ENC(manager, &sealing->aes, &context.aes, sealed, text, length, nonce, NULL,
                           0, tag, AEAD_TAG_SIZE);
        done = is_done();
    } else {
        done = seal_chacha(sealing, &context, nonce, text, length, sealed, tag);
    }
    explicit_bzero(&context, sizeof context);
    return done ? 0 : -EINVAL;
}

/* How long it takes does not show where they differ. By words: byte by byte it took a tenth of the
 * link-reader's time on UDP. */
static bool are_equal(const uint8_t left[AEAD_TAG_SIZE], const uint8_t right[AEAD_TAG_SIZE]) {
    uint64_t a[2], b[2];
    memcpy(a, left, sizeof a);
    memcpy(b, right, sizeof b);
    return ((a[0] ^ b[0]) | (a[1] ^ b[1])) == 0;
}

static bool open_chacha(const struct ipsec_mb_key *key, union context *context,
                        const uint8_t nonce[AEAD_NONCE_SIZE], const uint8_t *sealed, size_t length,
                        uint8_t *text, uint8_t tag[AEAD_TAG_SIZE]) {
    IMB_CHACHA20_POLY1305_INIT(manager, key->chacha, &context->chacha, nonce, NULL, 0);
    bool done = is_done();
    IMB_CHACHA20_POLY1305_DEC_UPDATE(manager, key->chacha, &context->chacha, text, sealed, length);
    done = done && is_done();
    IMB_CHACHA20_POLY1305_DEC_FINALIZE(manager, &context->chacha, tag, AEAD_TAG_SIZE);
    return done && is_done();
}

/* If the library has not written the tag, the buffer's content proves nothing. */
static int open(struct aead_key *key, const uint8_t nonce[AEAD_NONCE_SIZE], const uint8_t *sealed,
                size_t length, uint8_t *text) {
    struct ipsec_mb_key *opening = whole(key);
    union context context;
    uint8_t tag[AEAD_TAG_SIZE] = {0};
    bool done;
    if (opening->aead == AEAD_AES_256_GCM) {
        IMB_AES256_GCM_DEC(manager, &opening->aes, &context.aes, text, sealed, length, nonce, NULL,
                           0, tag, AEAD_TAG_SIZE);
        done = is_done();
    } else {
        done = open_chacha(opening, &context, nonce, sealed, length, text, tag);
    }
    explicit_bzero(&context, sizeof context);
    return done && are_equal(tag, sealed + length) ? 0 : -EBADMSG;
}

const struct aead_library aead_ipsec_mb = {"intel-ipsec-mb", prepare, key_new,
                                           key_free,         seal,    open};

#else

static int prepare(void) {
    return -ENOTSUP;
}

const struct aead_library aead_ipsec_mb = {.name = "intel-ipsec-mb", .prepare = prepare};

#endif
