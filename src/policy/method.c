#include "policy/method.h"

#include <string.h>

/* Neither TRACE nor CONNECT: no rule gives them. */
static const char *const names[METHODS_COUNT] = {
	"GET",
	"HEAD",
	"OPTIONS",
	"POST",
	"PUT",
	"PATCH",
	"DELETE",
	"ACL",
	"BIND",
	"CHECKIN",
	"CHECKOUT",
	"COPY",
	"LABEL",
	"LINK",
	"LOCK",
	"MERGE",
	"MKACTIVITY",
	"MKCALENDAR",
	"MKCOL",
	"MKREDIRECTREF",
	"MKWORKSPACE",
	"MOVE",
	"ORDERPATCH",
	"PRI",
	"PROPFIND",
	"PROPPATCH",
	"QUERY",
	"REBIND",
	"REPORT",
	"SEARCH",
	"UNBIND",
	"UNCHECKOUT",
	"UNLINK",
	"UNLOCK",
	"UPDATE",
	"UPDATEREDIRECTREF",
	"VERSION-CONTROL",
};

enum {
	GET_HEAD = 3,
	READ_ONLY = 7,
	WRITE = 63,
};

uint64_t method_bit(struct span name)
{
	for (unsigned i = 0; i < METHODS_COUNT; i++)
		if (span_is(name, names[i]))
			return (uint64_t)1 << i;
	return 0;
}

uint64_t method_word(struct span word)
{
	uint64_t got = method_bit(word);

	if (span_is(word, "read-only"))
		return READ_ONLY;
	if (span_is(word, "write"))
		return WRITE;
	if (span_is(word, "any"))
		return METHODS_ANY;
	return got & 1 ? GET_HEAD : got;
}

void method_put(struct buf *b, uint64_t set)
{
	bool first = true;

	if (set == METHODS_ANY) {
		buf_put_str(b, "any method");
		return;
	}
	for (unsigned i = 0; i < METHODS_COUNT; i++) {
		if (!(set >> i & 1))
			continue;
		if (!first)
			buf_put_str(b, ", ");
		first = false;
		buf_put_str(b, names[i]);
	}
}

const char *method_name(unsigned i)
{
	return i < METHODS_COUNT ? names[i] : NULL;
}
