// The implementations that the tables in implementations.cpp name.
#pragma once
#include "implementations.h"

namespace fastconv {

void forward_general(const Problem&, const Operands&);
void grad_input_general(const Problem&, const Operands&);
void grad_weight_general(const Problem&, const Operands&);

}  // namespace fastconv
