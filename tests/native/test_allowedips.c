/* Cryptokey routing against a model that looks at every prefix. */
#include <errno.h>
#include <stdbool.h>

#include "host/allowedips.h"
#include "check.h"
#include "random.h"

enum { N_MODEL_MAX = 400, N_LOOKUPS = 1000000, N_LOOKUPS_A_CHANGE = 50, N_SLOTS = 40 };

/* -- claims ------------------------------------------------------------------------------------ */

static struct allowedips *filled(void) {
    static const struct {
        uint8_t address[4];
        unsigned length;
        uint16_t slot;
    } prefixes[] = {
        {{10, 0, 0, 0}, 8, 1},         {{10, 1, 0, 0}, 16, 2},   {{10, 1, 2, 0}, 24, 3},
        {{10, 1, 2, 3}, 32, 4},        {{10, 1, 2, 255}, 32, 5}, {{192, 168, 7, 9}, 16, 6},
        {{255, 255, 255, 255}, 32, 7},
    };
    struct allowedips *allowedips = allowedips_new();
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++)
        CHECK_EQUAL(allowedips_insert(allowedips, 4, prefixes[i].address, prefixes[i].length,
                                      prefixes[i].slot),
                    0);
    return allowedips;
}

static int lookup4(struct allowedips *allowedips, uint8_t a, uint8_t b, uint8_t c, uint8_t d) {
    allowedips_settle(allowedips);
    return allowedips_lookup4(allowedips, (uint8_t[]){a, b, c, d});
}

static void the_longest_prefix_wins(void) {
    struct allowedips *allowedips = filled();
    CHECK_EQUAL(lookup4(allowedips, 9, 255, 255, 255), -ENOENT);
    CHECK_EQUAL(lookup4(allowedips, 10, 0, 0, 0), 1);
    CHECK_EQUAL(lookup4(allowedips, 10, 1, 0, 0), 2);
    CHECK_EQUAL(lookup4(allowedips, 10, 1, 2, 2), 3);
    CHECK_EQUAL(lookup4(allowedips, 10, 1, 2, 3), 4);
    CHECK_EQUAL(lookup4(allowedips, 10, 1, 2, 4), 3);
    CHECK_EQUAL(lookup4(allowedips, 10, 1, 2, 255), 5);
    CHECK_EQUAL(lookup4(allowedips, 10, 1, 3, 0), 2); /* three prefixes end or go on here */
    CHECK_EQUAL(lookup4(allowedips, 10, 255, 255, 255), 1);
    CHECK_EQUAL(lookup4(allowedips, 11, 0, 0, 0), -ENOENT);
    CHECK_EQUAL(lookup4(allowedips, 192, 168, 0, 0), 6); /* the bits behind /16 do not count */
    CHECK_EQUAL(lookup4(allowedips, 255, 255, 255, 254), -ENOENT);
    CHECK_EQUAL(lookup4(allowedips, 255, 255, 255, 255), 7);
    allowedips_free(allowedips);
}

static void nothing_is_found_where_nothing_was_inserted(void) {
    struct allowedips *allowedips = allowedips_new();
    CHECK_EQUAL(lookup4(allowedips, 10, 0, 0, 1), -ENOENT);
    CHECK_EQUAL(allowedips_lookup6(allowedips, (uint8_t[16]){0xfd}), -ENOENT);
    allowedips_remove_slot(allowedips, 3);
    CHECK_EQUAL(allowedips_insert(allowedips, 4, (uint8_t[]){0, 0, 0, 0}, 0, 9), 0);
    CHECK_EQUAL(lookup4(allowedips, 255, 255, 255, 255), 9); /* a default route, of one version */
    CHECK_EQUAL(lookup4(allowedips, 0, 0, 0, 0), 9);
    CHECK_EQUAL(allowedips_lookup6(allowedips, (uint8_t[16]){0}), -ENOENT);
    allowedips_free(allowedips);
}

static void a_prefix_inserted_again_moves_to_the_new_peer(void) {
    struct allowedips *allowedips = filled();
    CHECK_EQUAL(allowedips_insert(allowedips, 4, (uint8_t[]){10, 1, 2, 77}, 24, 30), 0);
    CHECK_EQUAL(lookup4(allowedips, 10, 1, 2, 9), 30);
    allowedips_remove_slot(allowedips, 3); /* which has nothing left */
    CHECK_EQUAL(lookup4(allowedips, 10, 1, 2, 9), 30);
    allowedips_remove_slot(allowedips, 30);
    CHECK_EQUAL(lookup4(allowedips, 10, 1, 2, 9), 2);
    allowedips_free(allowedips);
}

