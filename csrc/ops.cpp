// The torch operators of the native backend: schemas, validation, and the way from tensors to
// plain pointers.  Python (fastconv/backends/native.py) holds the fake kernels.
//
//   forward(x, weight, bias, geometry) -> y
//   grad_input(dy, weight, geometry) -> dx
//   grad_weight(dy, x, geometry) -> dweight
//
// `geometry` is ConvGeometry.flat.  Everything is validated here, before any kernel runs, so that
// no list of integers can make a kernel leave its tensors.
#include <Python.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstring>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "cpu/implementations.h"
#include "cpu/few_channels.h"
#include "cpu/hash.h"
#include "cpu/kernels.h"
#include "cpu/pages.h"
#include "cpu/winograd.h"
#include "geometry.h"
#include "results.h"

namespace fastconv {
namespace {

using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Sizes = std::vector<int64_t>;

[[noreturn]] void refuse(const std::string& what) { throw std::invalid_argument("fastconv: " + what); }

Geometry geometry_from(const Sizes& flat) {
  if (flat.size() != Geometry::fields) refuse("geometry expects 18 integers, in ConvGeometry's order");
  for (const int64_t value : flat)  // so that no product of two of them leaves 64 bits
    if (value >= int64_t{1} << 30) refuse("geometry expects numbers below 2^30, got " + std::to_string(value));
  Geometry g;
  std::memcpy(&g, flat.data(), sizeof g);
  const bool positive = g.n > 0 && g.c_in > 0 && g.h > 0 && g.w > 0 && g.c_out > 0 && g.kh > 0 &&
                        g.kw > 0 && g.stride_h > 0 && g.stride_w > 0 && g.dil_h > 0 && g.dil_w > 0 &&
                        g.groups > 0 && g.out_h > 0 && g.out_w > 0;
  const bool padded = g.pad_top >= 0 && g.pad_bottom >= 0 && g.pad_left >= 0 && g.pad_right >= 0;
  if (!positive || !padded) refuse("geometry expects positive sizes and non-negative padding");
  if (g.c_in % g.groups || g.c_out % g.groups) refuse("geometry: groups must divide both channels");
  const int64_t last_row = (g.out_h - 1) * g.stride_h + (g.kh - 1) * g.dil_h;
  const int64_t last_column = (g.out_w - 1) * g.stride_w + (g.kw - 1) * g.dil_w;
  if (last_row >= g.pad_top + g.h + g.pad_bottom || last_column >= g.pad_left + g.w + g.pad_right)
    refuse("geometry: the output reaches beyond the padded input");
  return g;
}

void require(const Tensor& tensor, const char* name, const Sizes& sizes, ScalarType dtype) {
  const auto actual = tensor.sizes();
  bool same = actual.size() == sizes.size();
  for (size_t i = 0; same && i < sizes.size(); ++i) same = actual[i] == sizes[i];
  if (!same) refuse(std::string(name) + " does not have the shape that geometry says");
  if (tensor.scalar_type() != dtype) refuse(std::string(name) + " has another dtype than the first tensor");
  if (!tensor.is_cpu()) refuse(std::string(name) + " is not on the CPU");
}

DType dtype_of(const Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case ScalarType::Float: return DType::f32;
    case ScalarType::Double: return DType::f64;
    default: refuse("expects float32 or float64 tensors");
  }
}

// Channels-last only if it is not also plain: a picture of one channel or one pixel is both.  As in
// torch, the stride of an axis of size one says nothing.
bool is_channels_last(const Tensor& t) {
  if (t.is_contiguous()) return false;
  const int64_t c = t.size(1), h = t.size(2), w = t.size(3);
  const auto steps = [&](int axis, int64_t step) { return t.size(axis) == 1 || t.stride(axis) == step; };
  return steps(1, 1) && steps(3, c) && steps(2, w * c) && steps(0, h * w * c);
}

Tensor dense(const Tensor& t, bool channels_last) {
  if (channels_last)
    return is_channels_last(t) ? t : torch::stable::contiguous(t, MemoryFormat::ChannelsLast);
  return t.is_contiguous() ? t : torch::stable::contiguous(t);
}

// torch reports a failed allocation through this interface as a failed call, without a reason.
[[noreturn]] void out_of_memory() { throw std::runtime_error("fastconv: allocation failed, not enough memory"); }

Tensor empty_picture(const Tensor& like, const Sizes& sizes, bool channels_last) try {
  if (std::optional<Tensor> kept = kept_result(sizes, like.scalar_type(), channels_last)) return *kept;
  const auto format = channels_last ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous;
  const Tensor t = torch::stable::empty(sizes, like.scalar_type(), std::nullopt, like.device(), std::nullopt, format);
  prefer_large_pages(t.data_ptr(), t.numel() * (like.scalar_type() == ScalarType::Double ? 8 : 4));
  return t;
} catch (const std::exception&) {
  out_of_memory();
}

Sizes input_sizes(const Geometry& g) { return {g.n, g.c_in, g.h, g.w}; }
Sizes output_sizes(const Geometry& g) { return {g.n, g.c_out, g.out_h, g.out_w}; }
Sizes weight_sizes(const Geometry& g) { return {g.c_out, g.c_in_per_group(), g.kh, g.kw}; }

void run(Operation operation, const Problem& problem, const Operands& operands) {
  try {
    choose(operation, problem).run(problem, operands);
  } catch (const std::bad_alloc&) {
    out_of_memory();
  }
}

Algorithm algorithm_from(const std::string& name) {
  if (name == "auto") return Algorithm::automatic;
  if (name == "direct") return Algorithm::direct;
  if (name == "f4") return Algorithm::f4;
  if (name == "f6") return Algorithm::f6;
  refuse("algo expects auto, direct, f4 or f6, got '" + name + "'");
}

// Weights that `prepare` has transformed for this very problem.
const void* prepared_for(Operation operation, const Problem& problem, const std::optional<Tensor>& u) {
  if (!u) return nullptr;
  const int tile = winograd_tile(operation, problem);
  const bool rotated = operation == Operation::grad_input;
  if (!tile) refuse("prepared weights are given to a convolution that takes none");
  require(*u, "prepared", {winograd_weights_floats(tile, problem.g.c_out, problem.g.c_in, rotated)},
          ScalarType::Float);
  return u->data_ptr();
}

Tensor forward(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, const Sizes& geometry,
               const std::string& algo, const std::optional<Tensor>& prepared) {
  const Geometry g = geometry_from(geometry);
  const Problem problem{g, dtype_of(x), is_channels_last(x), algorithm_from(algo)};
  require(x, "x", input_sizes(g), x.scalar_type());
  require(weight, "weight", weight_sizes(g), x.scalar_type());
  if (bias) require(*bias, "bias", {g.c_out}, x.scalar_type());
  const Tensor a = dense(x, problem.channels_last), b = dense(weight, false);
  const std::optional<Tensor> c = bias ? std::optional(dense(*bias, false)) : std::nullopt;
  const Tensor y = empty_picture(x, output_sizes(g), problem.channels_last);
  run(Operation::forward, problem, {a.data_ptr(), b.data_ptr(), c ? c->data_ptr() : nullptr, y.data_ptr(),
                                    prepared_for(Operation::forward, problem, prepared)});
  return y;
}

Tensor grad_input(const Tensor& dy, const Tensor& weight, const Sizes& geometry, const std::string& algo,
                  const std::optional<Tensor>& prepared) {
  const Geometry g = geometry_from(geometry);
  const Problem problem{g, dtype_of(dy), is_channels_last(dy), algorithm_from(algo)};
  require(dy, "dy", output_sizes(g), dy.scalar_type());
  require(weight, "weight", weight_sizes(g), dy.scalar_type());
  const Tensor a = dense(dy, problem.channels_last), b = dense(weight, false);
  const Tensor dx = empty_picture(dy, input_sizes(g), problem.channels_last);
  run(Operation::grad_input, problem, {a.data_ptr(), b.data_ptr(), nullptr, dx.data_ptr(),
                                       prepared_for(Operation::grad_input, problem, prepared)});
  return dx;
}

Tensor grad_weight(const Tensor& dy, const Tensor& x, const Sizes& geometry, const std::string& algo) {
  const Geometry g = geometry_from(geometry);
  const Problem problem{g, dtype_of(dy), is_channels_last(x), algorithm_from(algo)};
  require(dy, "dy", output_sizes(g), dy.scalar_type());
  require(x, "x", input_sizes(g), dy.scalar_type());
  const Tensor a = dense(dy, problem.channels_last), b = dense(x, problem.channels_last);
  const Tensor dw = empty_picture(dy, weight_sizes(g), false);
  run(Operation::grad_weight, problem, {a.data_ptr(), b.data_ptr(), nullptr, dw.data_ptr()});
  return dw;
}

// The name of the implementation that would run: for `fastconv info`, benchmarks and tests.
std::string explain(const std::string& operation, const Sizes& geometry, bool float64, bool channels_last,
                    const std::string& algo) {
  const Problem problem{geometry_from(geometry), float64 ? DType::f64 : DType::f32, channels_last,
                        algorithm_from(algo)};
  if (operation == "forward") return choose(Operation::forward, problem).name;
  if (operation == "grad_input") return choose(Operation::grad_input, problem).name;
  if (operation == "grad_weight") return choose(Operation::grad_weight, problem).name;
  refuse("operation expects forward, grad_input or grad_weight, got '" + operation + "'");
}

// Weights transformed for Winograd's F(tile x tile, 3 x 3), or for few channels (tile 1): what
// `prepared` expects.  `rotated`: for grad_input.
Tensor prepare(const Tensor& weight, int64_t tile, bool rotated) {
  if (tile != 1 && tile != 4 && tile != 6) refuse("prepare: tile expects 1, 4 or 6");
  if (weight.dim() != 4) refuse("prepare: weight expects 4 dimensions");
  const int64_t c_out = weight.size(0), c_in = weight.size(1);
  require(weight, "weight", {c_out, c_in, 3, 3}, ScalarType::Float);
  if (tile == 1 && c_in > Few::most_channels) refuse("prepare: tile 1 expects up to 3 input channels");
  const Tensor w = dense(weight, false);
  const Sizes size{winograd_weights_floats(static_cast<int>(tile), c_out, c_in, rotated)};
  const Tensor u = torch::stable::empty(size, ScalarType::Float, std::nullopt, weight.device());
  prefer_large_pages(u.data_ptr(), u.numel() * sizeof(float));
  winograd_weights(static_cast<int>(tile), static_cast<const float*>(w.data_ptr()), c_out, c_in, rotated,
                   static_cast<float*>(u.data_ptr()));
  return u;
}

// A number that changes with any change of the weight's contents; see prepared.py.
int64_t fingerprint(const Tensor& weight) {
  dtype_of(weight);
  const Tensor w = dense(weight, false);
  return hash_of(w.data_ptr(), w.numel() * (w.scalar_type() == ScalarType::Double ? 8 : 4));
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
  m.def("forward(Tensor x, Tensor weight, Tensor? bias, int[] geometry, str algo='auto', "
        "Tensor? prepared=None) -> Tensor");
  m.def("grad_input(Tensor dy, Tensor weight, int[] geometry, str algo='auto', "
        "Tensor? prepared=None) -> Tensor");
  m.def("grad_weight(Tensor dy, Tensor x, int[] geometry, str algo='auto') -> Tensor");
  m.def("prepare(Tensor weight, int tile, bool rotated) -> Tensor");
  m.def("fingerprint(Tensor weight) -> int");
  m.def("explain(str operation, int[] geometry, bool float64, bool channels_last, "
        "str algo='auto') -> str");
  m.def("isas() -> str");
  m.def("isa() -> str");
  m.def("kept_bytes(bool release) -> int");
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
