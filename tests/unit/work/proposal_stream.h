/*
 * proposal_stream: makes streams as a guest's agent does, and any that it never would.
 *
 * Between two calls everything may be changed: records are put first, then the entry they are of;
 * `fix` is called on each header before its checksum is made.
 */
#pragma once

#include "work/proposal_parse.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STREAM_ROOM = 1 << 20, STREAM_RECORDS_ROOM = 400 << 10 };

struct stream {
	struct buf out;
	struct buf records;
	uint64_t entries;
	uint8_t storage[STREAM_ROOM];
	uint8_t record_storage[STREAM_RECORDS_ROOM];
};

static inline struct stream *stream_new(void)
{
	struct stream *s = malloc(sizeof(*s));

	if (!s)
		abort();
	buf_init(&s->out, s->storage, sizeof(s->storage));
	buf_init(&s->records, s->record_storage, sizeof(s->record_storage));
	s->entries = 0;
	return s;
}

static inline void stream_record(struct stream *s, const char *key, struct span value)
{
	size_t rest = 1 + strlen(key) + 1 + value.len + 1;
	size_t len = rest + 1;
	char digits[24];

	while (rest + (size_t)snprintf(digits, sizeof(digits), "%zu", len) != len)
		len++;
	buf_printf(&s->records, "%zu %s=", len, key);
	buf_put_span(&s->records, value);
	buf_put_u8(&s->records, '\n');
}

static inline void stream_text(struct stream *s, const char *key, const char *value)
{
	stream_record(s, key, span_str(value));
}

static inline void stream_number(struct stream *s, const char *key, uint64_t value)
{
	char text[24];

	(void)snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	stream_text(s, key, text);
}

static inline void stream_pad(struct stream *s)
{
	while (s->out.len % PROPOSAL_BLOCK_BYTES != 0)
		buf_put_u8(&s->out, 0);
}

/* The checksum of the header at `at` is made right. */
static inline void stream_sum(uint8_t *at)
{
	char text[8];
	unsigned sum = 0;

	memset(at + 148, ' ', 8);
	for (unsigned i = 0; i < PROPOSAL_BLOCK_BYTES; i++)
		sum += at[i];
	(void)snprintf(text, sizeof(text), "%06o", sum);
	memcpy(at + 148, text, 7);
}

static inline void stream_field(uint8_t *at, struct span text, size_t max)
{
	memcpy(at, text.at, text.len < max ? text.len : max);
}

/* Returns where it begins. */
static inline uint8_t *stream_header(struct stream *s, char type, unsigned mode, uint64_t size,
                                     struct span name, struct span target)
{
	static const char magic[] = { 'u', 's', 't', 'a', 'r', 0, '0', '0' };
	uint8_t block[PROPOSAL_BLOCK_BYTES] = { 0 };
	char text[16];

	stream_field(block, name, 100);
	(void)snprintf(text, sizeof(text), "%07o", mode);
	memcpy(block + 100, text, 7);
	memcpy(block + 108, "0000000", 7);
	memcpy(block + 116, "0000000", 7);
	(void)snprintf(text, sizeof(text), "%011llo", (unsigned long long)size);
	memcpy(block + 124, text, 11);
	memcpy(block + 136, "00000000000", 11);
	block[156] = (uint8_t)type;
	stream_field(block + 157, target, 100);
	memcpy(block + 257, magic, sizeof(magic));
	stream_sum(block);
	buf_put(&s->out, block, sizeof(block));
	return s->out.at + s->out.len - sizeof(block);
}

/* The records that were put, then the header. Returns where the second header begins. */
static inline uint8_t *stream_entry(struct stream *s, char type, unsigned mode, const char *path,
                                    const char *target, struct span content)
{
	uint8_t *at;

	(void)stream_header(s, 'x', 0644, s->records.len, span_str(".berm-pax"), span_str(""));
	buf_put_span(&s->out, buf_span(&s->records));
	stream_pad(s);
	at = stream_header(s, type, mode, content.len, span_str(path), span_str(target));
	buf_put_span(&s->out, content);
	stream_pad(s);
	buf_reset(&s->records);
	s->entries++;
	return at;
}

static inline uint8_t *stream_dir(struct stream *s, const char *path)
{
	stream_text(s, "path", path);
	stream_text(s, "mtime", "1700000000.000000001");
	return stream_entry(s, '5', 0755, path, "", span_str(""));
}

static inline uint8_t *stream_root(struct stream *s)
{
	stream_number(s, "BERM.version", PROPOSAL_TAR_VERSION);
	return stream_dir(s, ".");
}

static inline uint8_t *stream_file(struct stream *s, const char *path, const char *content)
{
	stream_text(s, "path", path);
	stream_text(s, "mtime", "1700000000.999999999");
	stream_number(s, "size", strlen(content));
	return stream_entry(s, '0', 0644, path, "", span_str(content));
}

static inline uint8_t *stream_link(struct stream *s, const char *path, const char *target)
{
	stream_text(s, "path", path);
	stream_text(s, "mtime", "1700000000.000000000");
	stream_text(s, "linkpath", target);
	return stream_entry(s, '2', 0, path, target, span_str(""));
}

static inline uint8_t *stream_whiteout(struct stream *s, const char *path)
{
	stream_text(s, "path", path);
	stream_text(s, "BERM.whiteout", "1");
	return stream_entry(s, '0', 0, path, "", span_str(""));
}

static inline uint8_t *stream_other(struct stream *s, const char *path, const char *why)
{
	stream_text(s, "path", path);
	stream_text(s, "BERM.skipped", why);
	return stream_entry(s, '0', 0, path, "", span_str(""));
}

static inline uint8_t *stream_sparse(struct stream *s, const char *path, uint64_t size,
                                     const char *map, const char *content)
{
	stream_text(s, "path", path);
	stream_text(s, "mtime", "1700000000.000000000");
	stream_number(s, "size", strlen(content));
	stream_number(s, "BERM.size", size);
	stream_text(s, "BERM.sparse", map);
	return stream_entry(s, '0', 0600, path, "", span_str(content));
}

/* The trailer of `entries`, without the zeros. */
static inline void stream_trailer(struct stream *s, uint64_t entries)
{
	uint8_t sum[PROPOSAL_SHA256_BYTES];
	char hex[2 * PROPOSAL_SHA256_BYTES + 1];

	if (EVP_Digest(s->out.at, s->out.len, sum, NULL, EVP_sha256(), NULL) != 1)
		abort();
	for (size_t i = 0; i < sizeof(sum); i++)
		(void)snprintf(hex + 2 * i, 3, "%02x", sum[i]);
	stream_text(s, "path", ".berm-end");
	stream_number(s, "BERM.entries", entries);
	stream_text(s, "BERM.sha256", hex);
	(void)stream_entry(s, '0', 0, ".berm-end", "", span_str(""));
}

static inline void stream_end(struct stream *s)
{
	static const uint8_t zeros[PROPOSAL_END_BYTES];

	stream_trailer(s, s->entries);
	buf_put(&s->out, zeros, sizeof(zeros));
}
