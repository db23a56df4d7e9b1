#define _GNU_SOURCE
#include "host/udp_address.h"
#include "inbound/link_reader.h"
#include "datagram_link.h"

#include <arpa/inet.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "worker/key_commands.h"

enum { END_KEY = 99, END_INDEX = 0xeeee };

const uint8_t mac1_key[AEAD_KEY_SIZE] = {0x6d, 0x61, 0x63, 0x31};
static const uint8_t cookie_key[AEAD_KEY_SIZE] = {0x63};
struct udp_address sender_endpoints[N_SENDERS];

static int socket_fd, senders[N_SENDERS];
static struct sockaddr_in socket_address;
static uint64_t end_counter;

static int open_on_loopback(struct sockaddr_in *address) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    socklen_t length = sizeof *address;
    *address =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CHECK_EQUAL(bind(fd, (struct sockaddr *)address, length), 0);
    CHECK_EQUAL(getsockname(fd, (struct sockaddr *)address, &length), 0);
    return fd;
}

static void open_sender(unsigned sender) {
    struct sockaddr_in address;
    senders[sender] = open_on_loopback(&address);
    sender_endpoints[sender] = (struct udp_address){.socket_index = DATAGRAM_SOCKET,
                                                    .family = UDP_ADDRESS_IPV4,
                                                    .port = ntohs(address.sin_port),
                                                    .address = {127, 0, 0, 1},
                                                    .local_zone = 1,
                                                    .local = {127, 0, 0, 1}};
}

void datagrams_open(enum aead aead, bool has_offload) {
    uint8_t key[AEAD_KEY_SIZE];
    int on = 1, joins = has_offload, size = 4 << 20;
    reader_open(aead);
    socket_fd = open_on_loopback(&socket_address);
    CHECK_EQUAL(setsockopt(socket_fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on), 0);
    CHECK_EQUAL(setsockopt(socket_fd, IPPROTO_IP, IP_RECVTOS, &on, sizeof on), 0);
    CHECK_EQUAL(setsockopt(socket_fd, IPPROTO_UDP, UDP_GRO, &joins, sizeof joins), 0);
    setsockopt(socket_fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size); /* with the right to */
    CHECK_EQUAL(loop_add_socket(reader.loop, DATAGRAM_SOCKET, socket_fd, has_offload), 0);
    CHECK_EQUAL(loop_set_gate_keys(reader.loop, mac1_key, cookie_key), 0);
    for (unsigned sender = 0; sender < N_SENDERS; sender++)
        open_sender(sender);
    sealing_key(key, END_KEY);
    CHECK_EQUAL(key_add_for_receiving(reader.loop, OTHER_SLOT, AEAD_AES_256_GCM, key, END_INDEX, 0,
                                      UINT64_MAX),
                0);
    end_counter = 0;
}

void datagrams_close(void) {
    reader_close();
    close(socket_fd);
    for (unsigned sender = 0; sender < N_SENDERS; sender++)
        close(senders[sender]);
}

/* -- sending ----------------------------------------------------------------------------------- */

void datagrams_send_train(unsigned sender, const void *bytes, size_t length, size_t segment) {
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(uint16_t))];
    uint16_t size = (uint16_t)segment;
    struct iovec iov = {(void *)(uintptr_t)bytes, length};
    struct msghdr message = {.msg_name = &socket_address,
                             .msg_namelen = sizeof socket_address,
                             .msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control};
    if (segment < length)
        control_append(&message, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof size);
    CHECK_EQUAL(sendmsg(senders[sender], &message, 0), length);
}

void datagrams_set_class(unsigned sender, int traffic_class) {
    CHECK_EQUAL(setsockopt(senders[sender], IPPROTO_IP, IP_TOS, &traffic_class, sizeof(int)), 0);
}

void datagram_send(unsigned sender, const void *bytes, size_t length) {
    datagrams_send_train(sender, bytes, length, length);
}

void datagram_send_sealed(unsigned sender) {
    datagram_send(sender, sealed.bytes + STREAM_LENGTH_PREFIX,
                  sealed.length - STREAM_LENGTH_PREFIX);
}

void datagram_send_good(unsigned sender, uint64_t counter) {
    make_packet(KEY, INDEX, counter);
    datagram_send_sealed(sender);
}

bool datagram_hear(unsigned sender, uint8_t bytes[HEARD_MAX], size_t *length) {
    ssize_t n = recv(senders[sender], bytes, HEARD_MAX, 0);
    *length = n > 0 ? (size_t)n : 0;
    return n >= 0;
}

bool endpoint_is(unsigned slot, const struct udp_address *expected) {
    struct udp_address endpoint;
    return peer_table_endpoint(reader.lane.peers, slot, &endpoint) != 0 &&
           udp_address_equal(&endpoint, expected);
}

/* -- running ----------------------------------------------------------------------------------- */

static void send_end(void) {
    static struct sealed_message end;
    const uint8_t content[] = {MESSAGE_CONTROL, 0, 0, 0};
    link_reader_of(reader.loop)->controls_full_at_ns[OTHER_SLOT] =
        0; /* this one is not to be limited */
    sealed_make(&end, AEAD_AES_256_GCM, END_KEY, END_INDEX, end_counter++, content, sizeof content);
    datagram_send(0, end.bytes + STREAM_LENGTH_PREFIX, end.length - STREAM_LENGTH_PREFIX);
}

void datagrams_run(void) {
    send_end();
    for (;;) {
        CHECK_EQUAL(loop_run(reader.loop), LOOP_EVENT);
        const struct loop_event *event = loop_event(reader.loop);
        if (event->kind == EVENT_CONTROL && event->index == END_INDEX)
            return;
        CHECK(reader.n_events < EVENTS_MAX);
        reader.events[reader.n_events++] = *event;
    }
}
