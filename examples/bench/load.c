/*
 * The load generator: the clients of the benchmark's servers.
 *
 *     load CORE MODE ADDRESS SIZE ACTIVE IDLE
 *
 * CORE     the processor to run on, shared with the server
 * MODE     echo      each of ACTIVE connections sends SIZE bytes, waits for the whole echo, and sends again
 *          http      the same with a GET and its answer, which is always as long as the first; SIZE does not count
 *          churn     each of ACTIVE clients connects, gets one echo of SIZE bytes, closes, and connects again
 *          request   sends a number N (8 bytes, big-endian) and waits for one byte that says that N things are done
 *          send      the same, with N bytes of data after the number
 *          receive   sends a number N and reads N bytes
 * ADDRESS  tcp:PORT or udp:PORT on 127.0.0.1, or unix:PATH; tls:PORT is TLS over TCP, if compiled with it (load_tls.c)
 * IDLE     echo: connections that have exchanged one message each and are silent from then on
 *
 * It connects, prints "ready", and then does what each line on its standard input asks for: a line is the number of
 * messages, connections or bytes, and the answer is the processor time that this process took for it, in nanoseconds.
 * The end of its input ends it.
 *
 *     cc -O2 -o load load.c                                     without TLS
 *     cc -O2 -o load -DWITH_TLS load.c -lssl -lcrypto           with TLS
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

#define BUFFER_SIZE (256 * 1024)
#define GET "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
#define EVENTS 512
/* A server that does nothing for so long is taken to have lost a message. */
#define PATIENCE_S 30

/* What bytes go through: a socket, and what TLS has made of it. */
struct link {
    int fd;
    void *tls;
    /* The events that the next attempt waits for, EPOLLIN or EPOLLOUT; to send, 0 if the last one sent everything. */
    uint32_t send_waits, receive_waits;
};

/* How bytes go through a link. Sending and receiving look like send(2) and recv(2), and take as much as they can. */
struct wire {
    void (*begin)(struct link *); /* on a socket that is connected, and blocking */
    ssize_t (*send)(struct link *, const char *, size_t);
    ssize_t (*receive)(struct link *, char *, size_t);
    void (*end)(struct link *); /* say that nothing more will be sent, when everything was */
    void (*close)(struct link *);
};

struct connection {
    struct link link;
    size_t sent;      /* of the message under way */
    size_t received;  /* of its echo */
    uint32_t watched; /* the events */
};

static struct {
    const char *mode;
    const struct wire *wire;
    struct sockaddr_storage address;
    socklen_t address_size;
    bool is_tcp, is_datagram, ends_with_close;
    size_t size, answer_size;
    int active, idle;
} load;

static char message[BUFFER_SIZE], buffer[BUFFER_SIZE];
static int epoll_fd;
static struct connection *connections;

static void fail(const char *what)
{
    fprintf(stderr, "load %s: %s: %s\n", load.mode, what, strerror(errno));
    exit(1);
}

static void fail_plainly(const char *what)
{
    fprintf(stderr, "load %s: %s\n", load.mode, what);
    exit(1);
}

/* Plain links, and those by TLS. */

static void begin_plainly(struct link *link)
{
    link->tls = NULL;
    link->send_waits = 0;
    link->receive_waits = EPOLLIN;
}

static ssize_t send_plainly(struct link *link, const char *data, size_t size)
{
    ssize_t sent = send(link->fd, data, size, MSG_NOSIGNAL);
    link->send_waits = sent == (ssize_t)size ? 0 : EPOLLOUT;
    return sent;
}

static ssize_t receive_plainly(struct link *link, char *data, size_t size)
{
    return recv(link->fd, data, size, 0);
}

static void end_plainly(struct link *link)
{
    shutdown(link->fd, SHUT_WR);
}

static void close_plainly(struct link *link)
{
    close(link->fd);
}

static const struct wire plain_wire = {begin_plainly, send_plainly, receive_plainly, end_plainly, close_plainly};

#ifdef WITH_TLS
#include "load_tls.c"
#endif

static const struct wire *find_tls_wire(void)
{
#ifdef WITH_TLS
    return &tls_wire;
#else
    fail_plainly("this load generator was compiled without TLS");
    return NULL;
#endif
}

/* Connecting. */

static void parse_address(const char *text)
{
    memset(&load.address, 0, sizeof load.address);
    load.wire = &plain_wire;
    if (strncmp(text, "unix:", 5) == 0) {
        struct sockaddr_un *address = (struct sockaddr_un *)&load.address;
        address->sun_family = AF_UNIX;
        if (strlen(text + 5) >= sizeof address->sun_path)
            fail_plainly("the path of the UNIX socket is too long");
        strcpy(address->sun_path, text + 5);
        load.address_size = sizeof *address;
        return;
    }
    struct sockaddr_in *address = (struct sockaddr_in *)&load.address;
    bool is_tls = strncmp(text, "tls:", 4) == 0;
    load.is_tcp = is_tls || strncmp(text, "tcp:", 4) == 0;
    load.is_datagram = strncmp(text, "udp:", 4) == 0;
    if (!load.is_tcp && !load.is_datagram)
        fail_plainly("the address must begin with tcp:, tls:, udp: or unix:");
    if (is_tls)
        load.wire = find_tls_wire();
    address->sin_family = AF_INET;
    address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address->sin_port = htons((uint16_t)atoi(text + 4));
    load.address_size = sizeof *address;
}

