/* The system calls that a worker may make once it is confined: measured, and each with its reason.
 *
 * To add one, add a line. Nothing else has to change; a role has at most CALLS_MAX calls. Conditions
 * are on arguments that are numbers (a filter cannot follow pointers): ANY, or ARGUMENT(i, mask,
 * value) for (argument & mask) == value, or two of them; BYTES(n) is a read of so many. Several lines of one call are alternatives.
 *
 * The order is that of the checks, so the calls of every packet come first.
 *
 * Python makes no others: it talks to the gateway (recvmsg, sendmsg, close), and allocates. libc
 * allocates by brk and mmap. mremap it can do without, so that is refused (ENOMEM), which kills
 * nothing. glibc's functions are not always the call of their name: poll, epoll_wait and fstat have
 * others on other processors, and are not used after the start.
 */
#ifndef FASTUN_CONFINE_CALLS_H
#define FASTUN_CONFINE_CALLS_H

#define TUN_READER  (1u << ROLE_tun_reader)
#define LINK_WRITER (1u << ROLE_link_writer)
#define LINK_READER (1u << ROLE_link_reader)
#define TUN_WRITER  (1u << ROLE_tun_writer)
#define READERS     (TUN_READER | LINK_READER)
#define LINKS       (LINK_READER | LINK_WRITER)
#define ALL         (READERS | LINK_WRITER | TUN_WRITER)

enum { CALLS_MAX = 20 };

/* call, roles, condition, action, what for */
#define CONFINE_CALLS(X)                                                                           \
    X(read, TUN_READER, ANY, ALLOW, "frames from the device; the hairpin's eventfd")               \
    X(read, LINK_WRITER | TUN_WRITER, BYTES(8), ALLOW, "the ring's eventfd; of a frame nothing")   \
    X(write, TUN_READER, ANY, ALLOW, "wakes the link-writer by eventfd; ICMP answers")             \
    X(write, TUN_WRITER, ANY, ALLOW, "frames to the device")                                       \
    X(write, LINK_READER, ANY, ALLOW,                                                              \
      "frames to the device in place; wakes a switch's tun-reader")                                \
    X(writev, TUN_WRITER, ANY, ALLOW, "packets of one flow as one frame to the device")            \
    X(writev, LINK_WRITER, ANY, ALLOW, "messages to streams")                                      \
    X(sendmmsg, LINK_WRITER, ANY, ALLOW, "trains of datagrams")                                    \
    X(recvmmsg, LINK_READER, ANY, ALLOW, "datagrams")                                              \
    X(epoll_pwait, LINKS, ANY, ALLOW, "waits for sockets")                                         \
    X(futex, ALL, FUTEX(FUTEX_WAIT), ALLOW, "sleeps on the ring")                                  \
    X(futex, ALL, FUTEX(FUTEX_WAKE), ALLOW, "wakes the ring's other end; libc's own locks")        \
    X(ppoll, ALL, ANY, ALLOW, "waits for the device, the eventfd, the channel")                    \
    X(sendmsg, ALL, ANY, ALLOW, "reports to the gateway; messages in place; cookie replies")       \
    X(recvmsg, ALL, ANY, ALLOW, "the gateway's messages, with descriptors; streams")               \
    X(clock_gettime, ALL, ANY, ALLOW, "the time, where the vDSO has no clock")                     \
    X(restart_syscall, ALL, ANY, ALLOW, "a wait goes on after SIGSTOP and SIGCONT, or a suspend")  \
    X(epoll_ctl, LINKS, ANY, ALLOW, "links and sockets that come and go")                          \
    X(close, ALL, ANY, ALLOW, "their descriptors, and those of a capture")                         \
    X(getsockname, READERS | LINK_WRITER, ANY, ALLOW,                                              \
      "the family of a new socket; ports in a capture")                                            \
    X(setsockopt, LINK_WRITER, OPTION(IPPROTO_IP, IP_MTU_DISCOVER), ALLOW, "may be fragmented")    \
    X(setsockopt, LINK_WRITER, OPTION(IPPROTO_IPV6, IPV6_MTU_DISCOVER), ALLOW, "the same")         \
    X(setsockopt, LINK_WRITER, OPTION(IPPROTO_IPV6, IPV6_MTU), ALLOW, "fragments of that size")    \
    X(setsockopt, LINK_WRITER, OPTION(IPPROTO_TCP, TCP_NOTSENT_LOWAT), ALLOW, "a full uplink")     \
    X(getsockopt, LINK_WRITER | TUN_READER, OPTION(SOL_SOCKET, SO_MEMINFO), ALLOW,                 \
      "whether it is full")                                                                        \
    X(getsockopt, LINK_WRITER, OPTION(IPPROTO_TCP, TCP_INFO), ALLOW,                               \
      "a stream's queue on its path, and how long its packets are")                                \
    X(getrandom, LINK_READER, ANY, ALLOW, "nonces and secrets of cookies")                         \
    X(mmap, ALL, ARGUMENT(2, PROT_EXEC, 0), ALLOW, "memory, keys, rings of a capture; no code")    \
    X(munmap, ALL, ANY, ALLOW, "the same, given back")                                             \
    X(brk, ALL, ANY, ALLOW, "memory of libc")                                                      \
    X(mremap, ALL, ANY, REFUSE, "libc does without: it copies")                                    \
    X(madvise, ALL, ADVICE(MADV_DONTNEED), ALLOW, "queues that shrink; libc")                      \
    X(madvise, READERS, ADVICE(MADV_DONTDUMP), ALLOW, "new keys")                                  \
    X(madvise, READERS, ADVICE(MADV_DONTFORK), ALLOW, "the same")                                  \
    X(mlock, READERS, ANY, ALLOW, "the same; it is what mlock2 without a flag calls")              \
    X(exit_group, ALL, ANY, ALLOW, "the end")

#endif
