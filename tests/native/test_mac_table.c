/* The addresses of a TAP device's peers: against a list that keeps the same promises, after deaths
 * of its writers, and beside a peer that makes addresses up. */
#define _GNU_SOURCE
#include <unistd.h>

#include "check.h"
#include "fastun.h"
#include "mac_model.h"
#include "packet/mac_key.h"
#include "random.h"

enum { N_STEPS = 60000, N_KEYS = 3000, N_OWNERS = 4 };

static const unsigned owners[N_OWNERS] = {0, 5, N_PEER_SLOTS - 1, MAC_OWNER_LOCAL};

static struct mac_table *table;
static struct mac_model model;
static int fd;

static void open_table(void) {
    table = mac_table_create(&fd);
    CHECK(table != NULL);
    model.n = 0;
}

static void close_table(void) {
    mac_table_detach(table);
    close(fd);
}

static bool answer(void *context) {
    return *(bool *)context;
}

static enum mac_learned learn(unsigned owner, uint64_t key, uint64_t now_ns, bool may_move) {
    return mac_table_learn(table, owner, key, now_ns, answer, &may_move);
}

/* Few addresses, so that they are met again; of two VLANs. */
static uint64_t key_of(size_t i) {
    const uint8_t address[MAC_SIZE] = {2, 0, 0, 0, (uint8_t)(i >> 8), (uint8_t)i};
    return mac_key_of(address, i % 2 == 0 ? 0 : 7);
}

static void check_same(uint64_t now_ns) {
    for (size_t i = 0; i < N_KEYS; i++)
        CHECK_EQUAL(mac_table_find(table, key_of(i), now_ns),
                    mac_model_find(&model, key_of(i), now_ns));
}

static void recover(void) {
    mac_table_recover(table, MAC_INDEX_PEERS);
    mac_table_recover(table, MAC_INDEX_LOCAL);
}

static void it_answers_as_the_list_does(void) {
    struct random random = {11};
    uint64_t now_ns = 1000;
    open_table();
    for (size_t step = 0; step < N_STEPS; step++) {
        unsigned owner = owners[random_below(&random, N_OWNERS)];
        uint64_t key = key_of(random_below(&random, N_KEYS));
        bool may_move = random_below(&random, 4) > 0;
        now_ns +=
            1 + random_below(&random, random_below(&random, 100) == 0 ? 30000000000 : 9000000);
        learn(owner, key, now_ns, may_move);
        mac_model_learn(&model, (int)owner, key, now_ns, may_move);
        if (random_below(&random, 5000) == 0) {
            mac_table_forget(table, owner);
            mac_model_forget(&model, (int)owner);
        }
        if (random_below(&random, 5000) == 0)
            recover();
        if (step % 1000 == 0)
            check_same(now_ns);
    }
    check_same(now_ns);
    close_table();
}

static void an_address_is_known_for_300_seconds_and_then_anyones(void) {
    open_table();
    CHECK_EQUAL(learn(1, key_of(2), 1000, false), MAC_NEW);
    CHECK_EQUAL(mac_table_find(table, key_of(2), 1000 + MAC_AGE_NS - 1), 1);
    CHECK_EQUAL(mac_table_find(table, key_of(2), 1000 + MAC_AGE_NS), MAC_OWNER_UNKNOWN);
    CHECK_EQUAL(learn(2, key_of(2), 1000 + MAC_AGE_NS, false), MAC_NEW);
    CHECK_EQUAL(mac_table_find(table, key_of(2), 1000 + MAC_AGE_NS), 2);
    close_table();
}

static void the_same_address_in_another_vlan_is_another(void) {
    const uint8_t address[MAC_SIZE] = {2, 1, 2, 3, 4, 5};
    open_table();
    learn(1, mac_key_of(address, 10), 1000, false);
    CHECK_EQUAL(learn(2, mac_key_of(address, 20), 1000, false), MAC_NEW);
    CHECK_EQUAL(mac_table_find(table, mac_key_of(address, 10), 1000), 1);
    CHECK_EQUAL(mac_table_find(table, mac_key_of(address, 20), 1000), 2);
    CHECK_EQUAL(mac_table_find(table, mac_key_of(address, 0), 1000), MAC_OWNER_UNKNOWN);
    close_table();
}

