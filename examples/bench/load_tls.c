/*
 * The load generator's links by TLS, over OpenSSL. This is a part of load.c.
 *
 * The server is not verified, and nothing is resumed: each connection has a whole handshake. What is negotiated is
 * fixed, so that all servers do the same cryptography, with whatever OpenSSL they are linked.
 *
 * A link's handshake is a part of sending the first bytes: OpenSSL does it when it is asked to write.
 */
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>

static void fail_with_tls(const char *what)
{
    char text[256], reason[160] = "the connection ended";
    if (ERR_peek_error() != 0)
        ERR_error_string_n(ERR_peek_error(), reason, sizeof reason);
    snprintf(text, sizeof text, "%s by TLS: %s", what, reason);
    fail_plainly(text);
}

static SSL_CTX *make_tls_context(void)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    if (context == NULL || SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(context, "TLS_AES_256_GCM_SHA384") != 1 ||
        SSL_CTX_set1_groups_list(context, "X25519") != 1)
        fail_with_tls("preparing");
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    /* One system call for a record, instead of one for its head and one for the rest. */
    SSL_CTX_set_read_ahead(context, 1);
#ifdef SSL_OP_IGNORE_UNEXPECTED_EOF
    SSL_CTX_set_options(context, SSL_OP_IGNORE_UNEXPECTED_EOF); /* see has_tls_ended() */
#endif
    /* OpenSSL writes to sockets without MSG_NOSIGNAL. */
    signal(SIGPIPE, SIG_IGN);
    return context;
}

static void begin_tls(struct link *link)
{
    static SSL_CTX *context;
    if (context == NULL)
        context = make_tls_context();
    SSL *tls = SSL_new(context);
    if (tls == NULL || SSL_set_fd(tls, link->fd) != 1)
        fail_with_tls("beginning");
    SSL_set_connect_state(tls);
    begin_plainly(link);
    link->tls = tls;
}

/* The event that a call waits for which had the result *result*; the process ends here if it was an error. */
static uint32_t awaited_by_tls(SSL *tls, int result, const char *what)
{
    int error = SSL_get_error(tls, result);
    if (error == SSL_ERROR_WANT_READ)
        return EPOLLIN;
    if (error == SSL_ERROR_WANT_WRITE)
        return EPOLLOUT;
    if (error == SSL_ERROR_SYSCALL && errno != 0)
        fail(what);
    fail_with_tls(what);
    return 0;
}

static ssize_t taken_by_tls(size_t size)
{
    errno = EAGAIN;
    return size > 0 ? (ssize_t)size : -1;
}

static ssize_t send_by_tls(struct link *link, const char *data, size_t size)
{
    size_t sent = 0, part;
    link->send_waits = 0;
    while (sent < size) {
        ERR_clear_error();
        errno = 0;
        int result = SSL_write_ex(link->tls, data + sent, size - sent, &part);
        if (result != 1) {
            link->send_waits = awaited_by_tls(link->tls, result, "send");
            break;
        }
        sent += part;
    }
    return taken_by_tls(sent);
}

/* By close_notify or without: asyncio sends none before Python 3.11. OpenSSL 1.1 sees an error without number then. */
static bool has_tls_ended(SSL *tls, int result)
{
    int error = SSL_get_error(tls, result);
    return error == SSL_ERROR_ZERO_RETURN || (error == SSL_ERROR_SYSCALL && errno == 0);
}

/* The end of the connection, which comes after that of TLS, tells that the server is done. */
static ssize_t receive_behind_tls(struct link *link, char *data, size_t size)
{
    ssize_t received = recv(link->fd, data, size, 0);
    if (received > 0)
        fail_plainly("the server sent something after the end of TLS");
    return received;
}

static ssize_t receive_by_tls(struct link *link, char *data, size_t size)
{
    size_t received = 0, part;
    link->receive_waits = EPOLLIN;
    /* epoll knows nothing of what OpenSSL has read already, so nothing whole may stay there. */
    do {
        ERR_clear_error();
        errno = 0;
        int result = SSL_read_ex(link->tls, data + received, size - received, &part);
        if (result != 1) {
            if (!has_tls_ended(link->tls, result))
                link->receive_waits = awaited_by_tls(link->tls, result, "recv");
            else if (received == 0)
                return receive_behind_tls(link, data, size);
            break;
        }
        received += part;
    } while (received < size && SSL_has_pending(link->tls));
    return taken_by_tls(received);
}

static void end_tls(struct link *link)
{
    ERR_clear_error();
    /* 0 is success: only the server's close_notify is missing. There is room for ours, since all before it was read. */
    if (SSL_shutdown(link->tls) < 0)
        fail_with_tls("close_notify");
    end_plainly(link);
}

static void close_tls(struct link *link)
{
    SSL_free(link->tls);
    close_plainly(link);
}

static const struct wire tls_wire = {begin_tls, send_by_tls, receive_by_tls, end_tls, close_tls};
