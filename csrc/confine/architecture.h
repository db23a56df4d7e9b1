/* architecture: which processor's calls a filter is about; without ARCHITECTURE there is none. */
#ifndef FASTUN_CONFINE_ARCHITECTURE_H
#define FASTUN_CONFINE_ARCHITECTURE_H

#include <linux/audit.h>

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

enum { X32_CALL_BIT = 0x40000000 }; /* asm/unistd.h: the same calls, with pointers of 32 bits */

#endif