/* Every closed connection keeps its client port for a minute. Many source addresses have ports enough for all. */
static void bind_to_some_address(int fd)
{
    static uint32_t turn;
    const int one = 1;
    struct sockaddr_in source = {.sin_family = AF_INET};
    source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + turn++ % 200);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&source, sizeof source) < 0)
        fail("bind");
}

static void connect_blocking(struct link *link)
{
    const int one = 1;
    const struct timeval patience = {.tv_sec = PATIENCE_S};
    int fd = socket(load.address.ss_family, load.is_datagram ? SOCK_DGRAM : SOCK_STREAM, 0);
    if (fd < 0)
        fail("socket");
    if (load.ends_with_close && load.is_tcp)
        bind_to_some_address(fd);
    if (connect(fd, (struct sockaddr *)&load.address, load.address_size) < 0)
        fail("connect");
    if (load.is_tcp)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    link->fd = fd;
    load.wire->begin(link);
}

static void send_all(struct link *link, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t sent = load.wire->send(link, data, size);
        if (sent < 0)
            fail("send");
        data += sent;
        size -= (size_t)sent;
    }
}

static void receive_all(struct link *link, uint64_t size)
{
    while (size > 0) {
        ssize_t received = load.wire->receive(link, buffer, size < sizeof buffer ? size : sizeof buffer);
        if (received < 0)
            fail("recv");
        if (received == 0)
            fail_plainly("the server closed the connection");
        size -= (uint64_t)received;
    }
}

/* Receive the first answer of HTTP; return its size, as its head tells it. */
static size_t receive_first_answer(struct link *link)
{
    static const char length[] = "\r\nContent-Length:";
    const char *end, *field;
    size_t received = 0;
    /* Nothing else was received yet, so there are zeros behind what is. */
    while ((end = strstr(buffer, "\r\n\r\n")) == NULL) {
        ssize_t part = load.wire->receive(link, buffer + received, sizeof buffer - 1 - received);
        if (part < 0)
            fail("recv");
        if (part == 0)
            fail_plainly("there is no end to the head of the server's answer");
        received += (size_t)part;
    }
    if (strncmp(buffer, "HTTP/1.1 200 ", 13) != 0 || (field = strcasestr(buffer, length)) == NULL || field > end)
        fail_plainly("the server's answer is not a 200 of known length");
    size_t size = (size_t)(end + 4 - buffer) + (size_t)atol(field + sizeof length - 1);
    if (received > size)
        fail_plainly("the server's answer is longer than its head tells");
    receive_all(link, size - received);
    return size;
}

/* One message there and back, after which the server has certainly accepted the connection. */
static void connect_and_greet(struct link *link)
{
    connect_blocking(link);
    send_all(link, message, load.size);
    if (load.answer_size == 0)
        load.answer_size = receive_first_answer(link);
    else
        receive_all(link, load.answer_size);
}

/* Echo and churn: many connections, one epoll. */

static void watch(struct connection *connection, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = connection};
    if (epoll_ctl(epoll_fd, operation, connection->link.fd, &event) < 0)
        fail("epoll_ctl");
    connection->watched = events;
}

/* Watch for what the link waits for, and always for the end of the connection. */
static void watch_again(struct connection *connection)
{
    uint32_t events = EPOLLIN | connection->link.send_waits | connection->link.receive_waits;
    if (events != connection->watched)
        watch(connection, EPOLL_CTL_MOD, events);
}

static void send_some(struct connection *connection)
{
    ssize_t sent = load.wire->send(&connection->link, message + connection->sent, load.size - connection->sent);
    if (sent < 0) {
        if (errno != EAGAIN)
            fail("send");
        sent = 0;
    }
    connection->sent += (size_t)sent;
    watch_again(connection);
}

static void begin_message(struct connection *connection)
{
    connection->sent = connection->received = 0;
    send_some(connection);
}

static void make_nonblocking(int fd)
{
    if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        fail("fcntl");
}

static void begin_client(struct connection *connection)
{
    connect_blocking(&connection->link);
    make_nonblocking(connection->link.fd);
    watch(connection, EPOLL_CTL_ADD, EPOLLIN);
    begin_message(connection);
}

