#include "test.h"

#include "forms.h"
#include "vault/placeholder.h"

static uint32_t seed = 12345;

static void draw(void *arg, void *ret, size_t len)
{
	uint8_t *at = ret;

	(*(unsigned *)arg)++;
	for (size_t i = 0; i < len; i++)
		at[i] = (uint8_t)(form_random(&seed) >> 11);
}

static uint8_t made[PLACEHOLDER_ROOM];

static struct span make(const char *value)
{
	unsigned calls = 0;
	size_t len = placeholder_make(span_str(value), draw, &calls, made);

	CHECK(calls > 0 && len <= PLACEHOLDER_ROOM);
	return span_of(made, len);
}

static bool only(struct span s, const char *chars)
{
	for (size_t i = 0; i < s.len; i++)
		if (!strchr(chars, s.at[i]))
			return false;
	return true;
}

static struct span from(struct span s, size_t n)
{
	return span_of(s.at + n, s.len - n);
}

TEST(known_prefixes_and_lengths_stay)
{
	static const char *const values[] = {
		"ghp_16C7e42F292c6912E7710c838347Ae178B4a",
		"github_pat_11ABCDEFG0123456789_abcdefghijklmnopqrstuvwxyzABCDEFGH",
		"sk-ant-api03-R2D2aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-AA",
		"sk-proj-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		"sk-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		"xoxb-123456789012-1234567890123-abcdefghijklmnopqrstuvwx",
		"npm_abcdefghijklmnopqrstuvwxyz0123456789",
		"pypi-AgEIcHlwaS5vcmcCJDU3ZTYxOTQ5LTk0YWMtNDBkYy1h",
		"hf_abcdefghijklmnopqrstuvwxyzABCDEFGH",
		"glpat-ZYXWVUTSRQ-0123456789abcdefgh",
	};
	static const char *const prefixes[] = { "ghp_", "github_pat_", "sk-ant-api03-", "sk-proj-",
		                                "sk-",  "xoxb-",       "npm_",          "pypi-",
		                                "hf_",  "glpat-" };

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		struct span p = make(values[i]);

		CHECK_EQ(p.len, strlen(values[i]));
		CHECK(memcmp(p.at, prefixes[i], strlen(prefixes[i])) == 0);
		CHECK_SPAN(placeholder_prefix(span_str(values[i])), prefixes[i]);
		CHECK(memcmp(p.at, values[i], p.len) != 0);
	}
}

TEST(too_short_a_value_gets_a_longer_one)
{
	struct span p = make("AKIAIOSFODNN7EXAMPLE");

	CHECK_EQ(p.len, 4 + 25);
	CHECK(memcmp(p.at, "AKIA", 4) == 0);
	CHECK(only(p, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"));
	CHECK_EQ(make("hunter22!").len, 22);
	CHECK_EQ(make("12345678").len, 39);
}

TEST(kinds_of_characters)
{
	struct span p = make("0123456789012345678901234567890123456789012345678");

	CHECK_EQ(p.len, 49);
	CHECK(only(p, "0123456789"));
	p = make("deadbeefdeadbeefdeadbeefdeadbeefdeadbeef");
	CHECK_EQ(p.len, 40);
	CHECK(only(p, "0123456789abcdef"));
	p = make("DEADBEEFDEADBEEFDEADBEEFDEADBEEFDEADBEEF");
	CHECK(only(p, "0123456789ABCDEF"));
	p = make("a/b+c=d e\"f'g$h`i!j\\k&l;m|n<o>p*q?r[s]t{u}v");
	CHECK(only(p, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"));
	p = make("123e4567-e89b-12d3-a456-426614174000");
	CHECK_EQ(p.len, 36);
	CHECK(only(p, "0123456789abcdef-"));
	CHECK(p.at[8] == '-' && p.at[13] == '-' && p.at[18] == '-' && p.at[23] == '-');
}

TEST(a_jwt_has_two_parts_that_can_be_read)
{
	struct span p = make(
		"eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0."
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
	struct span head, claims;

	CHECK(take_until(&p, '.', &head) && take_until(&p, '.', &claims));
	CHECK_SPAN(head, "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9");
	CHECK_EQ(claims.len, 48);
	CHECK(memcmp(claims.at, "eyJqdGkiOi", 10) == 0); /* {"jti": */
	CHECK_EQ(head.len + claims.len + p.len + 2, 131);
	p = make("eyJ.a.b");
	CHECK_EQ(p.len, 36 + 48 + 43 + 2);
	CHECK_EQ(make("eyJhbGciOi").len, 22); /* only looks like one */
}

TEST(no_longer_than_its_room)
{
	static char big[16385];

	memset(big, 'a', 16384);
	CHECK_EQ(make(big).len, PLACEHOLDER_ROOM);
	memcpy(big, "ghp_", 4);
	CHECK_EQ(make(big).len, PLACEHOLDER_ROOM);
	memcpy(big, "eyJ.a.", 6);
	CHECK_EQ(make(big).len, PLACEHOLDER_ROOM);
}

TEST(each_character_is_as_likely)
{
	unsigned seen[256] = { 0 };
	double chi = 0;

	for (unsigned i = 0; i < 3000; i++) {
		struct span p = from(make("ghp_16C7e42F292c6912E7710c838347Ae178B4a"), 4);

		for (size_t k = 0; k < p.len; k++)
			seen[p.at[k]]++;
	}
	for (unsigned c = 0; c < 256; c++) {
		double want = 3000.0 * 36 / 62;

		if (seen[c])
			chi += ((double)seen[c] - want) * ((double)seen[c] - want) / want;
	}
	CHECK(chi > 20 && chi < 130); /* 61 degrees of freedom, far out on either side */
}

TEST(safe_without_quotes)
{
	static const char *const values[] = { "ghp_x/y+z=aaaaaaaaaaaaaaaaaaaaaa",
		                              "p@ss w\"rd'$(id)`", "ya29.a0AfH6SMBx",
		                              "SG.aaaaaaaa.bbbbbbbbbb" };

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		CHECK(only(make(values[i]),
		           "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_."));
}

TEST_MAIN()
