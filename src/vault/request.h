/*
 * request: one request of the gate's, from its canonical head to the last byte of the answer.
 *
 * Hostile   the gate on one side, the server on the other
 * Bounds    what is under way each way is what was granted: EGRESS_WINDOW_BYTES
 */
#pragma once

#include "egress/egress.h"
#include "http/conn.h"

struct policy;
struct request;
struct upstream;
struct vault;

/* Takes a REQUEST's payload. -EBADMSG: it is damaged; every other failure is told to the gate. */
_must_ int request_open(struct vault *v, uint32_t stream, struct span payload);

/* BODY, TRAILERS, END, RESET or CREDIT of the gate's for a request, by its number. -EBADMSG. */
_must_ int request_frame(struct vault *v, uint32_t number, const struct egress_frame *f);

/* There is room in the link again. */
void request_resume_all(struct vault *v);
void request_judge_all(struct vault *v, const struct policy *old);
void request_sweep(struct vault *v); /* those that have been silent too long */
/*
 * Is more held than VAULT_HELD_MAX? Then, of the requests that hold no less than their share, the
 * one ends of which nothing was heard for longest. So who holds little, and moves, goes on.
 */
void request_relieve(struct vault *v);
void request_touch_all(struct vault *v); /* from now on, for all of them */
void request_free_all(struct vault *v);

/* --- from its upstream --- */

void request_tie(struct request *q, struct upstream *u);
void request_ready(struct request *q); /* the connection can take it now */
/* There will be no connection, or it ended. words: of a certificate's fault; else NULL. */
void request_failed(struct request *q, enum egress_fail why, long fault, const char *words);
uint32_t request_stream(const struct request *q);      /* on the upstream; 0: not sent yet */
struct request *request_next(const struct request *q); /* of the same upstream */
void request_set_next(struct request *q, struct request *next);

void request_head(struct request *q, const struct http_head *h);
void request_body(struct request *q, struct span bytes);
void request_trailers(struct request *q, const struct http_trailers *t);
void request_ended(struct request *q);
void request_refused(struct request *q, enum http_reason why);
void request_was_reset(struct request *q, enum http_reset why);
void request_room(struct request *q);