/* Whether this ends a message, or in churn a connection. */
static bool receive_some(struct connection *connection)
{
    ssize_t received = load.wire->receive(&connection->link, buffer, sizeof buffer);
    watch_again(connection);
    if (received < 0) {
        if (errno == EAGAIN)
            return false;
        fail("recv");
    }
    bool complete = connection->received == load.answer_size;
    if (received == 0) {
        if (!load.ends_with_close || !complete)
            fail_plainly("the server closed the connection");
        load.wire->close(&connection->link);
        return true;
    }
    connection->received += (size_t)received;
    if (connection->received < load.answer_size)
        return false;
    if (complete || connection->received > load.answer_size || buffer[received - 1] != message[load.size - 1])
        fail_plainly("the answer is not the one that was expected");
    if (!load.ends_with_close)
        return true;
    /* The server's EOF, which comes next, tells that it has done all its work for this connection. */
    load.wire->end(&connection->link);
    return false;
}

static void run_messages(uint64_t count)
{
    static struct epoll_event events[EVENTS];
    void (*begin)(struct connection *) = load.ends_with_close ? begin_client : begin_message;
    uint64_t begun = 0, done = 0;
    for (; begun < count && begun < (uint64_t)load.active; begun++)
        begin(&connections[begun]);
    while (done < count) {
        int ready = epoll_wait(epoll_fd, events, EVENTS, PATIENCE_S * 1000);
        if (ready < 0)
            fail("epoll_wait");
        if (ready == 0)
            fail_plainly("the server has not answered for a long time: was a message lost?");
        for (int i = 0; i < ready; i++) {
            struct connection *connection = events[i].data.ptr;
            struct link *link = &connection->link;
            if (events[i].events & link->send_waits)
                send_some(connection);
            /* What the peer sends is for the sender, if that waits for it, as in the handshake of TLS. */
            if (link->send_waits & EPOLLIN || !(events[i].events & (link->receive_waits | EPOLLERR | EPOLLHUP)))
                continue;
            if (!receive_some(connection))
                continue;
            done++;
            if (begun < count) {
                begun++;
                begin(connection);
            }
        }
    }
}

static void open_connections(void)
{
    epoll_fd = epoll_create1(0);
    connections = calloc((size_t)load.active, sizeof *connections);
    if (epoll_fd < 0 || connections == NULL)
        fail("preparing");
    for (int i = 0; i < load.idle; i++)
        connect_and_greet(&(struct link){.fd = -1});
    for (int i = 0; i < load.active && !load.ends_with_close; i++) {
        connect_and_greet(&connections[i].link);
        make_nonblocking(connections[i].link.fd);
        watch(&connections[i], EPOLL_CTL_ADD, EPOLLIN);
    }
}

/* Request, send and receive: one connection. */

static void run_request(struct link *link, uint64_t count)
{
    unsigned char header[8];
    for (int i = 0; i < 8; i++)
        header[i] = (unsigned char)(count >> (56 - 8 * i));
    send_all(link, (char *)header, sizeof header);
    if (strcmp(load.mode, "receive") == 0) {
        receive_all(link, count);
        return;
    }
    if (strcmp(load.mode, "send") == 0)
        for (uint64_t left = count; left > 0;) {
            size_t size = left < sizeof message ? (size_t)left : sizeof message;
            send_all(link, message, size);
            left -= size;
        }
    receive_all(link, 1);
}

/* The process. */

static void settle(int core)
{
    cpu_set_t cores;
    struct sched_param parameters = {0};
    struct rlimit files;
    CPU_ZERO(&cores);
    CPU_SET(core, &cores);
    if (sched_setaffinity(0, sizeof cores, &cores) < 0)
        fail("sched_setaffinity");
    if (sched_setscheduler(0, SCHED_BATCH, &parameters) < 0)
        fail("sched_setscheduler");
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
}

static uint64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int main(int argc, char **argv)
{
    load.mode = argc > 2 ? argv[2] : "?";
    if (argc != 7)
        fail_plainly("expected CORE MODE ADDRESS SIZE ACTIVE IDLE");
    load.ends_with_close = strcmp(load.mode, "churn") == 0;
    load.size = (size_t)atol(argv[4]);
    load.active = atoi(argv[5]);
    load.idle = atoi(argv[6]);
    parse_address(argv[3]);
    settle(atoi(argv[1]));
    if (load.size > BUFFER_SIZE)
        fail_plainly("the message is too large");
    /* Whatever reads lines finds the end of one at the end of each message. */
    memset(message, 'x', sizeof message);
    if (load.size > 0)
        message[load.size - 1] = '\n';
    load.answer_size = load.size;
    bool is_http = strcmp(load.mode, "http") == 0;
    bool is_echo = load.ends_with_close || is_http || strcmp(load.mode, "echo") == 0;
    if (is_http) {
        load.size = sizeof GET - 1;
        load.answer_size = 0; /* until the first one comes */
        memcpy(message, GET, sizeof GET);
    }
    struct link link;
    if (is_echo)
        open_connections();
    else
        connect_blocking(&link);
    puts("ready");
    fflush(stdout);
    char line[64];
    while (fgets(line, sizeof line, stdin) != NULL) {
        uint64_t count = strtoull(line, NULL, 10), before = cpu_ns();
        if (is_echo)
            run_messages(count);
        else
            run_request(&link, count);
        printf("%llu\n", (unsigned long long)(cpu_ns() - before));
        fflush(stdout);
    }
    return 0;
}
