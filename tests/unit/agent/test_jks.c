/* Java's trust stores: a certificate more, another in its place, and none again. */
#include "agent/jks.h"
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* An empty store of keytool's: magic, version, no entries, the sum for "changeit". */
static const uint8_t empty[] = { 0xfe, 0xed, 0xfe, 0xed, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00,
	                         0x00, 0xe2, 0x68, 0x6e, 0x45, 0xfb, 0x43, 0xdf, 0xa4, 0xd9, 0x92,
	                         0xdd, 0x41, 0xce, 0xb6, 0xb2, 0x1c, 0x63, 0x30, 0xd7, 0x92 };
static const char pem[] =
	"-----BEGIN CERTIFICATE-----\nAAECAwQF\nBgc=\n-----END CERTIFICATE-----\n";
static const uint8_t der[] = { 0, 1, 2, 3, 4, 5, 6, 7 };
static const uint8_t other[] = { 8, 9 };

static struct span all(const uint8_t *at, size_t len)
{
	return span_of(at, len);
}

static struct buf put(struct span store, struct span old, struct span new, uint8_t room[8192])
{
	struct buf out;

	buf_init(&out, room, 8192);
	CHECK_EQ(jks_put(store, old, new, &out), 0);
	return out;
}

TEST(a_certificate_is_read_from_its_text)
{
	uint8_t room[64];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	CHECK(jks_der(span_str(pem), &b));
	CHECK(span_equal(buf_span(&b), all(der, sizeof(der))));
	for (size_t n = 0; n < strlen("-----BEGIN CERTIFICATE-----\nAAECAwQF\nBgc"); n++) {
		buf_init(&b, room, sizeof(room));
		CHECK(!jks_der(span_of(pem, n), &b));
	}
	buf_init(&b, room, 7);
	CHECK(!jks_der(span_str(pem), &b));
}

TEST(one_more_and_one_for_another_and_none)
{
	static uint8_t one[8192], two[8192], none[8192];
	const struct span no = span_of("", 0);
	struct buf a = put(all(empty, sizeof(empty)), no, all(der, sizeof(der)), one);
	struct buf b = put(buf_span(&a), all(der, sizeof(der)), all(other, sizeof(other)), two);
	struct buf c = put(buf_span(&b), all(other, sizeof(other)), no, none);

	CHECK_EQ(one[11], 1);
	CHECK_EQ(a.len, sizeof(empty) + 4 + 2 + 4 + 8 + 2 + 5 + 4 + sizeof(der));
	CHECK_EQ(two[11], 1); /* in its place, not beside it */
	CHECK_EQ(b.len, a.len - sizeof(der) + sizeof(other));
	CHECK(span_equal(buf_span(&c), all(empty, sizeof(empty))));
}

TEST(what_is_no_such_store_is_left_alone)
{
	uint8_t store[sizeof(empty)];
	uint8_t room[8192];
	struct buf out;

	for (size_t i = 0; i < sizeof(empty); i++) {
		memcpy(store, empty, sizeof(empty));
		store[i] ^= 1;
		buf_init(&out, room, sizeof(room));
		CHECK_EQ(jks_put(all(store, sizeof(store)), all(der, 0), all(der, 8), &out),
		         -EBADMSG);
		CHECK_EQ(jks_put(all(empty, i), all(der, 0), all(der, 8), &out), -EBADMSG);
		CHECK_EQ(out.len, 0);
	}
	buf_init(&out, room, sizeof(empty));
	CHECK_EQ(jks_put(all(empty, sizeof(empty)), all(der, 0), all(der, 8), &out), -EMSGSIZE);
}

TEST_MAIN()
