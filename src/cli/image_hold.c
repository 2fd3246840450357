#include "cli/image_hold.h"

#include "lib/snapshot.h"

#include <errno.h>
#include <string.h>

struct image_hold {
	struct snapshot_list *list;
	struct image **images; /* one for each of the list; NULL: not here, damaged, held already */
};

void image_hold_free(struct image_hold *h)
{
	if (!h)
		return;
	for (size_t i = 0; h->images && i < h->list->count; i++)
		image_free(h->images[i]);
	free(h->images);
	snapshot_list_free(h->list);
	free(h);
}

static bool held(const struct image_hold *h, size_t count, const char *id)
{
	for (size_t i = 0; i < count; i++)
		if (h->images[i] && strcmp(h->list->rows[i].image_id, id) == 0)
			return true;
	return false;
}

int image_hold_new(int state_fd, struct image_store *s, struct image_hold **ret, struct err *e)
{
	_own_(image_hold_free) struct image_hold *h = calloc(1, sizeof(*h));
	int r;

	if (!h)
		return err_set(e, -ENOMEM, "out of memory");
	r = snapshot_list(state_fd, &h->list, e);
	if (r < 0)
		return r;
	h->images = calloc(h->list->count + 1, sizeof(struct image *));
	if (!h->images)
		return err_set(e, -ENOMEM, "out of memory");
	for (size_t i = 0; i < h->list->count; i++) {
		const char *id = h->list->rows[i].image_id;

		if (*id && !held(h, i, id) && image_open(s, id, &h->images[i], NULL) < 0)
			h->images[i] = NULL; /* it was removed by force */
	}
	*ret = steal_ptr(&h);
	return 0;
}

const char *image_hold_user(const struct image_hold *h, struct image_store *s, const char *ref)
{
	_own_(image_free) struct image *image = NULL;

	if (image_open(s, ref, &image, NULL) < 0)
		return NULL;
	for (size_t i = 0; i < h->list->count; i++)
		if (strcmp(h->list->rows[i].image_id, image->meta->id) == 0)
			return h->list->rows[i].name;
	return NULL;
}
