// The blocking of Winograd convolution (equations: winograd_points.h).
//
//   x --gather, input--> V[e][k/16][tile][16]
//                        M[e][o/16][tile][16] = U V for each e      --output, scatter--> y
//
// Tiles are numbered along rows, over the whole batch, and taken in chunks.  Two schedules:
//
//   own     Few input channels and large pictures.  A thread takes a chunk of tiles through everything; its
//           V and M stay in the second-level cache.
//   shared  Many input channels.  All threads transform one large chunk, whose V lives in the
//           third-level cache; then each takes blocks of 64 output channels, with M in its
//           second-level cache.  U, which is larger than V and M here, is read fewer times.
#include "winograd.h"

#include <algorithm>

#include "kernels.h"
#include "parallel.h"
#include "winograd_tiles.h"

namespace fastconv {
namespace {

constexpr int64_t strips = 2 * Strip::floats;  // the one in work, and one that is added to it

const WinogradTransforms& transforms(int tile) {
  return tile == 4 ? *kernels().winograd_f4 : *kernels().winograd_f6;
}

// Floats from one panel of U to the next.  The squares that winograd_turn.h takes for one element lie
// a panel apart: at multiples of 64 KB they would all fall into the same lines of a cache.
int64_t panel_floats(int64_t depth) {
  const int64_t panel = kernels().winograd->panel;
  return (depth + (depth % 512 == 0 ? panel : 0)) * panel;
}

// U[o/64][e][o/panel within 64], the first panel of a block of 64 outputs.
int64_t cob_floats(int64_t elements, int64_t depth) {
  return cob_width / kernels().winograd->panel * elements * panel_floats(depth);
}

// Everything that follows from the job's sizes.
struct Plan {
  Tiles tiles;
  int64_t depth_blocks = 0, out_blocks = 0, cobs = 0;
  bool shared = false;
  int64_t chunk = 0;  // tiles
  int64_t group = 1;  // blocks of 64 outputs that are multiplied together
  TileStrides v{}, m{};
  int64_t v_floats = 0, m_floats = 0, room_floats = 0;
  bool streamed = false;
  int64_t turned_floats = 0, u_floats = 0;  // of one thread's panels, or of the whole U
};

// Of a job whose weights are the other direction's.  Above this number of chunks they are turned in
// whole beforehand, below panel by panel for each chunk (one thread, 512 px, against weights of its
// own): 256->256, 9 chunks: +4.0 % in whole, +6.6 % by panels; 512->512, 2 chunks: +15 % and -1 %.
// The schedule `own`, whose chunks are small, always takes them in whole: within 2 %.
constexpr int64_t most_turns = 4;

// With few outputs, `shared` has no blocks of them for every thread, or each cuts all of V for a single
// one (256 to 128 channels of 128 x 128, AVX-512 19.7 ms, `own` 16.8; AVX2 25.8 and 22.8).  With more
// than 128 inputs there must be a chunk for every thread.
bool takes_shared(const WinogradJob& job, const Tiles& tiles) {
  const WinogradGemm& gemm = *kernels().winograd;
  constexpr int64_t few_outputs = 128, least_tiles = 1024;
  const int64_t twice = job.to.channels <= few_outputs ? 256 : 0;
  const bool many = job.from.channels > 128 && tiles.count < thread_count() * gemm.own_tiles;
  return job.from.channels > std::max(gemm.own_depth, twice) || tiles.count < least_tiles || many;
}

Plan plan_for(const WinogradJob& job) {
  Plan p{Tiles(job.tile, job.n, job.height(), job.width())};
  p.depth_blocks = ceil_div(job.from.channels, block_width);
  p.out_blocks = ceil_div(job.to.channels, block_width);
  p.cobs = ceil_div(job.to.channels, cob_width);
  p.shared = takes_shared(job, p.tiles);
  const WinogradGemm& gemm = *kernels().winograd;
  const int64_t chunks =
      std::max<int64_t>(1, (p.tiles.count + gemm.shared_tiles / 2) / gemm.shared_tiles);
  p.chunk = p.shared ? ceil_div(p.tiles.count, chunks) : std::min(gemm.own_tiles, p.tiles.count);
  p.group = std::min(gemm.cobs, p.shared ? ceil_div(p.cobs, thread_count()) : p.cobs);
  p.v = strides_for(p.depth_blocks, p.chunk);
  p.m = strides_for(cob_width / block_width, p.chunk);
  p.v_floats = p.tiles.elements() * p.v.element;
  p.m_floats = p.tiles.elements() * p.m.element;
  p.room_floats = gemm.room(job.from.channels, p.chunk);
  p.streamed = job.n * job.to.image * int64_t{sizeof(float)} >= stream_bytes;
  if (job.turned && p.shared && ceil_div(p.tiles.count, p.chunk) <= most_turns)
    p.turned_floats = cob_floats(1, job.from.channels);
  else if (job.turned)
    p.u_floats = winograd_weights_floats(job.tile, job.to.channels, job.from.channels, false);
  return p;
}

void read_block(const WinogradJob& job, const Plan& p, int64_t first, int64_t last, int64_t block,
                float* v, float* strip) {
  transform_input(job.from, job.expand, job.top, job.left, p.tiles, first, last, block, v, p.v,
                  strip, job.turned);
}

WinogradOther other_of(const WinogradJob& job, const Plan& p) {
  return {job.u, p.tiles.elements(), job.from.channels, job.to.channels,
          panel_floats(job.to.channels)};
}

// Zeros for the channels of a last block that no panel covers, which panels of 8 may leave over: what
// sums over all 16 lanes (few_channels.h) must not find what memory held.
void clear_beyond(const Plan& p, int64_t outputs, int64_t tiles, float* m) {
  const int64_t panel = kernels().winograd->panel, covered = ceil_div(outputs, panel) * panel;
  const int64_t lane = covered % block_width, in_cob = covered % cob_width;
  if (lane == 0) return;
  m += covered / cob_width * p.m_floats + in_cob / block_width * p.m.block;
  for (int64_t e = 0; e < p.tiles.elements(); ++e, m += p.m.element)
    for (int64_t tile = 0; tile < tiles; ++tile)
      std::fill_n(m + tile * block_width + lane, block_width - lane, 0.f);
}

// `cobs` blocks of outputs from `cob` on; of this thread, `m` and what follows it.
void multiply(const WinogradJob& job, const Plan& p, int64_t tiles, int64_t cob, int64_t cobs,
              const float* v, float* m) {
  const int64_t depth = job.from.channels, u_cob = cob_floats(p.tiles.elements(), depth);
  const int64_t outputs = std::min(cobs * cob_width, job.to.channels - cob * cob_width);
  const WinogradOther other = other_of(job, p);
  float* const turned = m + p.group * p.m_floats;
  kernels().winograd->multiply({job.u + cob * u_cob, v, m, p.tiles.elements(), depth, outputs, tiles,
                                u_cob, p.m_floats, p.v.element, p.v.block, p.m.element, p.m.block,
                                p.turned_floats ? &other : nullptr, cob * cob_width, turned,
                                panel_floats(depth), turned + p.turned_floats});
  clear_beyond(p, outputs, tiles, m);
}

void transform_output(const WinogradJob& job, const Plan& p, int64_t first, int64_t last,
                      int64_t cob, const float* m, float* strip) {
  const int64_t first_block = cob * cob_width / block_width;
  const int64_t blocks = std::min(cob_width / block_width, p.out_blocks - first_block);
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t o = (first_block + b) * block_width;
    float bias[block_width] = {};
    if (job.bias)
      std::copy_n(job.bias + o, std::min(block_width, job.to.channels - o), bias);
    for_strips(p.tiles, first, last, first_block + b,
               [&](const Window& window, int64_t position, int64_t tiles) {
      transforms(job.tile).output[job.turned](m + b * p.m.block + position * block_width, p.m.element, tiles,
                                  bias, job.relu, strip);
      finish_strip(job, p.streamed, window, strip, strip + Strip::floats);
    });
  }
}

// U of this direction, in whole.
void turn_weights(const WinogradJob& job, const Plan& p, float* u) {
  const int64_t elements = p.tiles.elements(), depth = job.from.channels;
  const int64_t panel = kernels().winograd->panel;
  const WinogradOther other = other_of(job, p);
  parallel_for(p.cobs * elements, [&](int64_t index, int64_t) {
    const int64_t e = index % elements, first = index / elements * cob_width;
    const int64_t panels = ceil_div(std::min(cob_width, job.to.channels - first), panel);
    kernels().winograd->turn(other, e, first, panels,
                             u + first / cob_width * cob_floats(elements, depth) +
                                 e * panels * panel_floats(depth),
                             panel_floats(depth));
  });
}

// What each thread has beside V.
int64_t share_floats(const Plan& p) {
  return strips + p.group * p.m_floats + p.turned_floats + p.room_floats;
}

void run_group(const WinogradJob& job, const Plan& p, int64_t first, int64_t last, int64_t cob,
               const float* v, float* own) {
  float* const m = own + strips;
  const int64_t cobs = std::min(p.group, p.cobs - cob);
  multiply(job, p, last - first, cob, cobs, v, m);
  for (int64_t c = 0; c < cobs; ++c)
    transform_output(job, p, first, last, cob + c, m + c * p.m_floats, own);
  if (p.streamed) kernels().gemm->f32.stream_end();
}

void run_own(const WinogradJob& job, const Plan& p, float* work) {
  const int64_t share = p.v_floats + share_floats(p);
  parallel_for(ceil_div(p.tiles.count, p.chunk), [&](int64_t index, int64_t thread) {
    float* v = work + thread * share;
    float* own = v + p.v_floats;
    const int64_t first = index * p.chunk, last = std::min(first + p.chunk, p.tiles.count);
    for (int64_t block = 0; block < p.depth_blocks; ++block)
      read_block(job, p, first, last, block, v, own);
    for (int64_t cob = 0; cob < p.cobs; cob += p.group) run_group(job, p, first, last, cob, v, own);
  });
}

void run_shared(const WinogradJob& job, const Plan& p, float* work) {
  float* v = work;
  const auto own = [&](int64_t thread) { return work + p.v_floats + thread * share_floats(p); };
  for (int64_t first = 0; first < p.tiles.count; first += p.chunk) {
    const int64_t last = std::min(first + p.chunk, p.tiles.count);
    parallel_for(p.depth_blocks, [&](int64_t block, int64_t thread) {
      read_block(job, p, first, last, block, v, own(thread));
    });
    parallel_for(ceil_div(p.cobs, p.group), [&](int64_t index, int64_t thread) {
      run_group(job, p, first, last, index * p.group, v, own(thread));
    });
  }
}

}  // namespace

