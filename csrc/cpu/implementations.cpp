#include "implementations.h"

#include "operations.h"
#include "winograd.h"

namespace fastconv {
namespace {

bool always(const Problem&) { return true; }

const Implementation forward_table[] = {
    {"winograd_f4", winograd_f4_forward_accepts, winograd_f4_forward},
    {"winograd_f6", winograd_f6_forward_accepts, winograd_f6_forward},
    {"dilated_f4", dilated_f4_forward_accepts, forward_dilated},
    {"dilated_f6", dilated_f6_forward_accepts, forward_dilated},
    {"small_product", is_small_product, forward_small_product},
    {"patches", are_patches, forward_patches},
    {"general", always, forward_general},
};
const Implementation grad_input_table[] = {
    {"winograd_f4", winograd_f4_grad_input_accepts, winograd_f4_grad_input},
    {"winograd_f6", winograd_f6_grad_input_accepts, winograd_f6_grad_input},
    {"dilated_f4", dilated_f4_grad_input_accepts, grad_input_dilated},
    {"dilated_f6", dilated_f6_grad_input_accepts, grad_input_dilated},
    {"small_product", is_small_product, grad_input_small_product},
    {"one_pixel", is_one_pixel, grad_input_one_pixel},
    {"general", always, grad_input_general},
};
const Implementation grad_weight_table[] = {
    {"depthwise", accepts_depthwise_grad_weight, grad_weight_depthwise},
    {"winograd_f4", winograd_f4_grad_weight_accepts, winograd_f4_grad_weight},
    {"winograd_f6", winograd_f6_grad_weight_accepts, winograd_f6_grad_weight},
    {"dilated_f4", dilated_f4_grad_weight_accepts, grad_weight_dilated},
    {"lines", accepts_grad_weight_lines, grad_weight_lines},
    {"general", always, grad_weight_general},
};

}  // namespace

const Implementation* implementations_of(Operation operation) {
  switch (operation) {
    case Operation::forward: return forward_table;
    case Operation::grad_input: return grad_input_table;
    default: return grad_weight_table;
  }
}

const Implementation& choose(Operation operation, const Problem& problem) {
  const Implementation* row = implementations_of(operation);
  while (!row->accepts(problem)) ++row;
  return *row;
}

}  // namespace fastconv
