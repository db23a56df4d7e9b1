/* threads: what the kernel knows of each thread on its own (capabilities, no_new_privs, Landlock),
 * changed in all of them. */
#ifndef FASTUN_CONFINE_THREADS_H
#define FASTUN_CONFINE_THREADS_H

/* Has each thread of this process call `step`, which returns 0 or -errno, may be called again by a
 * thread that has called it, and makes system calls only: the others are in a signal handler.
 * Returns the first error; -ETIMEDOUT: one does not take signals. Not from two threads at once. */
int threads_each(int (*step)(void));

#endif
