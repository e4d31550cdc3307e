// The implementations that the tables in implementations.cpp name.
#pragma once
#include "implementations.h"

namespace fastconv {

void forward_general(const Problem&, const Operands&);
void grad_input_general(const Problem&, const Operands&);
void grad_weight_general(const Problem&, const Operands&);

bool accepts_grad_weight_lines(const Problem&);
void grad_weight_lines(const Problem&, const Operands&);

bool is_small_product(const Problem&);  // forward and grad_input
void forward_small_product(const Problem&, const Operands&);
void grad_input_small_product(const Problem&, const Operands&);

bool dilated_f4_forward_accepts(const Problem&);
bool dilated_f6_forward_accepts(const Problem&);
bool dilated_f4_grad_input_accepts(const Problem&);
bool dilated_f6_grad_input_accepts(const Problem&);
bool dilated_f4_grad_weight_accepts(const Problem&);
void forward_dilated(const Problem&, const Operands&);
void grad_input_dilated(const Problem&, const Operands&);
void grad_weight_dilated(const Problem&, const Operands&);

bool are_patches(const Problem&);
void forward_patches(const Problem&, const Operands&);

bool is_one_pixel(const Problem&);
void grad_input_one_pixel(const Problem&, const Operands&);

bool accepts_depthwise_grad_weight(const Problem&);
void grad_weight_depthwise(const Problem&, const Operands&);

}  // namespace fastconv
