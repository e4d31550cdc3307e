// The general implementation's host side: how a problem is cut into tiles and splits, weights as
// the kernel wants them, and the launches.  The kernels are in simt_product.cuh.
#include "operations.h"
#include "pictures.h"
#include "simt_product.cuh"

namespace fastconv::cuda {
namespace {

constexpr int64_t most_space = int64_t{256} << 20;  // bytes for partial sums
constexpr int64_t least_split = 256;                // products: fewer are not worth a second kernel

bool is_large(const Problem& p, int64_t rows, int64_t columns) {
  if (p.type != Type::f32 || rows < Large::side || columns <= Small::side) return false;
  const int64_t blocks = ceil_div(rows, Large::side) * ceil_div(columns, Large::side) * p.g.groups;
  return blocks >= p.processors;
}

// Both depend on the problem alone, so that space_bytes and launch agree.
struct Plan {
  Cut cut;
  bool large;
};

Plan plan_of(const Problem& p) {
  const Geometry& g = p.g;
  const int64_t taps = g.kh * g.kw, outputs = g.n * g.out_h * g.out_w;
  int64_t rows = outputs, columns = g.c_out_per_group(), reduction = g.c_in_per_group() * taps;
  if (p.operation == Operation::grad_input) {
    rows = g.n * g.h * g.w;
    columns = g.c_in_per_group();
    reduction = g.c_out_per_group() * taps;
  } else if (p.operation == Operation::grad_weight) {
    rows = g.c_out_per_group();
    columns = g.c_in_per_group() * taps;
    reduction = outputs;
  }
  const bool large = is_large(p, rows, columns);
  const int64_t side = large ? Large::side : Small::side;
  Cut cut{rows, reduction, static_cast<int>(columns), static_cast<int>(g.groups), ceil_div(rows, side),
          static_cast<int>(ceil_div(columns, side)), 1, 0};
  const int64_t blocks = cut.row_tiles * cut.column_tiles * cut.groups;
  const int64_t sum_bytes = cut.sums() * (p.type == Type::f64 ? 8 : 4);
  int64_t splits = ceil_div(2 * p.processors, blocks);  // two blocks for each processor
  if (splits > reduction / least_split) splits = reduction / least_split;
  if (splits > most_space / sum_bytes) splits = most_space / sum_bytes;
  if (splits < 1) splits = 1;
  cut.per_split = ceil_div(ceil_div(reduction, splits), 16) * 16;
  cut.splits = static_cast<int>(ceil_div(reduction, cut.per_split));
  return {cut, large};
}

template <class T>
struct Arrange {
  const T* from;
  T* to;
  int64_t taps, reduced, columns, numbers;  // of one group: channels summed over, channels kept
  bool rotated;                             // for grad_input: columns are input channels
};

// to[group][tap * reduced + r][n] = w[group][n][r][tap], or w[group][r][n][tap] if rotated.
template <class T>
FASTCONV_KERNEL(256) simt_arrange(Arrange<T> p) {
  const int64_t place = static_cast<int64_t>(block().x) * threads_in_block() + thread();
  if (place >= p.numbers) return;
  const int64_t n = place % p.columns, row = place / p.columns;
  const int64_t r = row % p.reduced, tap = row / p.reduced % p.taps, group = row / p.reduced / p.taps;
  const int64_t filter = p.rotated ? (group * p.reduced + r) * p.columns + n : (group * p.columns + n) * p.reduced + r;
  p.to[place] = p.from[filter * p.taps + tap];
}

int blocks_for(int64_t threads) { return static_cast<int>(ceil_div(threads, 256)); }

template <class Product>
int launch_product(const Plan& plan, const Product& product, void* stream) {
  using S = Sum<typename Product::Number>;
  const Cut& cut = plan.cut;
  const int64_t blocks = cut.row_tiles * cut.column_tiles * cut.groups * cut.splits;
  const Grid grid{static_cast<unsigned>(blocks), 1, 1};
  const auto bytes = [](int depth, int pitch) { return size_t{4} * depth * pitch * sizeof(S); };
  int error = 0;
  if constexpr (sizeof(typename Product::Number) == 4) {
    if (plan.large)
      error = launch(simt_product<Large, Product>, grid, 256, bytes(Large::depth, Large::pitch), stream, product);
  }
  if (!plan.large)
    error = launch(simt_product<Small, Product>, grid, 256, bytes(Small::depth, Small::pitch), stream, product);
  if (error || !cut.partial()) return error;
  return launch(simt_sum_splits<Product>, {static_cast<unsigned>(blocks_for(cut.sums())), 1, 1}, 256, 0, stream,
                product);
}

template <class T>
int launch_picture_by_weights(const Problem& p, const Operands& o, void* stream) {
  const Plan plan = plan_of(p);
  const bool forward = p.operation == Operation::forward;
  const Around<T> a = forward ? input_around_outputs<T>(p, o.a) : output_around_inputs<T>(p, o.a);
  const Strides s = forward ? output_strides(p) : input_strides(p);
  const T* weights = static_cast<const T*>(o.prepared);
  const bool vectors = plan.cut.columns % 4 == 0 && aligned_for_four(weights);
  const PicturePlace place{s.image, s.channel, s.row, s.column, a.positions_h, a.positions_w};
  const PictureByWeights<T> product{
      plan.cut, a,  {weights, plan.cut.reduction, plan.cut.columns, vectors}, place, epilogue_of<T>(o),
      static_cast<Sum<T>*>(o.space), static_cast<T*>(o.out)};
  return launch_product(plan, product, stream);
}

template <class T>
int launch_picture_by_picture(const Problem& p, const Operands& o, void* stream) {
  const Plan plan = plan_of(p);
  const Geometry& g = p.g;
  const Strides s = output_strides(p);
  const T* dy = static_cast<const T*>(o.a);
  const int channels = static_cast<int>(g.c_out_per_group());
  const Pixels<T> a{dy, s.image, s.channel, s.row, s.column, channels, static_cast<int>(g.out_h),
                    static_cast<int>(g.out_w), plan.cut.reduction, four_channels(dy, s, channels)};
  const WeightPlace place{static_cast<int>(g.c_in_per_group()), static_cast<int>(g.kh * g.kw)};
  const PictureByPicture<T> product{plan.cut, a, input_around_outputs<T>(p, o.b), place,
                                    static_cast<Sum<T>*>(o.space), static_cast<T*>(o.out)};
  return launch_product(plan, product, stream);
}

int64_t weight_count(const Geometry& g) { return g.c_out * g.c_in_per_group() * g.kh * g.kw; }

}  // namespace

bool simt_accepts(const Problem&) { return true; }

int64_t simt_prepared_bytes(const Problem& p) {
  return p.operation == Operation::grad_weight ? 0 : weight_count(p.g) * bytes_of(p.type);
}

int simt_prepare(const Problem& p, const void* weight, void* prepared, void* stream) {
  return with_type(p.type, [&](auto number) {
    using T = decltype(number);
    const bool rotated = p.operation == Operation::grad_input;
    const int64_t in = p.g.c_in_per_group(), out = p.g.c_out_per_group(), numbers = weight_count(p.g);
    const Arrange<T> arrange{static_cast<const T*>(weight), static_cast<T*>(prepared), p.g.kh * p.g.kw,
                             rotated ? out : in, rotated ? in : out, numbers, rotated};
    return launch(simt_arrange<T>, {static_cast<unsigned>(blocks_for(numbers)), 1, 1}, 256, 0, stream, arrange);
  });
}

int64_t simt_space_bytes(const Problem& p) {
  const Cut cut = plan_of(p).cut;
  return cut.partial() ? cut.splits * cut.sums() * (p.type == Type::f64 ? 8 : 4) : 0;
}

int simt_launch(const Problem& p, const Operands& o, void* stream) {
  return with_type(p.type, [&](auto number) {
    using T = decltype(number);
    return p.operation == Operation::grad_weight ? launch_picture_by_picture<T>(p, o, stream)
                                                 : launch_picture_by_weights<T>(p, o, stream);
  });
}

}  // namespace fastconv::cuda
