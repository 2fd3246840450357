/*
 * http_pair: a client and a server of src/http/conn.h, joined in memory, and a log of their events.
 *
 * The server answers by the request's path: "/echo" with its body and trailers, "/empty" with 204,
 * "/big" with PAIR_BIG_BYTES, "/hold" not at all, "/ws" with 101 and an echo, anything else with
 * "ok". A refused request is answered with the reason's status.
 */
#pragma once

#include "http/conn.h"

enum { PAIR_LOG_MAX = 64 << 10, PAIR_BIG_BYTES = 3 << 20, PAIR_STREAMS_MAX = 256 };

struct pair_stream {
	uint32_t id;
	uint8_t path; /* first letter after the '/' */
	uint64_t received;
	uint64_t owed;         /* of "/big" */
	uint8_t held[1 << 16]; /* of "/echo", not yet sent back */
	size_t held_len;
	bool ended, opaque, asked;
};

struct pair_side {
	struct http_conn *conn;
	struct buf log;
	uint8_t log_bytes[PAIR_LOG_MAX];
	struct pair_stream *streams[PAIR_STREAMS_MAX];
	bool server;
	bool hold;      /* does not consume what it reads */
	size_t most;    /* bytes ever held for one stream */
	uint64_t total; /* bytes of bodies read */
	unsigned heads, ends, resets, refused;
	uint16_t status; /* of the last response */
	uint32_t flags;  /* of the last head */
	enum http_reason why;
	enum http_reset reset;
};

struct pair {
	struct pair_side client, server;
	size_t piece; /* bytes moved at a time; 0: all */
	uint64_t now_ms;
};

/* Makes both; aborts if there is no memory. */
void pair_open(struct pair *p, const struct http_conn_opts *server);
void pair_close(struct pair *p);

/* Moves bytes both ways until neither side has any for the other. False: one refused what came. */
bool pair_pump(struct pair *p);

/* Gives bytes to one side as if its peer had sent them. The answer of http_conn_recv(). */
int pair_inject(struct pair_side *s, uint64_t now_ms, const void *data, size_t len);

/* One side alone, for hostile bytes. */
void pair_side_open(struct pair_side *s, const struct http_conn_opts *opts);
void pair_side_close(struct pair_side *s);

/* A request head for the client: method, path, and a body's framing. */
void pair_request(struct http_head *h, const char *method, const char *path, uint8_t framing,
                  uint64_t length);