static void a_removed_peer_leaves_its_addresses_to_the_prefix_around_them(void) {
    struct allowedips *allowedips = filled();
    CHECK_EQUAL(allowedips_insert(allowedips, 6, (uint8_t[16]){0xfd}, 8, 2), 0);
    allowedips_remove_slot(allowedips, 2);
    CHECK_EQUAL(lookup4(allowedips, 10, 1, 9, 9), 1);
    CHECK_EQUAL(lookup4(allowedips, 10, 1, 2, 3), 4);
    CHECK_EQUAL(allowedips_lookup6(allowedips, (uint8_t[16]){0xfd, 1}), -ENOENT);
    for (uint16_t slot = 1; slot <= 7; slot++)
        allowedips_remove_slot(allowedips, slot);
    CHECK_EQUAL(lookup4(allowedips, 10, 1, 2, 3), -ENOENT);
    allowedips_free(allowedips);
}

static void what_is_not_a_prefix_is_refused(void) {
    struct allowedips *allowedips = allowedips_new();
    uint8_t address[16] = {10};
    CHECK_EQUAL(allowedips_insert(allowedips, 4, address, 33, 0), -EINVAL);
    CHECK_EQUAL(allowedips_insert(allowedips, 6, address, 129, 0), -EINVAL);
    CHECK_EQUAL(allowedips_insert(allowedips, 5, address, 8, 0), -EINVAL);
    CHECK_EQUAL(allowedips_insert(allowedips, 4, address, 8, ALLOWEDIPS_SLOT_MAX + 1), -EINVAL);
    CHECK_EQUAL(lookup4(allowedips, 10, 0, 0, 0), -ENOENT);
    CHECK_EQUAL(allowedips_insert(allowedips, 4, address, 32, ALLOWEDIPS_SLOT_MAX), 0);
    CHECK_EQUAL(lookup4(allowedips, 10, 0, 0, 0), ALLOWEDIPS_SLOT_MAX);
    allowedips_free(allowedips);
}

static void every_length_of_prefix_around_one_address_can_be_there_together(void) {
    struct allowedips *allowedips = allowedips_new();
    uint8_t ones[16], address[16];
    memset(ones, 0xff, sizeof ones);
    for (unsigned length = 129; length-- > 0;)
        CHECK_EQUAL(allowedips_insert(allowedips, 6, ones, length, (uint16_t)length), 0);
    allowedips_settle(allowedips);
    CHECK_EQUAL(allowedips_lookup6(allowedips, ones), 128);
    for (unsigned length = 0; length < 128; length++) {
        memcpy(address, ones, sizeof address);
        address[length / 8] ^= (uint8_t)(0x80 >> length % 8);
        CHECK_EQUAL(allowedips_lookup6(allowedips, address), length);
    }
    allowedips_free(allowedips);
}

static void a_packet_is_found_by_its_source_or_its_destination(void) {
    struct allowedips *allowedips = filled();
    uint8_t packet4[20] = {0x45, [12] = 10, 1, 2, 3, 192, 168, 0, 1};
    uint8_t packet6[40] = {0x60, [8] = 0xfd, [23] = 1, [24] = 0xfd, [39] = 2};
    CHECK_EQUAL(allowedips_insert(allowedips, 6, packet6 + 8, 128, 21), 0);
    CHECK_EQUAL(allowedips_insert(allowedips, 6, packet6 + 24, 128, 22), 0);
    allowedips_settle(allowedips);
    CHECK_EQUAL(allowedips_lookup_ip(allowedips, packet4, true), 4);
    CHECK_EQUAL(allowedips_lookup_ip(allowedips, packet4, false), 6);
    CHECK_EQUAL(allowedips_lookup_ip(allowedips, packet6, true), 21);
    CHECK_EQUAL(allowedips_lookup_ip(allowedips, packet6, false), 22);
    allowedips_free(allowedips);
}

static void what_moved_before_it_was_settled_does_not_come_back(void) {
    struct allowedips *allowedips = filled();
    for (uint16_t slot = 31; slot <= 33; slot++)
        CHECK_EQUAL(allowedips_insert(allowedips, 4, (uint8_t[]){10, 1, 2, 0}, 24, slot), 0);
    allowedips_remove_slot(allowedips, 33);
    CHECK_EQUAL(lookup4(allowedips, 10, 1, 2, 9), 2); /* neither 3's nor 31's nor 32's again */
    allowedips_free(allowedips);
}

