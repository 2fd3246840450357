/*
 * request: one request of the gate's, from its canonical head to the last byte of the answer.
 */
#pragma once

#include "egress/egress.h"

struct vault;

/* Takes a REQUEST's payload. -EBADMSG: it is damaged; every other failure is told to the gate. */
_must_ int request_open(struct vault *v, uint32_t stream, struct span payload);

/* BODY, TRAILERS, END, RESET or CREDIT of the gate's for a request, by its number. -EBADMSG. */
_must_ int request_frame(struct vault *v, uint32_t number, const struct egress_frame *f);

/* There is room in the link again. */
void request_resume_all(struct vault *v);
