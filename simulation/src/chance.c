/* What the system calls chance, in a program that simulates: the same numbers in every process.
 *
 * The keys of the standard library's hash maps and the seeds of tokio's schedulers are drawn with
 * getrandom(2). The standard library looks for this symbol before it makes the system call, "for
 * perf measurements that want to disable randomness for consistency", and so do other callers. One
 * process simulates one seed, on one thread.
 */
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

static uint64_t state = 7;

/* SplitMix64. */
static uint64_t next(void) {
    state += 0x9e3779b97f4a7c15u;
    uint64_t mixed = state;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
    return mixed ^ (mixed >> 31);
}

ssize_t getrandom(void *buffer, size_t length, unsigned flags) {
    (void)flags;
    unsigned char *bytes = buffer;
    for (size_t at = 0; at < length; at++) {
        bytes[at] = (unsigned char)next();
    }
    return (ssize_t)length;
}