static void a_prefix_is_removed_from_its_peer_alone(void) {
    struct allowedips *allowedips = filled();
    CHECK_EQUAL(allowedips_remove(allowedips, 4, (uint8_t[]){10, 1, 2, 9}, 24, 2), 0);
    CHECK_EQUAL(lookup4(allowedips, 10, 1, 2, 9), 3); /* 2 never had it */
    CHECK_EQUAL(allowedips_remove(allowedips, 4, (uint8_t[]){10, 1, 2, 9}, 24, 3), 0);
    CHECK_EQUAL(lookup4(allowedips, 10, 1, 2, 9), 2);
    CHECK_EQUAL(lookup4(allowedips, 10, 1, 2, 3), 4); /* what lies inside it stays */
    CHECK_EQUAL(allowedips_remove(allowedips, 4, (uint8_t[]){10, 1, 2, 9}, 33, 3), -EINVAL);
    allowedips_free(allowedips);
}

static void a_prefix_given_away_in_the_same_step_is_the_new_peers(void) {
    for (int is_taken_first = 0; is_taken_first < 2; is_taken_first++) {
        struct allowedips *allowedips = filled();
        if (is_taken_first)
            CHECK_EQUAL(allowedips_remove(allowedips, 4, (uint8_t[]){10, 1, 2, 0}, 24, 3), 0);
        CHECK_EQUAL(allowedips_insert(allowedips, 4, (uint8_t[]){10, 1, 2, 0}, 24, 31), 0);
        if (!is_taken_first)
            CHECK_EQUAL(allowedips_remove(allowedips, 4, (uint8_t[]){10, 1, 2, 0}, 24, 3), 0);
        CHECK_EQUAL(lookup4(allowedips, 10, 1, 2, 9), 31);
        allowedips_free(allowedips);
    }
}

static uint32_t shuffled(uint32_t i) {
    return i * 2654435761u; /* Knuth's: odd, so all are different */
}

/* As many as WireGuard's own tests load, in no order; sorted in one by one this took minutes. */
static void a_hundred_thousand_prefixes_in_no_order_are_found(void) {
    enum { N = 130560 };
    struct allowedips *allowedips = allowedips_new();
    for (uint32_t i = 0; i < N; i++) {
        uint32_t address = shuffled(i);
        CHECK_EQUAL(allowedips_insert(allowedips, 4, (uint8_t *)&address, 32, (uint16_t)(i % 60)),
                    0);
    }
    allowedips_settle(allowedips);
    for (uint32_t i = 0; i < N; i++) {
        uint32_t address = shuffled(i);
        CHECK_EQUAL(allowedips_lookup4(allowedips, (uint8_t *)&address), (int)(i % 60));
    }
    allowedips_free(allowedips);
}

/* -- the model --------------------------------------------------------------------------------- */

struct model_prefix {
    uint8_t address[16];
    unsigned length;
    uint16_t slot;
};

struct model {
    int version;
    struct model_prefix prefixes[N_MODEL_MAX];
    size_t n;
};

static bool shares_bits(const uint8_t *a, const uint8_t *b, unsigned n_bits) {
    for (unsigned bit = 0; bit < n_bits; bit++)
        if (((a[bit / 8] ^ b[bit / 8]) & 0x80 >> bit % 8) != 0)
            return false;
    return true;
}

static void model_insert(struct model *model, const struct model_prefix *prefix) {
    for (size_t i = 0; i < model->n; i++) {
        struct model_prefix *old = &model->prefixes[i];
        if (old->length == prefix->length &&
            shares_bits(old->address, prefix->address, prefix->length)) {
            old->slot = prefix->slot;
            return;
        }
    }
    model->prefixes[model->n++] = *prefix;
}

static void model_remove_one(struct model *model, const struct model_prefix *prefix) {
    for (size_t i = 0; i < model->n; i++) {
        const struct model_prefix *old = &model->prefixes[i];
        if (old->slot == prefix->slot && old->length == prefix->length &&
            shares_bits(old->address, prefix->address, prefix->length)) {
            model->prefixes[i] = model->prefixes[--model->n];
            return;
        }
    }
}

static void model_remove(struct model *model, uint16_t slot) {
    size_t n = 0;
    for (size_t i = 0; i < model->n; i++)
        if (model->prefixes[i].slot != slot)
            model->prefixes[n++] = model->prefixes[i];
    model->n = n;
}

static int model_lookup(const struct model *model, const uint8_t *address) {
    int found = -ENOENT;
    unsigned longest = 0;
    for (size_t i = 0; i < model->n; i++) {
        const struct model_prefix *prefix = &model->prefixes[i];
        if (prefix->length >= longest && shares_bits(prefix->address, address, prefix->length)) {
            longest = prefix->length;
            found = prefix->slot;
        }
    }
    return found;
}

