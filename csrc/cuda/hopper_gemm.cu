// Warps have tasks: two warpgroups multiply, 64 pixels each, and one thread of a ninth warp keeps the
// copy engine busy.  Stages of shared memory go round between them; `full` says that
// a stage's bytes have come, `empty` that both have read it.
//
//   producer      wait empty[s], announce the bytes, fetch src and weight -> full[s]
//   consumers     wait full[s], four wgmma of 32 bytes of k each; when those of the stage before are
//                 through (one group stays under way): empty[s - 1]
//
// Tiles of 64 or 128 channels share a multiprocessor in twos (97 KiB, 112 registers a thread), so that
// one's epilogue runs beside the other's products.  But copies and products both pass through shared
// memory, 128 bytes a cycle: per step of halves a tile of 128 channels brings 32 KiB and reads 48 in
// the 512 cycles that its products take, more than fits; one of 256 channels 48 and 80 in 1024.  So
// long sums get the wide tile, alone on a multiprocessor.  (Arithmetic, not measured.)
//
// With a whole warpgroup as the producer it would have to give registers back (setmaxnreg), and ptxas
// does not fit 64 sums into the 80 that 384 threads begin with.
#include "hopper_gemm.h"

#include "hopper_device.h"
#include "stores.cuh"

namespace fastconv::cuda {
namespace {

constexpr int consuming_warps = 8, threads = 32 * (consuming_warps + 1);

template <int COLUMNS>
struct Stages {
  static constexpr int src_bytes = tile_pixels * row_bytes, weight_bytes = COLUMNS * row_bytes;
  static constexpr int bytes = src_bytes + weight_bytes, blocks = COLUMNS == 256 ? 1 : 2;
  static constexpr int count = 192 / blocks * 1024 / bytes;
  static constexpr int shared_bytes = count * bytes + 1024;  // the barriers behind them

  unsigned char* memory;

