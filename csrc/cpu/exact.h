// Whether a convolution's numbers are small integers, which the definition adds up without rounding.
#pragma once
#include "implementations.h"

namespace fastconv {

// Masks, counts, labels and quantised numbers in float32: as long as no sum can reach 2^24, the
// definition gives all of them exactly, and so does torch; Winograd's points are fractions.  Of
// other numbers it looks at one or two.
bool is_exact_directly(Operation, const Problem&, const Operands&);

}  // namespace fastconv
