/*
 * Theory of operation
 *
 * One thread, one loop, two sockets that came with the process and those it makes. Everything the
 * gate asks for is judged here once more, by the same pure functions over the same compiled policy,
 * and by what only the vault knows: which address it gave for which name, and which addresses are
 * the host's own. So a gate that was taken over reaches what the policy allows, and nothing else.
 *
 * Before the jail closes: the resolvers are read, a socket for the kernel's routes is opened, the
 * roots' bytes are read. After it there is no file, no other kind of socket than of TCP and UDP,
 * and nobody can be listened for.
 */
#include "vault/inner.h"

#include "vault/request.h"
#include "vault/upstream.h"

#include <assert.h>
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define VAULT_ROOTS_PATH "/etc/ssl/certs/ca-certificates.crt"

struct judge vault_judge(const struct vault *v)
{
	return (struct judge){ .policy = v->policy, .pins = v->pins, .routes = v->routes };
}

void vault_end(struct vault *v, int code, const char *fmt, ...)
{
	va_list args;

	if (v->ended)
		return;
	v->ended = true;
	v->end.code = code;
	va_start(args, fmt);
	(void)vsnprintf(v->end.text, sizeof(v->end.text), fmt, args);
	va_end(args);
	uv_stop(&v->loop);
}

/* --- names --- */

static void say_resolved(struct vault *v, uint32_t stream, const struct egress_resolved *r)
{
	egress_put_resolved(peer_begin(v), stream, r);
	peer_must(v);
}

static void say_unresolved(struct vault *v, uint32_t stream, enum egress_fail why, uint32_t ttl_s)
{
	const struct egress_resolved r = { .fail = (uint8_t)why, .ttl_s = ttl_s };

	say_resolved(v, stream, &r);
}

void vault_resolve(struct vault *v, uint32_t stream, const struct egress_resolve *q)
{
	struct judge j = vault_judge(v);
	struct host_name name;
	enum egress_fail why;
	int r;

	v->stats.resolves++;
	if (host_name_parse(q->name, &name) < 0 || !span_equal(host_span(&name), q->name)) {
		say_unresolved(v, stream, EGRESS_DENIED, 0);
		return;
	}
	why = judge_name(&j, &name);
	if (why != EGRESS_OK) {
		say_unresolved(v, stream, why, 0);
		return;
	}
	r = resolver_ask(v->resolver, &name, q->want, stream);
	if (r < 0)
		say_unresolved(v, stream, r == -EBUSY ? EGRESS_LIMIT : EGRESS_INTERNAL, 0);
}

/* An answer is good as a whole or not at all: one bad address in it is a sign of what it is for. */
static enum egress_fail judge_found(const struct judge *j, const struct host_name *name,
                                    const struct resolver_found *f)
{
	enum egress_fail why = judge_name(j, name); /* the policy may have changed meanwhile */

	for (unsigned i = 0; why == EGRESS_OK && i < f->chain_count; i++)
		why = judge_alias(j, &f->chain[i]);
	for (unsigned i = 0; why == EGRESS_OK && i < f->count; i++)
		why = judge_answer(j, &f->addr[i]);
	return why;
}

static void on_found(void *user, uint32_t stream, const struct host_name *name,
                     const struct resolver_found *f)
{
	struct egress_resolved out = { .ttl_s = f->ttl_s, .count = (uint8_t)f->count };
	struct vault *v = user;
	struct judge j = vault_judge(v);
	enum egress_fail why = (enum egress_fail)f->fail;

	if (why == EGRESS_OK)
		why = judge_found(&j, name, f);
	if (why == EGRESS_OK && pins_give(v->pins, name, f->addr, f->count) < 0)
		why = EGRESS_INTERNAL;
	if (why != EGRESS_OK) {
		say_unresolved(v, stream, why, why == f->fail ? f->ttl_s : 0);
		return;
	}
	for (unsigned i = 0; i < f->count; i++)
		out.addr[i] = judge_addr_out(&f->addr[i]);
	out.chain_count = (uint8_t)f->chain_count;
	for (unsigned i = 0; i < f->chain_count; i++)
		out.chain[i] = host_span(&f->chain[i]);
	say_resolved(v, stream, &out);
}

/* --- policy --- */

void vault_adopt(struct vault *v, struct policy *p, uint32_t generation)
{
	struct policy *old = v->policy;

	v->policy = p;
	v->generation = generation;
	if (!old)
		return; /* nothing was allowed, so nothing is open */
	pins_sweep(v->pins, p);
	peer_flush(v); /* the gate hears of it before it sees sockets end: it resets them */
	flow_judge_all(v, old);
	request_judge_all(v, old);
	upstream_drop_idle(v);
	policy_free(old);
}

