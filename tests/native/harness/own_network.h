/* own_network: a network namespace of this process, and TUN and TAP devices in it. */
#ifndef OWN_NETWORK_H
#define OWN_NETWORK_H

#include <stdbool.h>

#include "fastun.h"

/* False: this machine does not let us, and the test has said that it skips. */
bool own_network_enter(void);
/* A device that is up. */
int own_network_device(const char *name, enum mode mode);
/* The same with 10.9.0.1/24 and fd09::1/64. */
int own_network_tun(const char *name);

#endif
