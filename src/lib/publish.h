/*
 * publish: a port of the host whose connections are a guest's.
 *
 * Pure. Errors    -EINVAL, with the flag's form
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"

enum {
	PUBLISH_MAX = 64,      /* of one sandbox */
	PUBLISH_TEXT_MAX = 64, /* "[address]:65535:65535", with room for its NUL */
};

struct publish {
	uint8_t family;     /* 4 or 6 */
	uint8_t addr[16];   /* what is listened on; of family 4 the first four, then zeros */
	uint16_t host_port; /* 0: any free one */
	uint16_t guest_port;
};

/* "[ADDRESS:]HOST:GUEST"; IPv6 in brackets. Without an address it is 127.0.0.1. */
_must_ int publish_parse(const char *text, struct publish *ret, struct err *e);

/* Can nobody but this machine's own programs reach it? */
bool publish_is_local(const struct publish *p);

/* The same again: "127.0.0.1:8080:80", "[::1]:8080:80". */
void publish_put(struct buf *b, const struct publish *p);
