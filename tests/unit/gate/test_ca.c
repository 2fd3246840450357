/* The authority and its leaves, as verifiers that share no line with us see them. */
#include "base/clock.h"
#include "failalloc.h"
#include "gate/ca.h"
#include "gate/ca_inner.h"
#include "gate/leaf.h"
#include "sup/network.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

enum { DAY_S = 86400, NOW_S = 1800000000 };

static struct host_name name_of(const char *text)
{
	struct host_name n;

	CHECK_EQ(host_name_parse(span_str(text), &n), 0);
	return n;
}

static struct ca *make(uint64_t real_s)
{
	struct ca *ca;
	struct err e = { 0 };

	CHECK_OK(ca_new(real_s, false, &ca, &e), &e);
	return ca;
}

static X509 *leaf_of(struct leaf_cache *lc, const char *name, uint64_t real_s)
{
	struct host_name n = name_of(name);
	struct err e = { 0 };
	X509 *cert;

	CHECK_OK(leaf_get(lc, &n, real_s, &cert, &e), &e);
	return cert;
}

static struct leaf_cache *cache_of(struct ca *ca)
{
	struct leaf_cache *lc;

	CHECK_EQ(leaf_cache_new(ca, &lc, NULL), 0);
	return lc;
}

static void save(const char *path, struct span text)
{
	FILE *f = fopen(path, "w");

	CHECK(f);
	CHECK_EQ(fwrite(text.at, 1, text.len, f), text.len);
	CHECK_EQ(fclose(f), 0);
}

static void save_cert(const char *path, X509 *cert)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *at;
	long len;

	CHECK(PEM_write_bio_X509(bio, cert));
	len = BIO_get_mem_data(bio, &at);
	save(path, span_of(at, (size_t)len));
	BIO_free(bio);
}