static void an_address_moves_when_it_may_and_is_where_it_was_seen_last(void) {
    open_table();
    CHECK_EQUAL(learn(1, key_of(2), 1000, false), MAC_NEW);
    CHECK_EQUAL(learn(2, key_of(2), 2000, false), MAC_HELD);
    CHECK_EQUAL(mac_table_find(table, key_of(2), 2000), 1);
    CHECK_EQUAL(learn(2, key_of(2), 3000, true), MAC_MOVED);
    CHECK_EQUAL(mac_table_find(table, key_of(2), 3000), 2);
    CHECK_EQUAL(learn(MAC_OWNER_LOCAL, key_of(2), 4000, true), MAC_MOVED);
    CHECK_EQUAL(mac_table_find(table, key_of(2), 4000), MAC_OWNER_LOCAL);
    CHECK_EQUAL(learn(1, key_of(2), 5000, true), MAC_MOVED);
    CHECK_EQUAL(mac_table_find(table, key_of(2), 5000), 1);
    close_table();
}

static void a_hundred_thousand_forged_addresses_cost_the_others_nothing(void) {
    struct random random = {5};
    uint64_t keys[1];
    open_table();
    for (size_t i = 0; i < MACS_PER_OWNER; i++) {
        learn(7, key_of(i), 1000, false);
        learn(MAC_OWNER_LOCAL, key_of(MACS_PER_OWNER + i), 1000, false);
    }
    for (int i = 0; i < 100000; i++) {
        uint8_t address[MAC_SIZE];
        random_fill(&random, address, sizeof address);
        learn(3, mac_key_of(address, 0), 2000 + (uint64_t)i, false);
    }
    for (size_t i = 0; i < MACS_PER_OWNER; i++) {
        CHECK_EQUAL(mac_table_find(table, key_of(i), 200000), 7);
        CHECK_EQUAL(mac_table_find(table, key_of(MACS_PER_OWNER + i), 200000), MAC_OWNER_LOCAL);
    }
    CHECK_EQUAL(mac_table_list(table, 3, 200000, keys, 1), MACS_PER_OWNER);
    CHECK_EQUAL(mac_table_list(table, 4, 200000, keys, 1), 0);
    close_table();
}

static void of_too_many_the_one_that_was_seen_longest_ago_goes(void) {
    open_table();
    for (size_t i = 0; i < MACS_PER_OWNER; i++)
        learn(3, key_of(i), 1000 + i, false);
    learn(3, key_of(0), 1000000000, false); /* again */
    learn(3, key_of(MACS_PER_OWNER), 1000000001, false);
    CHECK_EQUAL(mac_table_find(table, key_of(0), 1000000001), 3);
    CHECK_EQUAL(mac_table_find(table, key_of(1), 1000000001), MAC_OWNER_UNKNOWN);
    CHECK_EQUAL(mac_table_find(table, key_of(MACS_PER_OWNER), 1000000001), 3);
    close_table();
}

static void this_hosts_own_addresses_are_its_own_in_every_vlan(void) {
    const uint8_t own[MAC_SIZE] = {2, 9, 9, 9, 9, 9};
    open_table();
    CHECK(!mac_table_is_own(table, mac_key_of(own, 0)));
    mac_table_set_own(table, 1, own);
    CHECK(mac_table_is_own(table, mac_key_of(own, 0)));
    CHECK(mac_table_is_own(table, mac_key_of(own, 99)));
    CHECK(!mac_table_is_own(table, key_of(1)));
    mac_table_set_own(table, 1, NULL);
    CHECK(!mac_table_is_own(table, mac_key_of(own, 0)));
    mac_table_set_own(table, mac_table_n_own(), own); /* there is no such place */
    close_table();
}

static void the_order_is_that_of_the_times_also_after_a_successor_made_it_anew(void) {
    struct random random = {17};
    uint64_t now_ns = 1000;
    open_table();
    for (size_t i = 0; i < 2 * MACS_PER_OWNER; i++)
        learn(owners[i % 2], key_of(random_below(&random, N_KEYS)), now_ns += 200000000, true);
    for (int round = 0; round < 3; round++) {
        for (size_t owner = 0; owner < 2; owner++) {
            struct mac_owner *of = &table->owners[owners[owner]];
            uint64_t before_ns = 0;
            uint32_t n = 0;
            for (unsigned at = of->order.newer[0]; at != 0; at = of->order.newer[at], n++) {
                CHECK(of->seen_ns[at - 1] >= before_ns);
                CHECK_EQUAL(of->order.newer[of->order.older[at]], at);
                before_ns = of->seen_ns[at - 1];
            }
            CHECK_EQUAL(n, of->n_used);
        }
        if (round == 0)
            recover();
        for (size_t i = 0; i < 3 * MACS_PER_OWNER; i++)
            learn(owners[i % 2], key_of(random_below(&random, N_KEYS)), now_ns += 200000000, true);
    }
    close_table();
}

