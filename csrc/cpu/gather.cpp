#include "gather.h"

#include "blocking.h"

namespace fastconv {
namespace {

template <class T>
Gather<T> with_groups(const Gather<T>& g, int64_t first, int64_t count) {
  Gather<T> part = g;
  part.groups = count;
  part.src += first * g.src_channels * g.src_strides.channel;
  part.dst += first * g.dst_channels * g.dst_strides.channel;
  part.weight += first * g.weight_group;
  if (g.bias) part.bias += first * g.dst_channels;
  return part;
}

// Of a single group.
template <class T>
Gather<T> with_channels(const Gather<T>& g, int64_t first, int64_t count) {
  Gather<T> part = g;
  part.dst_channels = count;
  part.dst += first * g.dst_strides.channel;
  part.weight += first * g.weight_dst;
  if (g.bias) part.bias += first;
  return part;
}

}  // namespace

template <class T>
void run_gather(const Gather<T>& g) {
  const double bytes = static_cast<double>(g.groups * g.dst_channels) * g.reduction() * sizeof(T);
  if (bytes > packed_bytes && g.groups > 1) {
    run_gather(with_groups(g, 0, g.groups / 2));
    run_gather(with_groups(g, g.groups / 2, g.groups - g.groups / 2));
    return;
  }
  const int64_t half = round_up(g.dst_channels / 2, 2 * gemm<T>().lanes);
  if (bytes > packed_bytes && half > 0 && half < g.dst_channels) {
    run_gather(with_channels(g, 0, half));
    run_gather(with_channels(g, half, g.dst_channels - half));
    return;
  }
  // Few channels leave most of a vector empty: then pixels fill it, whatever the layout.
  const bool few = 2 * g.dst_channels < gemm<T>().lanes;
  if (g.dst_strides.channel == 1 && g.dst_strides.column != 1 && !few)
    run_pixels(g);
  else
    run_planes(g);
}

template void run_gather(const Gather<float>&);
template void run_gather(const Gather<double>&);

}  // namespace fastconv
