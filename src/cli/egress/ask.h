/*
 * ask: what a policy would answer to a connection or a request: `berm policy check --ask`.
 *
 * A URL is read as the gate reads a request: host, path and query in the same canonical form. No
 * name is looked up, so rules about addresses count only where an address is asked for.
 */
#pragma once

#include "base/err.h"
#include "policy/policy.h"

enum {
	ASK_WORD_MAX = 4096,             /* bytes of a URL */
	ASK_PATH_MAX = 3 * ASK_WORD_MAX, /* of its path in canonical form: each byte escaped */
};

struct ask {
	const char *shown;  /* as it was given, for people; borrowed */
	const char *method; /* NULL: none was given */
	bool request;       /* it is a URL, not HOST:PORT */
	uint8_t seen;       /* enum policy_seen of a URL */
	uint8_t transport;
	uint16_t port;
	bool is_addr;
	struct policy_addr addr; /* some public one for a name */
	struct host_name name;
	size_t path_len;
	struct span query; /* borrowed from the word */
	uint8_t path[ASK_PATH_MAX];
};

/* Is this word a question, and no file's name: a URL, HOST:PORT, HOST:PORT/udp? */
bool ask_is_question(const char *word);

/* Is it the method in front of one? */
bool ask_is_method(const char *word);

/* -EINVAL: the text says what is wrong with the word. method may be NULL; both are borrowed. */
_must_ int ask_parse(const char *method, const char *word, struct ask *ret, struct err *e);

struct ask_answer {
	struct policy_ask ask; /* points into the struct ask; what the verdict is about */
	struct policy_verdict verdict;
	uint64_t secrets; /* bit i: the i-th may be used there */
	const struct host_name *names[1];
};

static inline bool ask_allowed(const struct ask_answer *a)
{
	return a->verdict.act == POLICY_ALLOW;
}

/* As a lookup, a connection, its first bytes and a request are judged, to the first refusal. */
void ask_judge(const struct policy *p, const struct ask *q, struct ask_answer *ret);
