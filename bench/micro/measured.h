/* measured: parts of the data path, each as a subject that can be run many times in a row.
 *
 * A subject is prepared, which is not timed, and then run as often as is liked. Its state is one
 * set of static variables that a neighbour may share: what was prepared last is what may be run.
 * Single-threaded.
 *
 * cffi parses this header (library.py): declarations only, and no enumerators of other headers.
 */
#ifndef FASTUN_MEASURED_H
#define FASTUN_MEASURED_H

#include <stddef.h>
#include <stdint.h>

/* `size` and `kind` are the subject's own. 0, or -errno. */
typedef int subject_prepare(size_t size, int kind);
/* Returns how many of the `n` operations did what they should. */
typedef uint64_t subject_run(uint64_t n);

struct subject {
    const char *name;
    const char *calibration; /* the name of the loop that its time is a ratio to */
    size_t n_bytes;          /* that an operation goes through; 0: its time does not hang on them */
    subject_prepare *prepare;
    subject_run *run;
    size_t size; /* bytes, or prefixes in a table */
    int kind;    /* IP version, or cipher */
};

/* Both end with a subject that has no name. */
extern const struct subject subjects[];
extern const struct subject calibrations[];

/* Of libgcrypt, as it is at run time. */
const char *measured_libgcrypt_version(void);

#endif
