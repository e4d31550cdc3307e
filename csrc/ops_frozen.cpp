// The operators of frozen stacks (fastconv/frozen/stack.py): one 3 x 3 convolution with its ReLU and pool,
// forward or back, between pictures in the blocked layout.
//
//   frozen_forward(from, u, bias, outside, to, bits, tap, space, numbers)
//       outside: what each channel of `from` is padded with, or empty for 0; few_channels alone asks
//   frozen_backward(gradient, bits, u, to, added, space, numbers)
//       u: of the way back, or with `one_set` that of the forward direction
//   frozen_block(from, to, numbers)
//   frozen_space(backward, numbers) -> floats of `space`
//   frozen_moments(features, mean, covariance, space, numbers)
//   frozen_moments_backward(features, mean, d_mean, d_covariance, add, to, space, numbers)
//   frozen_moments_space(backward, channels) -> floats of `space`
//   prepared_floats(c_out, c_in, algorithm, rotated) -> floats of `u`
//
// They write into memory that the caller keeps.  `numbers`: see Numbers.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>

#include "cpu/few_channels.h"
#include "cpu/gram.h"
#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/transformed.h"
#include "tensors.h"

namespace fastconv {
namespace {

// How a picture lies in memory, as fastconv/frozen/cpu_run.py counts them.
enum Layout : int64_t { planar, last, blocked };

struct Numbers {
  int64_t n, c_in, h, w, c_out, out_h, out_w, pad_top, pad_left;  // out: before pooling
  int64_t algorithm;    // a Transformed (cpu/transformed.h)
  int64_t relu, pool;   // 0 or 1; 0 none, 1 maximum, 2 average
  int64_t layout;       // of the stack's own input and its gradient; everything else is blocked
  int64_t one_set;      // 1: the forward weights serve the way back as well (cpu/winograd_turn.h)
  static constexpr int count = 14;