/* --- life --- */

void vault_sweep_soon(struct vault *v)
{
	if (v->sweeping)
		return;
	v->sweeping = true;
	alarm_set(v->sweep, VAULT_SWEEP_MS);
}

static void on_sweep(void *user)
{
	struct vault *v = user;

	v->sweeping = false;
	if (!v->resting)
		request_sweep(v);
	upstream_sweep(v);
	if (v->requests.count > 0 || v->upstream_count > 0)
		vault_sweep_soon(v);
}

/* libcrypto reads no settings; the C library reads the time zone once, even for a time in UTC. */
static int open_crypto(struct err *e)
{
	unsigned char sum[EVP_MAX_MD_SIZE];

	tzset();

	if (OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) != 1 ||
	    EVP_Digest("", 0, sum, NULL, EVP_sha256(), NULL) != 1)
		return err_set(e, -EIO, "SHA-256 is not available");
	return 0;
}

static int open_parts(struct vault *v, const struct vault_fds *fds, struct err *e)
{
	int r = open_crypto(e);

	if (r == 0)
		r = routes_new(&v->routes, e);
	if (r == 0)
		r = pins_new(VAULT_PINS_MAX, &v->pins, e);
	if (r == 0)
		r = resolver_new(&v->loop, on_found, v, &v->resolver, e);
	if (r == 0)
		r = roots_new(VAULT_ROOTS_PATH, &v->roots, e);
	if (r == 0)
		r = store_new(&v->store, e);
	if (r == 0)
		r = alarm_new(&v->loop, control_policy_late, v, &v->policy_limit, e);
	if (r == 0)
		r = alarm_new(&v->loop, on_sweep, v, &v->sweep, e);
	if (r == 0)
		r = watch_new(&v->loop, v->control_fd, control_readable, v, &v->control_watch, e);
	if (r < 0) {
		(void)close(fds->link);
		return r;
	}
	return peer_open(v, fds->link, e);
}

int vault_new(const struct vault_fds *fds, unsigned fds_max, struct vault **ret, struct err *e)
{
	_own_(vault_free) struct vault *v = calloc(1, sizeof(*v));
	int r;

	if (!v) {
		(void)close(fds->control);
		(void)close(fds->link);
		return err_set(e, -ENOMEM, "out of memory");
	}
	v->control_fd = fds->control;
	v->said_last = &v->said_first;
	v->flows_max = VAULT_FLOWS_MAX;
	if (fds_max < VAULT_FDS_SPARE + VAULT_FLOWS_MAX)
		v->flows_max =
			fds_max > 2 * VAULT_FDS_SPARE ? fds_max - VAULT_FDS_SPARE : fds_max / 2;
	slots_init(&v->flows, v->flows_max);
	slots_init(&v->requests, VAULT_REQUESTS_MAX);
	r = uv_loop_init(&v->loop);
	if (r < 0) {
		(void)close(fds->link);
		return err_set(e, r, "start a loop: %s", uv_strerror(r));
	}
	v->loop_open = true;
	r = open_parts(v, fds, e);
	if (r < 0)
		return r;
	*ret = steal_ptr(&v);
	return 0;
}

void vault_free(struct vault *v)
{
	if (!v)
		return;
	v->ended = true;
	if (v->link) {
		flow_free_all(v);
		request_free_all(v);
		upstream_free_all(v);
	}
	slots_fini(&v->flows);
	slots_fini(&v->requests);
	roots_free(v->roots);
	store_free(v->store);
	resolver_free(v->resolver);
	routes_free(v->routes);
	pins_free(v->pins);
	policy_free(v->policy);
	peer_close(v);
	watch_free(v->control_watch);
	alarm_free(v->policy_limit);
	alarm_free(v->sweep);
	control_fini(v);
	if (v->loop_open) {
		(void)uv_run(&v->loop, UV_RUN_DEFAULT); /* handles that are closing */
		(void)uv_loop_close(&v->loop);
	}
	free(v);
}

static void say_hello(struct vault *v)
{
	egress_put_u32(peer_begin(v), EGRESS_HELLO, 0, EGRESS_VERSION);
	peer_must(v);
}

int vault_run(struct vault *v, struct err *e)
{
	control_say_ready(v);
	say_hello(v);
	control_watch_set(v);
	peer_flush(v);
	(void)uv_run(&v->loop, UV_RUN_DEFAULT);
	assert(v->ended); /* else somebody stopped watching all */
	return v->end.code < 0 ? err_set(e, v->end.code, "%s", v->end.text) : 0;
}