/* Its exit status; 127: it is not there. */
static int run(const char *const *argv)
{
	pid_t pid = fork();
	int status;

	CHECK(pid >= 0);
	if (pid == 0) {
		(void)dup2(2, 1);
		execvp(argv[0],
		       (char *const *)(uintptr_t)argv); /* it only happens not to be const */
		_exit(127);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

static int openssl_verify(const char *ca, const char *leaf, const char *host, uint64_t at_s)
{
	char when[32];
	const char *argv[] = { "openssl",
		               "verify",
		               "-x509_strict",
		               "-purpose",
		               "sslserver",
		               "-no-CApath",
		               "-no-CAstore",
		               "-check_ss_sig",
		               "-attime",
		               when,
		               "-verify_hostname",
		               host,
		               "-CAfile",
		               ca,
		               leaf,
		               NULL };
	int r;

	(void)snprintf(when, sizeof(when), "%llu", (unsigned long long)at_s);
	r = run(argv);
	if (r == 127)
		test_skip("there is no openssl");
	return r;
}

/* A template has the link by a first life's name, and a copy's processes remember another's. */
TEST(a_first_life_has_the_known_name_and_a_copy_its_own)
{
	struct ca *first = make(NOW_S);
	struct ca *copies[2] = { NULL, NULL };

	CHECK_EQ(ca_name_hash(first), network_trust_hash);
	for (size_t i = 0; i < 2; i++)
		CHECK_EQ(ca_new(NOW_S, true, &copies[i], NULL), 0);
	CHECK(ca_name_hash(copies[0]) != network_trust_hash);
	CHECK(ca_name_hash(copies[0]) != ca_name_hash(copies[1]));
	ca_free(first);
	ca_free(copies[0]);
	ca_free(copies[1]);
}

TEST(TLS_2_openssl_is_strict)
{
	static const char *const names[] = {
		"api.test",
		"a-very-long-label-that-is-just-under-the-limit.of-a-common-name.which-is-64.test",
	};
	struct ca *ca = make(NOW_S);
	struct ca *other = make(NOW_S);
	struct leaf_cache *lc = cache_of(ca);
	char pem[256];
	char bad[256];
	char leaf[256];

	(void)snprintf(pem, sizeof(pem), "%s/ca.pem", test_tmpdir());
	(void)snprintf(bad, sizeof(bad), "%s/other.pem", test_tmpdir());
	(void)snprintf(leaf, sizeof(leaf), "%s/leaf.pem", test_tmpdir());
	save(pem, ca_pem(ca));
	save(bad, ca_pem(other));
	for (size_t i = 0; i < 2; i++) {
		char host[256];

		(void)snprintf(host, sizeof(host), "%s", names[i]);
		save_cert(leaf, leaf_of(lc, names[i], NOW_S));
		CHECK_EQ(openssl_verify(pem, leaf, host, NOW_S), 0);
		/* TLS-9: a guest whose clock is a day off, and the time until it is made anew */
		CHECK_EQ(openssl_verify(pem, leaf, host, NOW_S - DAY_S + 60), 0);
		CHECK_EQ(openssl_verify(pem, leaf, host, NOW_S + LEAF_RENEW_S + DAY_S), 0);
		CHECK(openssl_verify(pem, leaf, host, NOW_S + LEAF_LIFE_S) != 0);
		CHECK(openssl_verify(pem, leaf, "other.test", NOW_S) != 0);
		CHECK(openssl_verify(bad, leaf, host, NOW_S) != 0); /* TLS-10 */
	}
	leaf_cache_free(lc);
	ca_free(ca);
	ca_free(other);
}

static const char python[] =
	"import ssl, sys\n"
	"c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)\n"
	"c.verify_flags |= ssl.VERIFY_X509_STRICT | getattr(ssl, 'VERIFY_X509_PARTIAL_CHAIN', 0)\n"
	"c.load_verify_locations(sys.argv[1])\n"
	"s = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n"
	"s.load_cert_chain(sys.argv[2], sys.argv[3])\n"
	"a, b, d, f = (ssl.MemoryBIO() for _ in range(4))\n"
	"x = c.wrap_bio(a, b, server_hostname='api.test')\n"
	"y = s.wrap_bio(b, a, server_side=True)\n"
	"for n in range(4):\n"
	"    for o in (x, y):\n"
	"        try:\n"
	"            o.do_handshake()\n"
	"        except ssl.SSLWantReadError:\n"
	"            pass\n"
	"assert x.getpeercert()['subjectAltName'] == (('DNS', 'api.test'),)\n";

/* What Python 3.13 and later ask of every connection; older ones if they are told to. */
TEST(TLS_2_python_is_strict)
{
	uint64_t now_s = clock_real_ns() / 1000000000;
	struct ca *ca = make(now_s);
	struct leaf_cache *lc = cache_of(ca);
	char paths[4][256];
	const char *argv[] = { "python3", paths[3], paths[0], paths[1], paths[2], NULL };
	BIO *bio = BIO_new(BIO_s_mem());
	char *at;
	long len;
	int r;

	for (int i = 0; i < 4; i++)
		(void)snprintf(paths[i], sizeof(paths[i]), "%s/%d", test_tmpdir(), i);
	save(paths[0], ca_pem(ca));
	save_cert(paths[1], leaf_of(lc, "api.test", now_s));
	CHECK(PEM_write_bio_PrivateKey(bio, ca->leaf_key, NULL, NULL, 0, NULL, NULL));
	len = BIO_get_mem_data(bio, &at);
	save(paths[2], span_of(at, (size_t)len));
	save(paths[3], span_str(python));
	r = run(argv);
	if (r == 127)
		test_skip("there is no python3");
	CHECK_EQ(r, 0);
	BIO_free(bio);
	leaf_cache_free(lc);
	ca_free(ca);
}

TEST(the_authority_is_what_it_should_be)
{
	struct ca *ca = make(NOW_S);
	struct ca *other = make(NOW_S);
	const X509 *c = ca->cert;

	CHECK_EQ(X509_get_version(c), 2);
	CHECK_EQ(X509_check_ca(ca->cert), 1);
	CHECK_EQ(X509_get_pathlen(ca->cert), 0);
	CHECK_EQ(X509_get_key_usage(ca->cert), KU_KEY_CERT_SIGN | KU_CRL_SIGN);
	CHECK(X509_get0_subject_key_id(ca->cert));
	CHECK_EQ(X509_get_ext_count(c), 3);
	CHECK_EQ(X509_EXTENSION_get_critical(
			 X509_get_ext(c, X509_get_ext_by_NID(c, NID_basic_constraints, -1))),
	         1);
	CHECK_EQ(X509_EXTENSION_get_critical(
			 X509_get_ext(c, X509_get_ext_by_NID(c, NID_key_usage, -1))),
	         1);
	CHECK(ca_pem(ca).len > 0 && ca_pem(ca).len < 1024);
	CHECK_EQ(memcmp(ca_pem(ca).at, "-----BEGIN CERTIFICATE-----\n", 28), 0);
	CHECK_EQ(ca_name_hash(ca), X509_subject_name_hash(ca->cert));
	CHECK_EQ(X509_verify(ca->cert, ca->key), 1);
	CHECK_EQ(EVP_PKEY_eq(ca->key, ca->leaf_key), 0);
	ca_free(ca);
	ca_free(other);
}

TEST(a_leaf_is_what_it_should_be)
{
	struct ca *ca = make(NOW_S);
	struct leaf_cache *lc = cache_of(ca);
	X509 *c = leaf_of(lc, "a.test", NOW_S);
	struct host_name b = name_of("b.test");

	CHECK_EQ(X509_check_ca(c), 0);
	CHECK_EQ(X509_get_key_usage(c), KU_DIGITAL_SIGNATURE);
	CHECK_EQ(X509_get_extended_key_usage(c), XKU_SSL_SERVER);
	CHECK_EQ(ASN1_OCTET_STRING_cmp(X509_get0_authority_key_id(c),
	                               X509_get0_subject_key_id(ca->cert)),
	         0);
	CHECK_EQ(X509_check_host(c, "a.test", 6, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, NULL), 1);
	CHECK_EQ(X509_check_host(c, "b.test", 6, 0, NULL), 0);
	CHECK_EQ(X509_verify(c, ca->key), 1);
	CHECK_EQ(X509_get0_serialNumber(c)->type, V_ASN1_INTEGER); /* a negative one has another */
	CHECK_EQ(X509_get0_serialNumber(c)->length, 16);
	CHECK_EQ(leaf_minted(lc), 1);
	CHECK(leaf_of(lc, "a.test", NOW_S + LEAF_RENEW_S - 1) == c);
	CHECK_EQ(leaf_minted(lc), 1);
	/* TLS-9: made anew at half its life, and when the clock went back */
	(void)leaf_of(lc, "a.test", NOW_S + LEAF_RENEW_S);
	CHECK_EQ(leaf_minted(lc), 2);
	(void)leaf_of(lc, "a.test", NOW_S);
	CHECK_EQ(leaf_minted(lc), 3);
	CHECK_EQ(leaf_get(lc, &b, NOW_S, &c, NULL), 0);
	leaf_cache_free(lc);
	ca_free(ca);
}

TEST(LIM_5_the_cache_is_bounded)
{
	struct ca *ca = make(NOW_S);
	struct leaf_cache *lc = cache_of(ca);
	char name[64];

	for (unsigned i = 0; i < LEAF_CACHE_MAX + 10; i++) {
		(void)snprintf(name, sizeof(name), "h%u.test", i);
		(void)leaf_of(lc, name, NOW_S);
		(void)leaf_of(lc, "h0.test", NOW_S); /* in use: it stays */
	}
	CHECK_EQ(leaf_minted(lc), LEAF_CACHE_MAX + 10);
	(void)leaf_of(lc, "h2.test", NOW_S); /* went */
	CHECK_EQ(leaf_minted(lc), LEAF_CACHE_MAX + 11);
	leaf_cache_free(lc);
	ca_free(ca);
}

TEST(no_memory)
{
	FAILALLOC_EACH()
	{
		struct ca *ca = NULL;
		struct leaf_cache *lc = NULL;
		struct err e = { 0 };
		int r = ca_new(NOW_S, true, &ca, &e);

		if (r == 0)
			r = leaf_cache_new(ca, &lc, &e);
		if (failalloc_hit())
			CHECK_EQ(r, -ENOMEM);
		else
			CHECK_OK(r, &e);
		leaf_cache_free(lc);
		ca_free(ca);
	}
}

TEST_MAIN()
