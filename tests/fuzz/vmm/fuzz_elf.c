/* The start of a kernel file and its notes. Ends never wrap; failure leaves outputs alone. */
#include "vmm/elf_parse.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = span_of(data, size);
	struct elf_file got;
	struct elf_file before;
	uint64_t entry = 0xa5;

	memset(&got, 0xa5, sizeof(got));
	memcpy(&before, &got, sizeof(got));
	if (elf_parse(in, &got) != 0)
		assert(memcmp(&got, &before, sizeof(got)) == 0);
	else
		for (unsigned i = 0; i < got.segment_count; i++) {
			const struct elf_segment *s = &got.segments[i];

			assert(s->offset + s->file_bytes >= s->offset);
			assert(s->paddr + s->mem_bytes >= s->paddr);
		}
	if (elf_parse_pvh_entry(in, &entry) != 0)
		assert(entry == 0xa5);
	else
		assert(entry <= UINT32_MAX);
	return 0;
}
