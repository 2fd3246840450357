/*
 * trust: the one certificate authority more that this guest is to trust, where programs look for
 * such: beside the image's own, in the bundles it has, and by its hash.
 *
 * Theory of operation: a bundle of Debian's is 220 KB, and the first write to it copies it up from
 * the image. So that happens before a template is saved (trust_prepare): each bundle is written to
 * once, and gets room for a certificate at its end: lines without anything on them, which readers
 * of PEM pass over. A start then writes the certificate into that room, in one call a bundle, by an
 * open file. So does a copy's: the new certificate lies exactly where the old one was. A template's
 * builder has it adopt one that stands for those to come, named as a first life's is: then no file
 * and no link is left to be made, which takes a kernel on a software CPU 12 ms.
 *
 * Nobody reads meanwhile: at a start no process of the image's runs yet, and in a copy they stand
 * still until the new identity is whole. A bundle that was replaced in the guest (update-ca-
 * certificates does that), or shifted by an edit, is made anew without the old certificate and with
 * the new one, and takes the name by a rename.
 *
 * Java's stores (JKS) get an entry more, each in a new file that takes the name: jks.h.
 *
 * What is no plain file of the root's own mount is left alone.
 */
#pragma once

#include "agent/jks.h"
#include "base/err.h"
#include "wire/wire.h"

enum {
	TRUST_CERTS = 2,
	TRUST_BUNDLES = 5,
	TRUST_ROOM = WIRE_CERT_MAX, /* at the end of a bundle */
	TRUST_BUNDLE_MAX = 4 << 20, /* the largest known is 0.6 MiB */
	TRUST_LINK_MAX = 16,        /* "1a2b3c4d.0" */
	TRUST_LINKS_MAX = 10,       /* certificates whose subjects have the same hash */
};

struct trust_bundle {
	int fd;      /* -1: there is none */
	uint64_t at; /* where its room begins */
};

struct trust {
	bool ready; /* this machine has a network card */
	int cert_fds[TRUST_CERTS];
	struct trust_bundle bundles[TRUST_BUNDLES];
	int links_fd;              /* /etc/ssl/certs, or -1 */
	char link[TRUST_LINK_MAX]; /* in it, to the certificate; "": none */
	uint32_t name_hash;        /* that it is called after */
	bool adopted;              /* something was adopted once */
	char room[TRUST_ROOM];     /* what is in the bundles' rooms now */
	size_t pem_len;            /* of it; 0: there is no certificate */
	uint8_t der[JKS_DER_MAX];  /* the same, in Java's stores */
	size_t der_len;
};

void trust_init(struct trust *t);

/* Files and rooms, on a machine that has a network; never fails. */
void trust_prepare(struct trust *t);

/* Opens the files anew, in case somebody replaced them: before each save. */
void trust_open(struct trust *t);

/*
 * The certificate of a new life, in place of the one before; NULL: none. What cannot be done is
 * logged and done without. ret_where: constants; empty where there is nothing to name.
 */
void trust_adopt(struct trust *t, const struct wire_trust *want, struct wire_trusted *ret_where);