void finish_strip(const WinogradJob& job, bool streamed, Window window, float* strip,
                  float* arriving) {
  const Kernels& k = kernels();
  if (job.added) {
    k.picture->gather(*job.added, window, arriving);
    k.chain->add(arriving, window.rows, window.columns, strip);
  }
  if (!job.decide) {
    k.picture->scatter(job.to, window, strip, streamed);
    return;
  }
  k.chain->put(job.to, *job.decide, window, strip, streamed && !job.tap);
  if (!job.tap) return;
  if (job.decide->pool != Pool::none)
    window = {window.n,        window.block,    window.y / 2, window.x / 2,
              window.rows / 2, window.columns / 2};
  k.picture->gather(job.to, window, strip);
  k.picture->scatter(*job.tap, window, strip, streamed);
}

int64_t winograd_weights_floats(int tile, int64_t c_out, int64_t c_in, bool rotated) {
  const int64_t depth = rotated ? c_out : c_in, outputs = rotated ? c_in : c_out;
  const int64_t panel = kernels().winograd->panel, whole = std::max<int64_t>(panel, block_width);
  return (tile + 2) * (tile + 2) * panel_floats(depth) * (ceil_div(outputs, whole) * whole / panel);
}

void winograd_weights(int tile, const float* weight, int64_t c_out, int64_t c_in, bool rotated,
                      float* u) {
  const int64_t depth = rotated ? c_out : c_in, outputs = rotated ? c_in : c_out;
  const int64_t elements = (tile + 2) * (tile + 2), panel = kernels().winograd->panel;
  const int64_t out_stride = rotated ? 9 : c_in * 9, in_stride = rotated ? c_in * 9 : 9;
  parallel_for(ceil_div(outputs, panel), [&](int64_t index, int64_t) {
    const int64_t o = index * panel, cob = o / cob_width;
    const int64_t panels = ceil_div(std::min(cob_width, outputs - cob * cob_width), panel);
    float* to = u + cob * cob_floats(elements, depth) + o % cob_width / panel * panel_floats(depth);
    transforms(tile).weights(weight + o * out_stride, out_stride, in_stride, rotated,
                             std::min(panel, outputs - o), depth, to, panels * panel_floats(depth));
  });
}

int64_t winograd_workspace(const WinogradJob& job) {
  const Plan p = plan_for(job);
  const int64_t threads = thread_count();
  const int64_t own = share_floats(p) + (p.shared ? 0 : p.v_floats);
  return threads * own + (p.shared ? p.v_floats : 0) + p.u_floats;
}

void winograd(const WinogradJob& job, float* workspace) {
  const Plan p = plan_for(job);
  WinogradJob with_own = job;
  if (p.u_floats) {
    turn_weights(job, p, workspace);
    with_own.u = workspace;
  }
  (p.shared ? run_shared : run_own)(with_own, p, workspace + p.u_floats);
}

}  // namespace fastconv