  FASTCONV_MEMBER unsigned char* src(int step) const { return memory + step % count * bytes; }
  FASTCONV_MEMBER unsigned char* weight(int step) const { return src(step) + src_bytes; }
  FASTCONV_MEMBER uint64_t* full(int step) const {
    return reinterpret_cast<uint64_t*>(memory + count * bytes) + step % count;
  }
  FASTCONV_MEMBER uint64_t* empty(int step) const { return full(step) + count; }
  // Of the time that the stage is in use for this step.
  static FASTCONV_MEMBER int parity(int step) { return step / count & 1; }
};

#ifdef FASTCONV_HAS_WGMMA

template <int COLUMNS>
FASTCONV_DEVICE void produce(const HopperGemm& p, const Stages<COLUMNS>& stages, const HopperTile& tile, int steps) {
  for (int step = 0; step < steps; ++step) {
    if (step >= stages.count) barrier_wait(stages.empty(step), stages.parity(step - stages.count));
    const HopperStep at = step_at(p.steps, step);
    barrier_arrive_and_expect(stages.full(step), stages.bytes);
    fetch_box(stages.src(step), &p.src, stages.full(step), at.c, tile.x + at.x, tile.y + at.y, tile.n);
    fetch_box(stages.weight(step), &p.weight, stages.full(step), at.c, at.tap, tile.column * COLUMNS);
  }
}

template <class T, int COLUMNS>
FASTCONV_DEVICE void consume(float (&c)[COLUMNS / 2], const Stages<COLUMNS>& stages, int consumer, int steps) {
  for (int step = 0; step < steps; ++step) {
    barrier_wait(stages.full(step), stages.parity(step));
    const uint64_t a = operand_descriptor(shared_address(stages.src(step)) + consumer * 64 * row_bytes);
    const uint64_t b = operand_descriptor(shared_address(stages.weight(step)));
    wgmma_begin();
    FASTCONV_UNROLL
    for (int k = 0; k < row_bytes / 32; ++k) wgmma(T{}, c, a + k * descriptor_step, b + k * descriptor_step);
    wgmma_commit();
    wgmma_wait<1>();
    if (step > 0 && thread() % 32 == 0) barrier_arrive(stages.empty(step - 1));  // each warp for itself
  }
  wgmma_wait<0>();
}

template <class T, int COLUMNS>
FASTCONV_DEVICE void store(const HopperGemm& p, const float (&c)[COLUMNS / 2], const HopperTile& tile, int consumer) {
  const Epilogue<T> epilogue{static_cast<const T*>(p.bias), static_cast<const T*>(p.added),
                             static_cast<const T*>(p.mask), p.relu};
  const int lane = thread() % 32, first_row = consumer * 64 + thread() % 128 / 32 * 16 + lane / 4;
  const int first_channel = tile.column * COLUMNS + lane % 4 * 2;
  FASTCONV_UNROLL
  for (int half = 0; half < 2; ++half) {
    const int row = first_row + half * 8, y = tile.y + row / p.tiles.tile.w, x = tile.x + row % p.tiles.tile.w;
    if (y >= p.dst_h || x >= p.dst_w) continue;
    const int64_t pixel = ((int64_t{tile.n} * p.dst_h + y) * p.dst_w + x) * p.dst_channels;
    FASTCONV_UNROLL
    for (int j = 0; j < COLUMNS / 8; ++j) {
      const int channel = first_channel + j * 8;
      if (channel < p.dst_channels)
        store_two(static_cast<T*>(p.dst), epilogue, pixel + channel, channel, channel + 1 < p.dst_channels, p.pairs,
                  c[j * 4 + half * 2], c[j * 4 + half * 2 + 1]);
    }
  }
}

template <int COLUMNS>
FASTCONV_DEVICE void begin(const HopperGemm& p, const Stages<COLUMNS>& stages) {
  if (thread() == 0) {
    prefetch_map(&p.src);
    prefetch_map(&p.weight);
    for (int s = 0; s < stages.count; ++s) {
      barrier_init(stages.full(s), 1);
      barrier_init(stages.empty(s), consuming_warps);
    }
    barriers_initialised();
  }
  sync();
}

#endif

template <class T, int COLUMNS>
FASTCONV_KERNEL(threads, Stages<COLUMNS>::blocks) hopper_gemm_kernel(FASTCONV_CONSTANT HopperGemm p) {
#ifdef FASTCONV_HAS_WGMMA
  const Stages<COLUMNS> stages{static_cast<unsigned char*>(shared_memory())};
  begin(p, stages);
  const HopperTile tile = tile_of_block(p.tiles, static_cast<int>(block().x));
  const int steps = p.steps.taps * p.steps.per_tap;
  if (thread() < 32 * consuming_warps) {
    const int consumer = thread() / 128;
    float c[COLUMNS / 2] = {};
    consume<T, COLUMNS>(c, stages, consumer, steps);
    store<T, COLUMNS>(p, c, tile, consumer);
  } else if (thread() == 32 * consuming_warps) {
    produce<COLUMNS>(p, stages, tile, steps);
  }
#endif
}

template <class T, int COLUMNS>
int launch_with(const HopperGemm& p, unsigned blocks, void* stream) {
  return launch(hopper_gemm_kernel<T, COLUMNS>, {blocks, 1, 1}, threads, Stages<COLUMNS>::shared_bytes, stream, p);
}

template <class T>
int launch_of(const HopperGemm& p, int columns, unsigned blocks, void* stream) {
  switch (columns) {
    case 64: return launch_with<T, 64>(p, blocks, stream);
    case 128: return launch_with<T, 128>(p, blocks, stream);
    default: return launch_with<T, 256>(p, blocks, stream);
  }
}

}  // namespace

int hopper_gemm(const HopperGemm& p, Type type, int columns, unsigned blocks, void* stream) {
  switch (type) {
    case Type::bf16: return launch_of<bf16>(p, columns, blocks, stream);
    case Type::f16: return launch_of<f16>(p, columns, blocks, stream);
    default: return launch_of<float>(p, columns, blocks, stream);
  }
}

}  // namespace fastconv::cuda
