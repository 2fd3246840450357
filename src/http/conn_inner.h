/* conn_inner: what the two versions of conn share. For src/http alone. */
#pragma once

#include "http/conn.h"

/* Bytes for the peer, grown as needed up to HTTP_OUT_MAX. */
struct conn_out {
	uint8_t *at;
	size_t len, size;
	size_t sent; /* of them gone */
};

struct conn_ops {
	void (*free)(struct http_conn *c);
	int (*recv)(struct http_conn *c, uint64_t now_ms, struct span *in);
	int (*recv_eof)(struct http_conn *c);
	struct span (*output)(struct http_conn *c);
	void (*sent)(struct http_conn *c, size_t n);
	int (*open)(struct http_conn *c, const struct http_head *h, uint32_t *ret_stream);
	bool (*can_open)(const struct http_conn *c);
	int (*reply)(struct http_conn *c, uint32_t stream, const struct http_head *h);
	int (*body)(struct http_conn *c, uint32_t stream, struct span *bytes);
	int (*end)(struct http_conn *c, uint32_t stream, const struct http_trailers *t);
	void (*reset)(struct http_conn *c, uint32_t stream, enum http_reset why);
	void (*consume)(struct http_conn *c, uint32_t stream, size_t n);
	void (*drain)(struct http_conn *c);
	bool (*finished)(struct http_conn *c);
	uint32_t (*streams)(const struct http_conn *c);
	size_t (*bytes)(const struct http_conn *c);
};

struct http_conn {
	const struct conn_ops *ops;
	const struct http_events *on;
	void *user;
	struct http_conn_opts opts;
	struct http_rules rules;
	enum http_reason why;
};

/* Each allocates its own, the struct above being its first member. NULL: out of memory. */
struct http_conn *h1_conn_new(void);
struct http_conn *h2_conn_new(const struct http_conn_opts *opts);

/* The rest of the buffer as a buf to append to, with room for `more` bytes if that can be had. */
_must_ bool conn_out_begin(struct conn_out *o, size_t more, struct buf *ret);
void conn_out_end(struct conn_out *o, const struct buf *b);
static inline size_t conn_out_left(const struct conn_out *o)
{
	return o->len - o->sent;
}
void conn_out_drop(struct conn_out *o, size_t n);
