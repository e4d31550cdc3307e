// Memory between two pages that nobody may touch, so that a step outside is found at once.
#pragma once
#include <stddef.h>

namespace fastconv::emulator {

// `at_end`: the last byte lies against the page after it (as far as `alignment` lets it), else the
// first against the page before.  All bytes are 0xff: NaN in every number format.
void* guarded_allocation(size_t bytes, size_t alignment, bool at_end);
void guarded_release(void* memory);

}  // namespace fastconv::emulator