/* Few values a byte, many zeros and ones, so that prefixes nest, touch and coincide. */
static void choose_address(struct random *random, uint8_t address[16]) {
    static const uint8_t values[] = {0x00, 0xff, 0x0a, 0x80, 0x7f, 0xfe, 0x01, 0x0b};
    size_t n_values = 2 + random_below(random, 7);
    for (int i = 0; i < 16; i++)
        address[i] = values[random_below(random, n_values)];
}

/* An address at or right beside the edge of a prefix: where a range could be off by one. */
static void choose_edge(struct random *random, const struct model *model, uint8_t address[16]) {
    const struct model_prefix *prefix = &model->prefixes[random_below(random, model->n)];
    unsigned width = model->version == 4 ? 32 : 128;
    bool ones = random_below(random, 2) != 0;
    memcpy(address, prefix->address, 16);
    for (unsigned bit = prefix->length; bit < width; bit++) {
        uint8_t mask = (uint8_t)(0x80 >> bit % 8);
        address[bit / 8] = (uint8_t)(ones ? address[bit / 8] | mask : address[bit / 8] & ~mask);
    }
    int step = (int)random_below(random, 3) - 1, at = (int)width / 8 - 1;
    for (; step != 0 && at >= 0; at--) {
        address[at] = (uint8_t)(address[at] + step);
        if (address[at] != (step > 0 ? 0x00 : 0xff))
            break;
    }
}

static void change(struct random *random, struct allowedips *allowedips, struct model *model) {
    uint16_t slot = (uint16_t)random_below(random, N_SLOTS);
    if (model->n == N_MODEL_MAX || random_below(random, 12) == 0) {
        model_remove(model, slot);
        allowedips_remove_slot(allowedips, slot);
        return;
    }
    struct model_prefix prefix = {.slot = slot};
    if (model->n > 0 && random_below(random, 3) == 0) { /* one that is there, of its peer or not */
        prefix = model->prefixes[random_below(random, model->n)];
        prefix.slot = random_below(random, 4) == 0 ? slot : prefix.slot;
        model_remove_one(model, &prefix);
        CHECK_EQUAL(allowedips_remove(allowedips, model->version, prefix.address, prefix.length,
                                      prefix.slot),
                    0);
        return;
    }
    choose_address(random, prefix.address);
    prefix.length = (unsigned)random_below(random, model->version == 4 ? 33 : 129);
    model_insert(model, &prefix);
    CHECK_EQUAL(allowedips_insert(allowedips, model->version, prefix.address, prefix.length, slot),
                0);
}

static void compare_with_model(int version, size_t n_lookups) {
    struct random random = {version == 4 ? 4 : 66};
    static struct model model;
    struct allowedips *allowedips = allowedips_new();
    size_t n_found = 0;
    model = (struct model){.version = version};
    for (size_t i = 0; i < n_lookups; i++) {
        uint8_t address[16];
        if (i % N_LOOKUPS_A_CHANGE == 0) {
            for (size_t n = random_below(&random, 4); n > 0; n--)
                change(&random, allowedips, &model);
            allowedips_settle(allowedips);
        }
        if (model.n > 0 && i % 2 == 0)
            choose_edge(&random, &model, address);
        else
            choose_address(&random, address);
        int expected = model_lookup(&model, address);
        CHECK_EQUAL(version == 4 ? allowedips_lookup4(allowedips, address)
                                 : allowedips_lookup6(allowedips, address),
                    expected);
        n_found += expected >= 0;
    }
    CHECK(n_found > n_lookups / 4);
    allowedips_free(allowedips);
}

static void a_million_random_lookups_agree_with_a_naive_model(void) {
    compare_with_model(4, N_LOOKUPS / 2);
    compare_with_model(6, N_LOOKUPS / 2);
}

int main(void) {
    RUN(the_longest_prefix_wins);
    RUN(nothing_is_found_where_nothing_was_inserted);
    RUN(a_prefix_inserted_again_moves_to_the_new_peer);
    RUN(a_removed_peer_leaves_its_addresses_to_the_prefix_around_them);
    RUN(what_is_not_a_prefix_is_refused);
    RUN(every_length_of_prefix_around_one_address_can_be_there_together);
    RUN(a_packet_is_found_by_its_source_or_its_destination);
    RUN(a_prefix_is_removed_from_its_peer_alone);
    RUN(a_prefix_given_away_in_the_same_step_is_the_new_peers);
    RUN(what_moved_before_it_was_settled_does_not_come_back);
    RUN(a_hundred_thousand_prefixes_in_no_order_are_found);
    RUN(a_million_random_lookups_agree_with_a_naive_model);
    return EXIT_SUCCESS;
}
