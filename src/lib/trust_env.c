#include "lib/trust_env.h"

#include "base/buf.h"

#include <string.h>

/* How a program takes the variable's file. */
enum use {
	ADDS,     /* beside the roots it has: the certificate alone */
	REPLACES, /* instead of them: the bundle, which has all */
};

/*
 * Each line: who reads it. Not here are Java (its store is a file of its own, and the variable that
 * names one makes it print a line) and what reads the system's store anyway.
 */
static const struct {
	const char *name;
	enum use use;
} vars[] = {
	{ "NODE_EXTRA_CA_CERTS", ADDS },                    /* Node.js, Bun */
	{ "DENO_CERT", ADDS },                              /* Deno */
	{ "SSL_CERT_FILE", REPLACES },                      /* OpenSSL, Python's ssl, Go, Rust */
	{ "REQUESTS_CA_BUNDLE", REPLACES },                 /* Python's requests */
	{ "PIP_CERT", REPLACES },                           /* pip */
	{ "CURL_CA_BUNDLE", REPLACES },                     /* curl */
	{ "GIT_SSL_CAINFO", REPLACES },                     /* git */
	{ "CARGO_HTTP_CAINFO", REPLACES },                  /* cargo */
	{ "AWS_CA_BUNDLE", REPLACES },                      /* AWS's tools */
	{ "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE", REPLACES }, /* gcloud */
	{ "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", REPLACES },   /* gRPC's core */
	{ "NIX_SSL_CERT_FILE", REPLACES },                  /* Nix */
};

enum { VAR_COUNT = sizeof(vars) / sizeof(vars[0]) };
_Static_assert((int)VAR_COUNT <= (int)TRUST_ENV_MAX, "there is room for all");

static bool is_set(struct span envv, const char *name)
{
	size_t len = strlen(name);
	struct span one;

	while (wire_next_str(&envv, &one))
		if (one.len > len && memcmp(one.at, name, len) == 0 && one.at[len] == '=')
			return true;
	return false;
}

static void put_var(struct buf *out, const char *name, struct span path)
{
	size_t len = strlen(name);

	buf_put_le16(out, (uint16_t)(len + 1 + path.len));
	buf_put(out, name, len);
	buf_put_u8(out, '=');
	buf_put_span(out, path);
}

void trust_env_add(struct buf *out, size_t start, const struct wire_trusted *where)
{
	const struct span payload =
		span_of(out->at + start + WIRE_HEADER_BYTES, out->len - start - WIRE_HEADER_BYTES);
	const size_t len = out->len;
	struct wire_exec x;
	size_t count_at;
	uint32_t envc;

	if (where->cert.len == 0 || out->over || wire_parse_exec(payload, &x) < 0)
		return;
	envc = x.envc;
	/* the environment comes last, and x points into what the buffer holds, which stays put */
	for (size_t i = 0; i < VAR_COUNT; i++) {
		const struct span path = vars[i].use == ADDS ? where->cert : where->bundle;

		if (path.len == 0 || is_set(x.envv, vars[i].name))
			continue;
		put_var(out, vars[i].name, path);
		envc++;
	}
	if (out->over || envc > WIRE_ARGS_MAX || out->len - start > WIRE_FRAME_MAX) {
		out->len = len;
		out->over = false;
		return;
	}
	/* flags, rows, cols, user, cwd, argc, then the count */
	count_at = start + WIRE_HEADER_BYTES + 4 + 2 + 2 + 2 + x.user.len + 2 + x.cwd.len + 4;
	for (unsigned i = 0; i < 4; i++)
		out->at[count_at + i] = (uint8_t)(envc >> (8 * i));
	wire_set_length(out, start);
}
