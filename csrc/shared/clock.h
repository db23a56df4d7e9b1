/* clock: units of time. All times in the data path are nanoseconds in 64 bits. */
#ifndef FASTUN_SHARED_CLOCK_H
#define FASTUN_SHARED_CLOCK_H

enum { NS_PER_MS = 1000 * 1000, NS_PER_S = 1000 * 1000 * 1000 };

#endif
