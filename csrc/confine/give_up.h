/* give_up: what workers and gateway give up alike; of the calling thread. */
#ifndef FASTUN_CONFINE_GIVE_UP_H
#define FASTUN_CONFINE_GIVE_UP_H

/* Without CAP_SETPCAP it stays: no_new_privs and empty sets make it worth nothing. */
void give_up_bounding_set(void);

/* All sets but the bounding one; also 0 where they cannot be changed and only the inheritable one has
 * any. Returns 0 or -errno. */
int give_up_capabilities(void);

#endif
