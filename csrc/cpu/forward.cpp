#include "operations.h"

namespace fastconv {

void forward_general(const Problem&, const Operands&) {}

}  // namespace fastconv
