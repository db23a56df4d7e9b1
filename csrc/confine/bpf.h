/* bpf: writes a seccomp program, instruction by instruction (linux/filter.h: classic BPF). */
#ifndef FASTUN_CONFINE_BPF_H
#define FASTUN_CONFINE_BPF_H

#include <linux/filter.h>
#include <stddef.h>
#include <stdint.h>

/* `program` has room for FILTER_LENGTH_MAX (filter.h). */
struct writer {
    struct sock_filter *program;
    size_t length;
};

static inline void add(struct writer *to, uint16_t code, uint32_t k, uint8_t if_true,
                       uint8_t if_false) {
    to->program[to->length++] = (struct sock_filter){code, if_true, if_false, k};
}

/* `offset`: in struct seccomp_data. */
static inline void load(struct writer *to, size_t offset) {
    add(to, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

static inline void end_with(struct writer *to, uint32_t action) {
    add(to, BPF_RET | BPF_K, action, 0, 0);
}

#endif
