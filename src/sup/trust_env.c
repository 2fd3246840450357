#include "sup/trust_env.h"

#include "base/buf.h"
#include "sup/exec_env.h"

/* How a program takes the variable's file. */
enum use {
	ADDS,     /* beside the roots it has: the certificate alone */
	REPLACES, /* instead of them: the bundle, which has all */
};

/*
 * Each line: who reads it. Not here are Java (its store is a file of its own, to which the agent
 * adds the certificate) and what reads the system's store anyway.
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

void trust_env_add(struct buf *out, size_t start, const struct wire_trusted *where)
{
	struct exec_var found[VAR_COUNT];
	size_t count = 0;

	if (where->cert.len == 0)
		return;
	for (size_t i = 0; i < VAR_COUNT; i++) {
		const struct span path = vars[i].use == ADDS ? where->cert : where->bundle;

		if (path.len > 0)
			found[count++] = (struct exec_var){ span_str(vars[i].name), path };
	}
	exec_env_add(out, start, found, count);
}
