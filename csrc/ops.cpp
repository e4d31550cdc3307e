// The torch operators of the native backend: schemas, validation, and the way from tensors to
// plain pointers.  Python (fastconv/backends/native.py) holds the fake kernels.
//
//   forward(x, weight, bias, geometry) -> y
//   grad_input(dy, weight, geometry) -> dx
//   grad_weight(dy, x, geometry) -> dweight
//
// tensors.h validates what comes in; ops_cuda.cpp gives the same operators for CUDA tensors, and
// `precision` is for those.
#include <Python.h>
#include <torch/csrc/stable/library.h>

#include <new>
#include <optional>
#include <string>
#include <string_view>

#include "cpu/exact.h"
#include "cpu/few_channels.h"
#include "cpu/hash.h"
#include "cpu/implementations.h"
#include "cpu/kernels.h"
#include "cpu/pages.h"
#include "cpu/parallel.h"
#include "cpu/transformed.h"
#include "results.h"
#include "tensors.h"

namespace fastconv {
namespace {

void on_cpu(const Tensor& tensor, const char* name, const Sizes& sizes, ScalarType dtype) {
  require(tensor, name, sizes, dtype);
  if (!tensor.is_cpu()) refuse(std::string(name) + " is not on the CPU");
}

DType dtype_of(ScalarType type) {
  switch (type) {
    case ScalarType::Float: return DType::f32;
    case ScalarType::Double: return DType::f64;
    default: refuse("expects float32 or float64 tensors");
  }
}

Tensor empty_picture(const Tensor& like, ScalarType type, const Sizes& sizes, bool channels_last) try {
  if (std::optional<Tensor> kept = kept_result(sizes, type, channels_last)) return *kept;
  const auto format = channels_last ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous;
  const Tensor t = torch::stable::empty(sizes, type, std::nullopt, like.device(), std::nullopt, format);
  prefer_large_pages(t.data_ptr(), t.numel() * (type == ScalarType::Double ? 8 : 4));
  return t;
} catch (const std::exception&) {
  out_of_memory();
}

void run(Operation operation, Problem problem, Operands operands) {
  const InDoublePrecision precision(problem.dtype == DType::f64);
  if (problem.algorithm == Algorithm::automatic && winograd_tile(operation, problem) &&
      is_exact_directly(operation, problem, operands)) {
    problem.algorithm = Algorithm::direct;
    operands.prepared = nullptr;
  }
  try {
    choose(operation, problem).run(problem, operands);
  } catch (const std::bad_alloc&) {
    out_of_memory();
  }
}

// `number` is the name's place in algorithms.py's CHOICES.
Algorithm algorithm_from(int64_t number) {
  if (number < 0 || number > 3) refuse("algo expects a number from 0 to 3, got " + std::to_string(number));
  return static_cast<Algorithm>(number);
}

// Weights that `prepare` has transformed for this very problem.
const void* prepared_for(Operation operation, const Problem& problem, const std::optional<Tensor>& u) {
  if (!u) return nullptr;
  const int tile = winograd_tile(operation, problem);
  const bool rotated = operation == Operation::grad_input;
  if (!tile) refuse("prepared weights are given to a convolution that takes none");
  on_cpu(*u, "prepared", {winograd_weights_floats(tile, problem.g.c_out, problem.g.c_in, rotated)},
          ScalarType::Float);
  return u->data_ptr();
}

Tensor forward(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, const Sizes& geometry,
               int64_t algo, const std::optional<Tensor>& prepared, int64_t) {
  const Geometry g = geometry_from(geometry);
  const ScalarType type = x.scalar_type();
  const Problem problem{g, dtype_of(type), is_channels_last(x), algorithm_from(algo)};
  on_cpu(x, "x", input_sizes(g), type);
  on_cpu(weight, "weight", weight_sizes(g), type);
  if (bias) on_cpu(*bias, "bias", {g.c_out}, type);
  const Tensor a = dense(x, problem.channels_last), b = dense(weight, false);
  const std::optional<Tensor> c = bias ? std::optional(dense(*bias, false)) : std::nullopt;
  const Tensor y = empty_picture(x, type, output_sizes(g), problem.channels_last);
  run(Operation::forward, problem, {a.data_ptr(), b.data_ptr(), c ? c->data_ptr() : nullptr, y.data_ptr(),
                                    prepared_for(Operation::forward, problem, prepared)});
  return y;
}

Tensor grad_input(const Tensor& dy, const Tensor& weight, const Sizes& geometry, int64_t algo,
                  const std::optional<Tensor>& prepared, int64_t) {
  const Geometry g = geometry_from(geometry);
  const ScalarType type = dy.scalar_type();
  const Problem problem{g, dtype_of(type), is_channels_last(dy), algorithm_from(algo)};
  on_cpu(dy, "dy", output_sizes(g), type);
  on_cpu(weight, "weight", weight_sizes(g), type);
  const Tensor a = dense(dy, problem.channels_last), b = dense(weight, false);
  const Tensor dx = empty_picture(dy, type, input_sizes(g), problem.channels_last);
  run(Operation::grad_input, problem, {a.data_ptr(), b.data_ptr(), nullptr, dx.data_ptr(),
                                       prepared_for(Operation::grad_input, problem, prepared)});
  return dx;
}

Tensor grad_weight(const Tensor& dy, const Tensor& x, const Sizes& geometry, int64_t algo, int64_t) {
  const Geometry g = geometry_from(geometry);
  const ScalarType type = dy.scalar_type();
  const Problem problem{g, dtype_of(type), is_channels_last(x), algorithm_from(algo)};
  on_cpu(dy, "dy", output_sizes(g), type);
  on_cpu(x, "x", input_sizes(g), type);
  const Tensor a = dense(dy, problem.channels_last), b = dense(x, problem.channels_last);
  const Tensor dw = empty_picture(dy, type, weight_sizes(g), false);
  run(Operation::grad_weight, problem, {a.data_ptr(), b.data_ptr(), nullptr, dw.data_ptr()});
  return dw;
}

Operation operation_from(int64_t number) {
  if (number < 0 || number > 2) refuse("operation expects a number from 0 to 2, got " + std::to_string(number));
  return static_cast<Operation>(number);
}

// Which implementation would run, by its place in `implementations`.  A number: of a string that an
// operator returns, torch's stable interface loses some 50 bytes.
int64_t explain(int64_t operation, const Sizes& geometry, bool float64, bool channels_last, int64_t algo) {
  const Problem problem{geometry_from(geometry), float64 ? DType::f64 : DType::f32, channels_last,
                        algorithm_from(algo)};
  const Operation which = operation_from(operation);
  return &choose(which, problem) - implementations_of(which);
}

// The names of an operation's implementations, separated by spaces.
std::string implementations(int64_t operation) {
  std::string names;
  for (const Implementation* row = implementations_of(operation_from(operation));; ++row) {
    names += (names.empty() ? "" : " ") + std::string(row->name);
    if (row->name == std::string_view("general")) return names;
  }
}

// Weights transformed for an algorithm (cpu/transformed.h): what `prepared` expects of Winograd's.
// `rotated`: for grad_input.
Tensor prepare(const Tensor& weight, int64_t algorithm, bool rotated) {
  if (!is_transformed(algorithm)) refuse("prepare: algorithm expects 1, 4 or 6");
  if (weight.dim() != 4) refuse("prepare: weight expects 4 dimensions");
  const auto named = static_cast<Transformed>(algorithm);
  const int64_t c_out = weight.size(0), c_in = weight.size(1);
  on_cpu(weight, "weight", {c_out, c_in, 3, 3}, ScalarType::Float);
  if (named == Transformed::few_channels && c_in > Few::most_channels)
    refuse("prepare: few_channels expects up to 3 input channels");
  const Tensor w = dense(weight, false);
  const Sizes size{transformed_floats(named, c_out, c_in, rotated)};
  const Tensor u = torch::stable::empty(size, ScalarType::Float, std::nullopt, weight.device());
  prefer_large_pages(u.data_ptr(), u.numel() * sizeof(float));
  transform_weights(named, static_cast<const float*>(w.data_ptr()), c_out, c_in, rotated,
                    static_cast<float*>(u.data_ptr()));
  return u;
}

// A hash of what the weight says: its dtype, its shape and its numbers, in the order of its axes whatever
// its strides.  See prepared.py.
int64_t fingerprint(const Tensor& weight) {
  const bool is_double = dtype_of(weight.scalar_type()) == DType::f64;
  const Tensor w = dense(weight, false);
  Sizes shape{is_double};
  for (const int64_t size : w.sizes()) shape.push_back(size);
  const auto bytes = static_cast<int64_t>(shape.size() * sizeof(int64_t));
  const uint64_t seed = hash_of_piece(reinterpret_cast<const char*>(shape.data()), bytes);
  return hash_of(w.data_ptr(), w.numel() * (is_double ? 8 : 4), seed);
}

// The instruction sets of this build and processor, best first, separated by spaces.
std::string isas() {
  std::string names;
  for (const Kernels* const* at = available_kernels(); *at != nullptr; ++at)
    names += (names.empty() ? "" : " ") + std::string((*at)->name);
  return names;
}

int64_t kept(bool release) { return kept_bytes(release); }
bool keeps() { return keeps_results(); }

std::string isa() { return kernels().name; }

}  // namespace

STABLE_TORCH_LIBRARY(fastconv, m) {
  m.def("forward(Tensor x, Tensor weight, Tensor? bias, int[] geometry, int algo=0, "
        "Tensor? prepared=None, int precision=0) -> Tensor");
  m.def("grad_input(Tensor dy, Tensor weight, int[] geometry, int algo=0, "
        "Tensor? prepared=None, int precision=0) -> Tensor");
  m.def("grad_weight(Tensor dy, Tensor x, int[] geometry, int algo=0, "
        "int precision=0) -> Tensor");
  m.def("prepare(Tensor weight, int algorithm, bool rotated) -> Tensor");
  m.def("fingerprint(Tensor weight) -> int");
  m.def("explain(int operation, int[] geometry, bool float64, bool channels_last, "
        "int algo) -> int");
  m.def("implementations(int operation) -> str");
  m.def("isas() -> str");
  m.def("isa() -> str");
  m.def("kept_bytes(bool release) -> int");
  m.def("keep_limit() -> int");
  m.def("keeps_results() -> bool");
}

STABLE_TORCH_LIBRARY_IMPL(fastconv, CPU, m) {
  m.impl("forward", TORCH_BOX(&forward));
  m.impl("grad_input", TORCH_BOX(&grad_input));
  m.impl("grad_weight", TORCH_BOX(&grad_weight));
  m.impl("prepare", TORCH_BOX(&prepare));
  m.impl("fingerprint", TORCH_BOX(&fingerprint));
}

STABLE_TORCH_LIBRARY_IMPL(fastconv, CompositeExplicitAutograd, m) {
  m.impl("explain", TORCH_BOX(&explain));
  m.impl("implementations", TORCH_BOX(&implementations));
  m.impl("keep_limit", TORCH_BOX(&most_kept));
  m.impl("isas", TORCH_BOX(&isas));
  m.impl("isa", TORCH_BOX(&isa));
  m.impl("kept_bytes", TORCH_BOX(&kept));
  m.impl("keeps_results", TORCH_BOX(&keeps));
}

}  // namespace fastconv

// Importing the module runs the registrations above; it has nothing else to offer.
PyMODINIT_FUNC PyInit__C(void) {
  static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_C", nullptr, 0, nullptr, nullptr, nullptr, nullptr, nullptr};
  return PyModule_Create(&definition);
}
