/* cpu_features: which instructions the processor has, as it says itself.
 *
 * By CPUID (Intel's manual, volume 2A) and not by __builtin_cpu_supports, which needs a part of the
 * compiler's run-time library that not each has.
 */
#ifndef FASTUN_SESSION_CPU_FEATURES_H
#define FASTUN_SESSION_CPU_FEATURES_H

#include <stdbool.h>
#ifdef __x86_64__
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

/* Those of AES and of GCM's multiplication. */
static inline bool cpu_has_aes(void) {
#ifdef __x86_64__
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_AES) != 0 && (c & bit_PCLMUL) != 0;
#elif defined(__aarch64__)
    unsigned long wanted = HWCAP_AES | HWCAP_PMULL;
    return (getauxval(AT_HWCAP) & wanted) == wanted;
#else
    return false;
#endif
}

/* Whether the system lets them be used is not asked here. */
static inline bool cpu_has_avx512(void) {
#ifdef __x86_64__
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b & bit_AVX512BW) != 0;
#else
    return false;
#endif
}

#endif
