#include "base/sha256.h"

#include "base/buf.h"
#include "guardpage.h"
#include "test.h"

#include <string.h>

static const char *hex_of(struct span data)
{
	static char text[2 * SHA256_BYTES + 1];
	uint8_t digest[SHA256_BYTES];
	struct buf b;

	sha256(guard_span(data.at, data.len), digest);
	buf_init(&b, text, sizeof(text));
	for (unsigned i = 0; i < SHA256_BYTES; i++)
		buf_printf(&b, "%02x", digest[i]);
	return buf_cstr(&b);
}

/* Those of FIPS 180-2, appendix B, and of nothing. */
TEST(the_standards_own_examples)
{
	static uint8_t million[1000000];

	CHECK_STR(hex_of(span_str("")),
	          "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	CHECK_STR(hex_of(span_str("abc")),
	          "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	CHECK_STR(hex_of(span_str("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")),
	          "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
	memset(million, 'a', sizeof(million));
	CHECK_STR(hex_of(span_of(million, sizeof(million))),
	          "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

/* Where the padding takes one block or two: as Python's hashlib has them. */
TEST(lengths_about_a_block)
{
	static const struct {
		size_t len;
		const char *digest;
	} rows[] = {
		{ 55, "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318" },
		{ 56, "b35439a4ac6f0948b6d6f9e3c6af0f5f590ce20f1bde7090ef7970686ec6738a" },
		{ 63, "7d3e74a05d7db15bce4ad9ec0658ea98e3f06eeecf16b4c6fff2da457ddc2f34" },
		{ 64, "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb" },
		{ 65, "635361c48bb9eab14198e76ea8ab7f1a41685d6ad62aa9146d301d4f17eb0ae0" },
		{ 119, "31eba51c313a5c08226adf18d4a359cfdfd8d2e816b13f4af952f7ea6584dcfb" },
		{ 120, "2f3d335432c70b580af0e8e1b3674a7c020d683aa5f73aaaedfdc55af904c21c" },
		{ 128, "6836cf13bac400e9105071cd6af47084dfacad4e5e302c94bfed24e013afb73e" },
	};
	uint8_t data[128];

	memset(data, 'a', sizeof(data));
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		CHECK_STR(hex_of(span_of(data, rows[i].len)), rows[i].digest);
}

TEST_MAIN()