  Transformed transformed() const { return static_cast<Transformed>(algorithm); }
  bool is_few() const { return transformed() == Transformed::few_channels; }
  Pool pooling() const { return static_cast<Pool>(pool); }
  Decisions decisions(uint16_t* bits) const {
    return {bits, relu != 0, pooling(), ceil_div(c_out, block_width), out_h, out_w};
  }
};
static_assert(sizeof(Numbers) == Numbers::count * sizeof(int64_t), "read as a flat list");

Numbers numbers_from(const Sizes& flat) {
  if (flat.size() != Numbers::count) refuse("frozen: expects 14 numbers");
  Numbers a;
  std::memcpy(&a, flat.data(), sizeof a);
  if (a.n < 1 || a.c_in < 1 || a.h < 1 || a.w < 1 || a.c_out < 1 || a.out_h < 1 || a.out_w < 1)
    refuse("frozen: expects positive sizes");
  if (!is_transformed(a.algorithm)) refuse("frozen: algorithm expects 1, 4 or 6");
  if (a.is_few() && (a.c_in > Few::most_channels || a.c_out <= Few::most_channels))
    refuse("frozen: few_channels expects up to 3 channels in, and more out");
  if (a.pool < 0 || a.pool > 2 || a.layout < 0 || a.layout > 2) refuse("frozen: unknown pool or layout");
  if (a.one_set && a.is_few()) refuse("frozen: few_channels has weights for each direction");
  if (a.pool && (a.out_h < 2 || a.out_w < 2)) refuse("frozen: nothing is left to pool");
  return a;
}

Picture picture(Layout layout, float* data, int64_t c, int64_t h, int64_t w) {
  return layout == planar ? planar_picture(data, c, h, w)
         : layout == last ? last_picture(data, c, h, w)
                          : blocked_picture(data, c, h, w);
}

// A picture lies as its layout says, which torch's own strides need not tell.
float* pixels_of(const Tensor& t, int64_t least) {
  if (t.scalar_type() != ScalarType::Float || !t.is_cpu() || t.numel() < least)
    refuse("frozen: a picture expects " + std::to_string(least) + " float32 numbers on the CPU");
  return static_cast<float*>(t.data_ptr());
}

uint16_t* bits_of(const std::optional<Tensor>& bits, const Numbers& a) {
  if (!bits) {
    if (a.relu || a.pool) refuse("frozen: a ReLU or pool expects memory for its decisions");
    return nullptr;
  }
  auto* words = memory_of<int16_t>(*bits, a.decisions(nullptr).words(a.n), "frozen: the decisions");
  return reinterpret_cast<uint16_t*>(words);
}

const float* weights_of(const Tensor& u, const Numbers& a, bool rotated) {
  const int64_t floats = transformed_floats(a.transformed(), a.c_out, a.c_in, rotated);
  return numbers_of<const float>(u, floats, "frozen: this layer's weights");
}

void run(const Numbers& a, const WinogradJob& job, const Tensor& space) {
  const Transformed algorithm = a.transformed();
  const int64_t floats = transformed_workspace(algorithm, job);
  convolve_transformed(algorithm, job, memory_of<float>(space, floats, "frozen: the work space"));
}

WinogradJob forward_job(const Numbers& a, const Decisions& d) {
  const Layout layout = static_cast<Layout>(a.layout);
  return {static_cast<int>(a.algorithm), a.n, picture(layout, nullptr, a.c_in, a.h, a.w),
          picture(blocked, nullptr, a.c_out, d.pooled_height(), d.pooled_width()), a.pad_top, a.pad_left,
          nullptr, nullptr, a.relu != 0, false, nullptr, &d, nullptr, nullptr};
}

WinogradJob backward_job(const Numbers& a, const Decisions& d) {
  const Layout layout = static_cast<Layout>(a.layout);
  return {static_cast<int>(a.algorithm), a.n,
          picture(blocked, nullptr, a.c_out, d.pooled_height(), d.pooled_width()),
          picture(layout, nullptr, a.c_in, a.h, a.w), 2 - a.pad_top, 2 - a.pad_left,
          nullptr, nullptr, false, a.one_set != 0, d.bits ? &d : nullptr, nullptr, nullptr, nullptr};
}

void frozen_forward(const Tensor& from, const Tensor& u, const std::optional<Tensor>& bias,
                    const Tensor& outside, Tensor to, std::optional<Tensor> bits,
                    std::optional<Tensor> tap, Tensor space, const Sizes& flat) {
  const Numbers a = numbers_from(flat);
  const Decisions decisions = a.decisions(bits_of(bits, a));
  WinogradJob job = forward_job(a, decisions);
  job.from.data = pixels_of(from, a.n * job.from.image);
  job.to.data = pixels_of(to, a.n * job.to.image);
  job.u = weights_of(u, a, false);
  if (bias) job.bias = numbers_of<float>(*bias, a.c_out, "frozen: the bias");
  if (outside.numel()) {
    if (!a.is_few()) refuse("frozen: only few_channels pads with other numbers than 0");
    job.outside = numbers_of<float>(outside, a.c_in, "frozen: what is outside");
  }
  Picture copy = picture(planar, nullptr, a.c_out, decisions.pooled_height(), decisions.pooled_width());
  if (tap) {
    copy.data = pixels_of(*tap, a.n * copy.image);
    job.tap = &copy;
  }
  run(a, job, space);
}

void frozen_backward(const Tensor& gradient, const std::optional<Tensor>& bits, const Tensor& u, Tensor to,
                     const std::optional<Tensor>& added, Tensor space, const Sizes& flat) {
  const Numbers a = numbers_from(flat);
  const Decisions decisions = a.decisions(bits_of(bits, a));
  WinogradJob job = backward_job(a, decisions);
  job.from.data = pixels_of(gradient, a.n * job.from.image);
  job.to.data = pixels_of(to, a.n * job.to.image);
  job.u = weights_of(u, a, !a.one_set);
  Picture more = picture(planar, nullptr, a.c_in, a.h, a.w);
  if (added) {
    more.data = pixels_of(*added, a.n * more.image);
    job.added = &more;
  }
  run(a, job, space);
}

int64_t frozen_space(bool backward, const Sizes& flat) {
  const Numbers a = numbers_from(flat);
  const Decisions decisions = a.decisions(nullptr);
  const WinogradJob job = backward ? backward_job(a, decisions) : forward_job(a, decisions);
  return transformed_workspace(a.transformed(), job);
}

// A planar picture into the blocked layout; `numbers`: n, c, h, w.
void frozen_block(const Tensor& from, Tensor to, const Sizes& numbers) {
  if (numbers.size() != 4) refuse("frozen: expects 4 numbers");
  const int64_t n = numbers[0], c = numbers[1], h = numbers[2], w = numbers[3];
  Picture source = picture(planar, nullptr, c, h, w), target = picture(blocked, nullptr, c, h, w);
  source.data = pixels_of(from, n * source.image);
  target.data = pixels_of(to, n * target.image);
  constexpr int64_t columns = 64;
  const int64_t blocks = ceil_div(c, block_width);
  parallel_for(n * blocks * h, [&](int64_t index, int64_t) {
    alignas(64) float strip[Strip::row];
    for (int64_t x = 0; x < w; x += columns) {
      const Window window{index / h / blocks, index / h % blocks, index % h, x, 1, columns};
      kernels().picture->gather(source, window, strip);
      kernels().picture->scatter(target, window, strip, false);
    }
  });
}

// numbers: n, c, h, w.  `at` picture i of the batch.
Moments moments_of(const Tensor& features, const Sizes& numbers) {
  if (numbers.size() != 4 || *std::ranges::min_element(numbers) < 1)
    refuse("frozen: moments expect 4 positive numbers");
  const int64_t pixels = numbers[2] * numbers[3];
  const int64_t image = ceil_div(numbers[1], block_width) * block_width * pixels;
  return {numbers[1], pixels, pixels_of(features, numbers[0] * image)};
}

float* picture_at(float* data, int64_t index, int64_t floats) { return data ? data + index * floats : nullptr; }

float* optional_numbers(const std::optional<Tensor>& t, int64_t count, const char* name) {
  return t ? numbers_of<float>(*t, count, name) : nullptr;
}

void frozen_moments(const Tensor& features, Tensor mean, Tensor covariance, Tensor space,
                    const Sizes& numbers) {
  Moments m = moments_of(features, numbers);
  const int64_t n = numbers[0], c = m.channels;
  float* to_mean = numbers_of<float>(mean, n * c, "frozen: the mean");
  float* to_covariance = numbers_of<float>(covariance, n * c * c, "frozen: the covariance");
  float* work = memory_of<float>(space, moments_workspace(c), "frozen: the work space");
  for (int64_t i = 0; i < n; ++i, m.features += ceil_div(c, block_width) * block_width * m.pixels)
    moments(m, to_mean + i * c, to_covariance + i * c * c, work);
}

void frozen_moments_backward(const Tensor& features, const Tensor& mean,
                             const std::optional<Tensor>& d_mean,
                             const std::optional<Tensor>& d_covariance, bool add, Tensor to, Tensor space,
                             const Sizes& numbers) {
  Moments m = moments_of(features, numbers);
  const int64_t n = numbers[0], c = m.channels;
  const int64_t image = ceil_div(c, block_width) * block_width * m.pixels;
  const float* means = numbers_of<float>(mean, n * c, "frozen: the mean");
  float* from_mean = optional_numbers(d_mean, n * c, "frozen: the mean's gradient");
  float* from_covariance = optional_numbers(d_covariance, n * c * c, "frozen: the covariance's gradient");
  float* gradient = pixels_of(to, n * image);
  float* work = memory_of<float>(space, moments_backward_workspace(c), "frozen: the work space");
  for (int64_t i = 0; i < n; ++i, m.features += image)
    moments_backward(m, means + i * c, picture_at(from_mean, i, c), picture_at(from_covariance, i, c * c),
                     add, gradient + i * image, work);
}

int64_t frozen_moments_space(bool backward, int64_t channels) {
  return backward ? moments_backward_workspace(channels) : moments_workspace(channels);
}

int64_t prepared_floats(int64_t c_out, int64_t c_in, int64_t algorithm, bool rotated) {
  if (!is_transformed(algorithm)) refuse("prepared_floats: algorithm expects 1, 4 or 6");
  return transformed_floats(static_cast<Transformed>(algorithm), c_out, c_in, rotated);
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(fastconv, m) {
  m.def("frozen_forward(Tensor from_, Tensor u, Tensor? bias, Tensor outside, Tensor(a!) to, "
        "Tensor(b!)? bits, Tensor(c!)? tap, Tensor(d!) space, int[] numbers) -> ()");
  m.def("frozen_backward(Tensor gradient, Tensor? bits, Tensor u, Tensor(a!) to, Tensor? added, "
        "Tensor(b!) space, int[] numbers) -> ()");
  m.def("prepared_floats(int c_out, int c_in, int algorithm, bool rotated) -> int");
  m.def("frozen_space(bool backward, int[] numbers) -> int");
  m.def("frozen_moments(Tensor features, Tensor(a!) mean, Tensor(b!) covariance, Tensor(c!) space, "
        "int[] numbers) -> ()");
  m.def("frozen_moments_backward(Tensor features, Tensor mean, Tensor? d_mean, Tensor? d_covariance, "
        "bool add, Tensor(a!) to, Tensor(b!) space, int[] numbers) -> ()");
  m.def("frozen_moments_space(bool backward, int channels) -> int");
  m.def("frozen_block(Tensor from_, Tensor(a!) to, int[] numbers) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(fastconv, CPU, m) {
  m.impl("frozen_forward", TORCH_BOX(&frozen_forward));
  m.impl("frozen_backward", TORCH_BOX(&frozen_backward));
  m.impl("frozen_block", TORCH_BOX(&frozen_block));
  m.impl("frozen_moments", TORCH_BOX(&frozen_moments));
  m.impl("frozen_moments_backward", TORCH_BOX(&frozen_moments_backward));
}

STABLE_TORCH_LIBRARY_IMPL(fastconv, CompositeExplicitAutograd, m) {
  m.impl("prepared_floats", TORCH_BOX(&prepared_floats));
  m.impl("frozen_space", TORCH_BOX(&frozen_space));
  m.impl("frozen_moments_space", TORCH_BOX(&frozen_moments_space));
}

}  // namespace fastconv
