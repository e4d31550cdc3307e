// The operators of ops.cpp for CUDA tensors, and the bias's gradient.  Kernels go to the current
// stream of the tensors' card; nothing waits for it.
//
// `algo` and `prepared` are for the CPU; `precision` says in what float32 tensors are multiplied.
#include <Python.h>
#include <torch/csrc/stable/library.h>

#include "cuda/operations.h"
#include "cuda_call.h"

namespace fastconv::cuda {
namespace {

Problem problem_of(Operation operation, const Tensor& first, const Tensor& picture, const Sizes& geometry,
                   Precision precision, const Call& call) {
  Problem p{countable_geometry_from(geometry), operation,         type_of(first),    precision,
            is_channels_last(picture),         call.capability(), call.processors()};
  p.channels_last |= worth_transposing(p);
  return p;
}

// A result in the layout of the picture that it was computed from: plain again if that was.
Tensor in_layout_of(const Tensor& picture, const Tensor& result) {
  return is_channels_last(picture) ? result : dense(result, false);
}

void run(const Problem& problem, const Tensor& like, Operands operands, const Call& call) {
  const Implementation& row = choose(problem);
  const std::optional<Tensor> prepared = bytes_on_card(like, prepared_bytes(row, problem));
  const std::optional<Tensor> space = bytes_on_card(like, space_bytes(row, problem));
  operands.prepared = data_of(prepared);
  operands.space = data_of(space);
  if (row.prepare) check(row.prepare(problem, operands.b, data_of(prepared), call.stream), row.name);
  check(row.launch(problem, operands, call.stream), row.name);
}

Tensor forward(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, const Sizes& geometry,
               int64_t, const std::optional<Tensor>&, int64_t precision) {
  const Call call(x);
  const Problem p = problem_of(Operation::forward, x, x, geometry, precision_from(precision), call);
  on_card(x, "x", input_sizes(p.g), x);
  on_card(weight, "weight", weight_sizes(p.g), x);
  if (bias) on_card(*bias, "bias", {p.g.c_out}, x);
  const Tensor a = readable(x, p.channels_last), b = readable(weight, false);
  const std::optional<Tensor> c = bias ? std::optional(readable(*bias, false)) : std::nullopt;
  const Tensor y = empty_on_card(x, output_sizes(p.g), x.scalar_type(), p.channels_last);
  run(p, x, {.a = a.data_ptr(), .b = b.data_ptr(), .bias = data_of(c), .out = y.data_ptr()}, call);
  return in_layout_of(x, y);
}

Tensor grad_input(const Tensor& dy, const Tensor& weight, const Sizes& geometry, int64_t,
                  const std::optional<Tensor>&, int64_t precision) {
  const Call call(dy);
  const Problem p = problem_of(Operation::grad_input, dy, dy, geometry, precision_from(precision), call);
  on_card(dy, "dy", output_sizes(p.g), dy);
  on_card(weight, "weight", weight_sizes(p.g), dy);
  const Tensor a = readable(dy, p.channels_last), b = readable(weight, false);
  const Tensor dx = empty_on_card(dy, input_sizes(p.g), dy.scalar_type(), p.channels_last);
  run(p, dy, {.a = a.data_ptr(), .b = b.data_ptr(), .out = dx.data_ptr()}, call);
  return in_layout_of(dy, dx);
}

Tensor grad_weight(const Tensor& dy, const Tensor& x, const Sizes& geometry, int64_t, int64_t precision) {
  const Call call(dy);
  const Problem p = problem_of(Operation::grad_weight, dy, x, geometry, precision_from(precision), call);
  on_card(dy, "dy", output_sizes(p.g), dy);
  on_card(x, "x", input_sizes(p.g), dy);
  const Tensor a = readable(dy, p.channels_last), b = readable(x, p.channels_last);
  const Tensor dw = empty_on_card(dy, weight_sizes(p.g), dy.scalar_type());
  run(p, dy, {.a = a.data_ptr(), .b = b.data_ptr(), .out = dw.data_ptr()}, call);
  return dw;
}

Tensor grad_bias(const Tensor& dy, const Sizes& geometry) {
  const Call call(dy);
  const Problem p = problem_of(Operation::forward, dy, dy, geometry, Precision::fp32, call);
  on_card(dy, "dy", output_sizes(p.g), dy);
  const Tensor a = readable(dy, p.channels_last);
  const Tensor db = empty_on_card(dy, {p.g.c_out}, dy.scalar_type());
  const std::optional<Tensor> space = bytes_on_card(dy, grad_bias_space_bytes(p));
  check(grad_bias_launch(p, a.data_ptr(), db.data_ptr(), data_of(space), call.stream), "grad_bias");
  return db;
}

// Prefers a row of the table, by name, from now on; none if the name is empty.
void cuda_prefer(Text preferred) {
  const std::string name = preferred.take();
  const Implementation* row = name.empty() ? nullptr : row_named(name.c_str());
  if (!row && !name.empty()) refuse("no CUDA implementation is called '" + name + "'");
  prefer_row(row);
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(fastconv, m) {
  m.def("grad_bias(Tensor dy, int[] geometry) -> Tensor");
  m.def("cuda_prefer(str name) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(fastconv, CUDA, m) {
  m.impl("forward", TORCH_BOX(&forward));
  m.impl("grad_input", TORCH_BOX(&grad_input));
  m.impl("grad_weight", TORCH_BOX(&grad_weight));
  m.impl("grad_bias", TORCH_BOX(&grad_bias));
}

STABLE_TORCH_LIBRARY_IMPL(fastconv, CompositeExplicitAutograd, m) {
  m.impl("cuda_prefer", TORCH_BOX(&cuda_prefer));
}

}  // namespace fastconv::cuda

// Importing the module runs the registrations above; it has nothing else to offer.
PyMODINIT_FUNC PyInit__cuda(void) {
  static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_cuda", nullptr, 0, nullptr, nullptr, nullptr, nullptr, nullptr};
  return PyModule_Create(&definition);
}