/* The other writer can spoil the order, and gets a wrong choice for it. */
static void an_order_that_leads_out_of_the_table_is_not_followed(void) {
    struct random random = {19};
    open_table();
    for (size_t i = 0; i < 4 * MACS_PER_OWNER; i++) {
        struct mac_order *order = &table->owners[3].order;
        uint16_t noise = (uint16_t)(random_next(&random) >> random_below(&random, 16));
        order->older[random_below(&random, 1 + MACS_PER_OWNER)] = noise;
        order->newer[random_below(&random, 20)] = noise;
        learn(3, key_of(i % N_KEYS), 1000 + i, true);
        CHECK_EQUAL(mac_table_find(table, key_of(i % N_KEYS), 1000 + i), 3);
    }
    recover();
    CHECK_EQUAL(mac_table_find(table, key_of(4 * MACS_PER_OWNER % N_KEYS - 1), 6000), 3);
    close_table();
}

/* Whatever a writer was doing when it was killed: heads and chains are noise. */
static void a_successor_knows_all_that_was_known_and_readers_survive_until_then(void) {
    struct random random = {13};
    for (int round = 0; round < 20; round++) {
        open_table();
        for (size_t i = 0; i < 500; i++)
            learn(owners[i % N_OWNERS], key_of(i), 1000, false);
        for (size_t i = 0; i < 2000; i++) {
            uint32_t noise = (uint32_t)random_next(&random) >> random_below(&random, 32);
            atomic_store(&table->heads[i % 2][random_below(&random, MAC_HEADS)], noise);
            atomic_store(&table->owners[owners[i % N_OWNERS]].next[random_below(&random, 500)],
                         noise);
        }
        for (size_t i = 0; i < N_KEYS; i++)
            CHECK(mac_table_find(table, key_of(i), 1000) <= MAC_OWNER_LOCAL);
        recover();
        for (size_t i = 0; i < 500; i++)
            CHECK_EQUAL(mac_table_find(table, key_of(i), 1000), owners[i % N_OWNERS]);
        CHECK_EQUAL(mac_table_find(table, key_of(500), 1000), MAC_OWNER_UNKNOWN);
        close_table();
    }
}

/* Each writer can write the other's index. */
static void a_number_that_leads_out_of_the_table_is_not_followed_by_its_writer_either(void) {
    open_table();
    for (size_t i = 0; i < 500; i++)
        learn(owners[i % N_OWNERS], key_of(i), 1000, false);
    for (size_t i = 0; i < MAC_HEADS; i++)
        for (int index = 0; index < N_MAC_INDICES; index++)
            atomic_store(&table->heads[index][i], UINT32_MAX - (uint32_t)i);
    for (size_t i = 0; i < N_OWNERS; i++)
        mac_table_forget(table, owners[i]);
    recover();
    CHECK_EQUAL(mac_table_find(table, key_of(0), 1000), MAC_OWNER_UNKNOWN);
    learn(owners[0], key_of(0), 1000, false);
    CHECK_EQUAL(mac_table_find(table, key_of(0), 1000), owners[0]);
    close_table();
}

int main(void) {
    RUN(it_answers_as_the_list_does);
    RUN(an_address_is_known_for_300_seconds_and_then_anyones);
    RUN(the_same_address_in_another_vlan_is_another);
    RUN(an_address_moves_when_it_may_and_is_where_it_was_seen_last);
    RUN(a_hundred_thousand_forged_addresses_cost_the_others_nothing);
    RUN(of_too_many_the_one_that_was_seen_longest_ago_goes);
    RUN(this_hosts_own_addresses_are_its_own_in_every_vlan);
    RUN(the_order_is_that_of_the_times_also_after_a_successor_made_it_anew);
    RUN(an_order_that_leads_out_of_the_table_is_not_followed);
    RUN(a_successor_knows_all_that_was_known_and_readers_survive_until_then);
    RUN(a_number_that_leads_out_of_the_table_is_not_followed_by_its_writer_either);
    return EXIT_SUCCESS;
}
