#include "work/proposal_spool.h"

#include <assert.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct spool {
	int fd;
	uint64_t bytes; /* of the file */
	uint64_t at;    /* of buf[from] */
	size_t from, to, size;
	EVP_MD_CTX *sum;
	uint8_t buf[];
};

int spool_open(int fd, size_t window, struct spool **ret, struct err *e)
{
	_own_(spool_free) struct spool *s = calloc(1, sizeof(*s) + window);
	struct stat st;

	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	s->fd = fd;
	s->size = window;
	s->sum = EVP_MD_CTX_new();
	if (!s->sum || EVP_DigestInit_ex(s->sum, EVP_sha256(), NULL) != 1)
		return err_set(e, -ENOMEM, "out of memory");
	if (fstat(fd, &st) < 0)
		return err_sys(e, "look at the spooled proposal");
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "the spooled proposal is no file");
	s->bytes = (uint64_t)st.st_size;
	*ret = steal_ptr(&s);
	return 0;
}

void spool_free(struct spool *s)
{
	if (s)
		EVP_MD_CTX_free(s->sum);
	free(s);
}

struct span spool_here(const struct spool *s)
{
	return span_of(s->buf + s->from, s->to - s->from);
}

int spool_fill(struct spool *s, bool *ret_more, struct err *e)
{
	ssize_t n;

	if (s->from > 0) {
		memmove(s->buf, s->buf + s->from, s->to - s->from);
		s->to -= s->from;
		s->from = 0;
	}
	assert(s->to < s->size);
	do
		n = pread(s->fd, s->buf + s->to, s->size - s->to, (off_t)(s->at + s->to));
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_sys(e, "read the spooled proposal");
	s->to += (size_t)n;
	*ret_more = n > 0;
	return 0;
}

int spool_take(struct spool *s, size_t n, struct err *e)
{
	assert(n <= s->to - s->from);
	if (EVP_DigestUpdate(s->sum, s->buf + s->from, n) != 1)
		return err_set(e, -EIO, "sha256 failed");
	s->from += n;
	s->at += n;
	return 0;
}

uint64_t spool_at(const struct spool *s)
{
	return s->at;
}

uint64_t spool_bytes(const struct spool *s)
{
	return s->bytes;
}

int spool_digest(const struct spool *s, uint8_t ret[32], struct err *e)
{
	EVP_MD_CTX *copy = EVP_MD_CTX_new();
	bool ok = copy && EVP_MD_CTX_copy_ex(copy, s->sum) == 1 &&
	          EVP_DigestFinal_ex(copy, ret, NULL) == 1;

	EVP_MD_CTX_free(copy);
	return ok ? 0 : err_set(e, -EIO, "sha256 failed");
}
