/*
 * References: what is taken is within its limits and points into the input; a name survives being
 * made canonical, and escaped and back; a refusal leaves the output as it was.
 */
#include "image/path.h"
#include "image/ref.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_name(struct span name)
{
	char canonical[IMAGE_NAME_MAX + 1];
	char file[3 * IMAGE_NAME_MAX + 1];
	char back[IMAGE_NAME_MAX + 1];
	struct buf c;
	struct buf f;
	struct buf b;

	buf_init(&c, canonical, sizeof(canonical));
	buf_init(&f, file, sizeof(file));
	buf_init(&b, back, sizeof(back));
	ref_put_canonical(&c, name);
	assert(buf_ok(&c) && c.len > 0 && ref_is_name(buf_span(&c)));
	ref_put_escaped(&f, buf_span(&c));
	assert(buf_ok(&f) && !memchr(file, '/', f.len) && file[0] != '.');
	assert(ref_unescape(buf_span(&f), &b) == 0 && span_equal(buf_span(&b), buf_span(&c)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = span_of(data, size);
	char storage[512];
	struct ref before;
	struct ref r;
	struct buf b;

	memset(&r, 0xa5, sizeof(r));
	before = r;
	if (ref_parse(in, &r) < 0) {
		assert(memcmp(&r, &before, sizeof(r)) == 0);
	} else if (r.kind != REF_ID) {
		assert(r.name.at == data && r.name.len == size && size <= IMAGE_NAME_MAX);
		check_name(in);
	} else {
		assert(r.id.len == IMAGE_ID_LEN && r.id.at + r.id.len == data + size);
	}
	buf_init(&b, storage, sizeof(storage));
	if (ref_unescape(in, &b) < 0)
		assert(b.len == 0);
	buf_init(&b, storage, sizeof(storage));
	if (image_path_parse(in, &b, NULL) < 0)
		assert(b.len == 0 && buf_ok(&b));
	else
		assert(b.len == 0 || (storage[0] != '/' && storage[b.len - 1] != '/'));
	return 0;
}
