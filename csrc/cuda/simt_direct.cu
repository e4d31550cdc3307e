// The definition itself, where groups or few channels leave a matrix product too few columns:
//
//   forward, grad_input   one thread adds up one number of the result
//   grad_weight           one block adds up one number of the result
//   grad_bias             blocks add up parts of the pictures, a second kernel the parts
//
// All orders of summation are fixed.
#include "operations.h"
#include "pictures.h"

namespace fastconv::cuda {
namespace {

template <class T>
struct Direct {
  Around<T> a;
  const T* weight;
  // weight[filter][r][tap] for forward, weight[r][filter][tap] for grad_input, within a group
  int64_t group_step, column_step, reduced_step;
  int64_t numbers, channels;  // of the result
  int columns;                // its channels in one group
  bool channels_last;
  Epilogue<T> epilogue;
  T* out;
};

template <class T>
FASTCONV_KERNEL(256) simt_direct(Direct<T> p) {
  const int64_t place = static_cast<int64_t>(block().x) * threads_in_block() + thread();
  if (place >= p.numbers) return;
  const int64_t pixels = static_cast<int64_t>(p.a.positions_h) * p.a.positions_w;
  const int64_t channel = p.channels_last ? place % p.channels : place / pixels % p.channels;
  const int64_t pixel = p.channels_last ? place / p.channels : place / pixels / p.channels * pixels + place % pixels;
  const Position at = position_at(pixel, p.a.positions_h, p.a.positions_w);
  const int64_t group = channel / p.columns;
  const T* picture = p.a.data + at.image * p.a.per_image + group * p.a.channels * p.a.per_channel;
  const T* filter = p.weight + group * p.group_step + channel % p.columns * p.column_step;
  const int base_h = at.i * p.a.scale_h + p.a.offset_h, base_w = at.j * p.a.scale_w + p.a.offset_w;
  Sum<T> sum = 0;
  for (int u = 0; u < p.a.taps_h; ++u) {
    for (int v = 0; v < p.a.taps_w; ++v, ++filter) {
      const int64_t from = pixel_offset(p.a, base_h + u * p.a.step_h, base_w + v * p.a.step_w);
      if (from < 0) continue;
      for (int r = 0; r < p.a.channels; ++r)
        sum += to_float(picture[from + r * p.a.per_channel]) * to_float(filter[r * p.reduced_step]);
    }
  }
  p.out[place] = rounded<T>(finished(sum, p.epilogue, channel, place));
}

// The sum of `value` over the block's threads of equal thread() % lanes; complete in the first ones.
template <class S>
FASTCONV_DEVICE S block_sum(S value, int lanes) {
  S* const sums = static_cast<S*>(shared_memory());
  sums[thread()] = value;
  sync();
  for (int step = threads_in_block() / 2; step >= lanes; step /= 2) {
    if (thread() < step) sums[thread()] += sums[thread() + step];
    sync();
  }
  return sums[thread() % lanes];
}

template <class T>
struct DirectGradWeight {
  Pixels<T> dy;
  Around<T> x;
  T* out;
};

template <class T>
FASTCONV_KERNEL(256) simt_direct_grad_weight(DirectGradWeight<T> p) {
  const int64_t place = block().x;  // ((o * channels + c) * kh + u) * kw + v
  const int v = static_cast<int>(place % p.x.taps_w), u = static_cast<int>(place / p.x.taps_w % p.x.taps_h);
  const int64_t filter = place / p.x.taps_w / p.x.taps_h;
  const int64_t o = filter / p.x.channels, c = o / p.dy.channels * p.x.channels + filter % p.x.channels;
  Sum<T> sum = 0;
  for (int64_t pixel = thread(); pixel < p.dy.count; pixel += threads_in_block()) {
    const Position at = position_at(pixel, p.dy.height, p.dy.width);
    const int64_t from = pixel_offset(p.x, at.i * p.x.scale_h + p.x.offset_h + u * p.x.step_h,
                                      at.j * p.x.scale_w + p.x.offset_w + v * p.x.step_w);
    if (from < 0) continue;
    const int64_t to = at.image * p.dy.per_image + at.i * p.dy.per_row + at.j * p.dy.per_column;
    sum += to_float(p.dy.data[to + o * p.dy.per_channel]) *
           to_float(p.x.data[at.image * p.x.per_image + from + c * p.x.per_channel]);
  }
  sum = block_sum(sum, 1);
  if (thread() == 0) p.out[place] = rounded<T>(sum);
}

// Channels are spread over `lanes` neighbouring threads, where their numbers lie side by side.
template <class T>
struct GradBias {
  Pixels<T> dy;
  int lanes, channel_blocks, splits;
  int64_t per_split;  // pixels
  Sum<T>* space;      // [split][channel]
  T* out;
};

template <class T>
FASTCONV_KERNEL(256) simt_grad_bias(GradBias<T> p) {
  const int split = static_cast<int>(block().x) / p.channel_blocks;
  const int channel = static_cast<int>(block().x) % p.channel_blocks * p.lanes + thread() % p.lanes;
  const int64_t begin = split * p.per_split, step = threads_in_block() / p.lanes;
  const int64_t end = begin + p.per_split < p.dy.count ? begin + p.per_split : p.dy.count;
  Sum<T> sum = 0;
  if (channel < p.dy.channels) {
    for (int64_t pixel = begin + thread() / p.lanes; pixel < end; pixel += step) {
      const Position at = position_at(pixel, p.dy.height, p.dy.width);
      sum += to_float(p.dy.data[at.image * p.dy.per_image + at.i * p.dy.per_row + at.j * p.dy.per_column +
                                channel * p.dy.per_channel]);
    }
  }
  sum = block_sum(sum, p.lanes);
  if (thread() < p.lanes && channel < p.dy.channels) p.space[static_cast<int64_t>(split) * p.dy.channels + channel] = sum;
}

template <class T>
FASTCONV_KERNEL(256) simt_grad_bias_sum(GradBias<T> p) {
  const int channel = static_cast<int>(block().x) * threads_in_block() + thread();
  if (channel >= p.dy.channels) return;
  Sum<T> sum = 0;
  for (int split = 0; split < p.splits; ++split) sum += p.space[static_cast<int64_t>(split) * p.dy.channels + channel];
  p.out[channel] = rounded<T>(sum);
}

Grid blocks_for(int64_t threads) { return {static_cast<unsigned>(ceil_div(threads, 256)), 1, 1}; }

template <class T>
Pixels<T> output_pixels(const Problem& p, const void* dy, int64_t channels) {
  const Strides s = output_strides(p);
  return {static_cast<const T*>(dy), s.image, s.channel, s.row, s.column, static_cast<int>(channels),
          static_cast<int>(p.g.out_h), static_cast<int>(p.g.out_w), p.g.n * p.g.out_h * p.g.out_w, false};
}

template <class T>
int launch_direct(const Problem& p, const Operands& o, void* stream) {
  const Geometry& g = p.g;
  const bool forward = p.operation == Operation::forward;
  const int64_t taps = g.kh * g.kw, in = g.c_in_per_group(), out = g.c_out_per_group();
  const Around<T> a = forward ? input_around_outputs<T>(p, o.a) : output_around_inputs<T>(p, o.a);
  const int64_t channels = forward ? g.c_out : g.c_in;
  const int64_t numbers = g.n * channels * a.positions_h * a.positions_w;
  const Direct<T> direct{a, static_cast<const T*>(o.b), in * out * taps, forward ? in * taps : taps,
                         forward ? taps : in * taps, numbers, channels, static_cast<int>(forward ? out : in),
                         p.channels_last, epilogue_of<T>(o), static_cast<T*>(o.out)};
  return launch(simt_direct<T>, blocks_for(numbers), 256, 0, stream, direct);
}

template <class T>
int launch_direct_grad_weight(const Problem& p, const Operands& o, void* stream) {
  const Geometry& g = p.g;
  const DirectGradWeight<T> direct{output_pixels<T>(p, o.a, g.c_out_per_group()), input_around_outputs<T>(p, o.b),
                                   static_cast<T*>(o.out)};
  const unsigned numbers = static_cast<unsigned>(g.c_out * g.c_in_per_group() * g.kh * g.kw);
  return launch(simt_direct_grad_weight<T>, {numbers, 1, 1}, 256, 256 * sizeof(Sum<T>), stream, direct);
}

struct BiasCut {
  int lanes, channel_blocks, splits;
  int64_t per_split;
};

BiasCut bias_cut(const Problem& p) {
  const int lanes = p.channels_last ? 32 : 1;
  const int64_t blocks = ceil_div(p.g.c_out, lanes), pixels = p.g.n * p.g.out_h * p.g.out_w;
  int64_t splits = ceil_div(4 * p.processors, blocks);
  if (splits > ceil_div(pixels, 1024)) splits = ceil_div(pixels, 1024);
  const int64_t per_split = ceil_div(pixels, splits);
  return {lanes, static_cast<int>(blocks), static_cast<int>(ceil_div(pixels, per_split)), per_split};
}

}  // namespace

bool direct_accepts(const Problem& p) {
  const Geometry& g = p.g;
  const int64_t in = g.c_in_per_group(), out = g.c_out_per_group();
  if (p.operation == Operation::grad_weight) return g.groups > 1 && in * out * g.kh * g.kw <= 128;
  const int64_t columns = p.operation == Operation::forward ? out : in;
  const int64_t rows = p.operation == Operation::forward ? g.n * g.out_h * g.out_w : g.n * g.h * g.w;
  return g.groups > 1 ? columns <= 8 : columns <= 4 && rows >= 4096;
}

int direct_launch(const Problem& p, const Operands& o, void* stream) {
  return with_type(p.type, [&](auto number) {
    using T = decltype(number);
    return p.operation == Operation::grad_weight ? launch_direct_grad_weight<T>(p, o, stream)
                                                 : launch_direct<T>(p, o, stream);
  });
}

int64_t grad_bias_space_bytes(const Problem& p) {
  return bias_cut(p).splits * p.g.c_out * (p.type == Type::f64 ? 8 : 4);
}

int grad_bias_launch(const Problem& p, const void* dy, void* dbias, void* space, void* stream) {
  return with_type(p.type, [&](auto number) {
    using T = decltype(number);
    const BiasCut cut = bias_cut(p);
    const GradBias<T> bias{output_pixels<T>(p, dy, p.g.c_out), cut.lanes, cut.channel_blocks, cut.splits,
                           cut.per_split, static_cast<Sum<T>*>(space), static_cast<T*>(dbias)};
    const Grid grid{static_cast<unsigned>(cut.channel_blocks * cut.splits), 1, 1};
    const int error = launch(simt_grad_bias<T>, grid, 256, 256 * sizeof(Sum<T>), stream, bias);
    return error ? error : launch(simt_grad_bias_sum<T>, blocks_for(p.g.c_out), 256, 0, stream, bias);
  });
}

}  // namespace fastconv::cuda
