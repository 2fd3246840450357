#include "image/registries.h"

#include <string.h>

void registries_begin(struct registries *r, struct span path, uint64_t size)
{
	if (!r)
		return;
	r->reading = size <= sizeof(r->text) && registries_parse_path(path);
	r->len = r->reading ? (size_t)size : 0;
	if (r->reading)
		memset(r->text, '\n', r->len); /* what is a hole says nothing */
}

void registries_data(struct registries *r, uint64_t off, struct span data)
{
	if (!r || !r->reading || off > r->len)
		return;
	if (data.len > r->len - (size_t)off)
		data.len = r->len - (size_t)off;
	if (data.len > 0)
		memcpy(r->text + off, data.at, data.len);
}

static void add(struct registries *r, struct span host)
{
	char *to;

	if (r->count == IMAGE_REGISTRIES_MAX)
		return;
	to = r->hosts[r->count];
	memcpy(to, host.at, host.len);
	to[host.len] = '\0';
	for (size_t i = 0; i < host.len; i++)
		if (to[i] >= 'A' && to[i] <= 'Z')
			to[i] = (char)(to[i] - 'A' + 'a');
	for (unsigned i = 0; i < r->count; i++)
		if (strcmp(r->hosts[i], to) == 0)
			return;
	r->list[r->count++] = to;
	r->list[r->count] = NULL;
}

void registries_end(struct registries *r)
{
	struct span text;
	struct span host;

	if (!r || !r->reading)
		return;
	r->reading = false;
	text = span_of(r->text, r->len);
	while (registries_take_host(&text, &host))
		add(r, host);
}
