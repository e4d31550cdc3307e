// The blocking of Winograd convolution (equations: winograd_points.h).
//
//   x --gather, input--> V[e][k/16][tile][16]
//                        M[e][o/16][tile][16] = U V for each e      --output, scatter--> y
//
// Tiles are numbered along rows, over the whole batch, and taken in chunks.  Two schedules:
//
//   own     Few input channels and large pictures.  A thread takes a chunk of tiles through
//           everything; its V and M stay in the second-level cache.
//   shared  Many input channels.  All threads transform one large chunk, whose V lives in the
//           third-level cache; then each takes blocks of 64 output channels, with M in its
//           second-level cache.  U, which is larger than V and M here, is read fewer times.
//
// V's and M's strides are odd numbers of cache lines: with powers of two, the elements of a tile
// would fall into one set of the cache.
#include "winograd.h"

#include <algorithm>
#include <cstdlib>

#include "kernels.h"
#include "parallel.h"
#include "workspace.h"

namespace fastconv {
namespace {

constexpr int64_t cob_width = 64;   // output channels that are multiplied together
constexpr int64_t strips = 2 * Strip::floats;  // the one in work, and one that is added to it
constexpr int64_t strip_tiles = 8;  // 32 or 48 pixels: strips begin on cache lines in NCHW

const WinogradTransforms& transforms(int tile) {
  return tile == 4 ? *kernels().winograd_f4 : *kernels().winograd_f6;
}

struct Strides {
  int64_t element, block;
};

// Everything that follows from the job's sizes.
struct Plan {
  int64_t elements, rows, columns, tiles;  // tile rows and columns of one picture; all tiles
  int64_t depth_blocks, out_blocks, cobs;
  bool shared;
  int64_t chunk;  // tiles
  Strides v, m;
  int64_t v_floats, m_floats;
  bool streamed;
};

int64_t odd(int64_t lines) { return lines | 1; }

Strides strides_for(int64_t blocks, int64_t tiles) {
  const int64_t block = odd(tiles);
  return {odd(blocks * block) * block_width, block * block_width};
}

int64_t tuned(const char* name, int64_t otherwise) {
  const char* value = std::getenv(name);
  return value ? std::atoll(value) : otherwise;
}

Plan plan_for(const WinogradJob& job) {
  Plan p;
  p.elements = (job.tile + 2) * (job.tile + 2);
  p.rows = ceil_div(job.height(), job.tile);
  p.columns = ceil_div(job.width(), job.tile);
  p.tiles = job.n * p.rows * p.columns;
  p.depth_blocks = ceil_div(job.from.channels, block_width);
  p.out_blocks = ceil_div(job.to.channels, block_width);
  p.cobs = ceil_div(job.to.channels, cob_width);
  const int64_t group = kernels().winograd->rows;
  p.shared = tuned("WG_SHARED", job.from.channels > 128 || p.tiles < 1024);
  const int64_t wanted = p.shared ? tuned("WG_CHUNK_SHARED", 112) : tuned("WG_CHUNK", 28);
  p.chunk = std::min(ceil_div(wanted, group) * group, p.tiles);
  p.v = strides_for(p.depth_blocks, p.chunk);
  p.m = strides_for(cob_width / block_width, p.chunk);
  p.v_floats = p.elements * p.v.element;
  p.m_floats = p.elements * p.m.element;
  p.streamed = job.n * job.to.image * int64_t{sizeof(float)} >= tuned("WG_STREAM", 16 << 20);
  return p;
}

// Calls work(window of the tiles' results, position in the chunk, tiles) for each strip.
template <class Work>
void for_strips(const Plan& p, int tile, int64_t first, int64_t last, const Work& work) {
  for (int64_t at = first; at < last;) {
    const int64_t row = at / p.columns, column = at % p.columns;
    const int64_t end = std::min(p.columns, (column / strip_tiles + 1) * strip_tiles);
    const int64_t tiles = std::min(end - column, last - at);
    const Window window{row / p.rows, 0, row % p.rows * tile, column * tile, tile, tiles * tile};
    work(window, at - first, tiles);
    at += tiles;
  }
}

void transform_input(const WinogradJob& job, const Plan& p, int64_t first, int64_t last,
                     int64_t block, float* v, float* strip) {
  const Kernels& k = kernels();
  for_strips(p, job.tile, first, last, [&](Window window, int64_t position, int64_t tiles) {
    window.block = block;
    window.y -= job.top;
    window.x -= job.left;
    window.rows += 2;
    window.columns += 2;
    if (job.expand)
      k.chain->expand(job.from, *job.expand, window, strip);
    else
      k.picture->gather(job.from, window, strip);
    transforms(job.tile).input(strip, tiles, v + block * p.v.block + position * block_width,
                               p.v.element);
  });
}

void multiply(const WinogradJob& job, const Plan& p, int64_t tiles, int64_t cob, const float* v,
              float* m) {
  const int64_t panel = kernels().winograd->panel;
  const int64_t outputs = std::min(cob_width, job.to.channels - cob * cob_width);
  const int64_t depth = job.from.channels;
  const float* u = job.u + cob * cob_width * p.elements * depth;
  kernels().winograd->multiply({u, v, m, p.elements, depth, ceil_div(outputs, panel), tiles,
                                p.v.element, p.v.block, p.m.element, p.m.block});
}

// Writes a strip of results where they belong, with what a frozen stack does on the way.
void finish(const WinogradJob& job, const Plan& p, Window window, float* strip) {
  const Kernels& k = kernels();
  if (job.added) {
    float* arriving = strip + Strip::floats;
    k.picture->gather(*job.added, window, arriving);
    k.chain->add(arriving, window.rows, window.columns, strip);
  }
  if (!job.decide) {
    k.picture->scatter(job.to, window, strip, p.streamed);
    return;
  }
  k.chain->put(job.to, *job.decide, window, strip, p.streamed && !job.tap);
  if (!job.tap) return;
  if (job.decide->pool != Pool::none)
    window = {window.n,        window.block,    window.y / 2, window.x / 2,
              window.rows / 2, window.columns / 2};
  k.picture->gather(job.to, window, strip);
  k.picture->scatter(*job.tap, window, strip, p.streamed);
}

void transform_output(const WinogradJob& job, const Plan& p, int64_t first, int64_t last,
                      int64_t cob, const float* m, float* strip) {
  const Kernels& k = kernels();
  const int64_t first_block = cob * cob_width / block_width;
  const int64_t blocks = std::min(cob_width / block_width, p.out_blocks - first_block);
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t o = (first_block + b) * block_width;
    float bias[block_width] = {};
    if (job.bias)
      std::copy_n(job.bias + o, std::min(block_width, job.to.channels - o), bias);
    for_strips(p, job.tile, first, last, [&](Window window, int64_t position, int64_t tiles) {
      window.block = first_block + b;
      transforms(job.tile).output(m + b * p.m.block + position * block_width, p.m.element, tiles,
                                  bias, job.relu, strip);
      finish(job, p, window, strip);
    });
  }
}

void run_own(const WinogradJob& job, const Plan& p, float* work) {
  const int64_t share = p.v_floats + p.m_floats + strips;
  parallel_for(ceil_div(p.tiles, p.chunk), [&](int64_t index, int64_t thread) {
    float* v = work + thread * share;
    float* m = v + p.v_floats;
    float* strip = m + p.m_floats;
    const int64_t first = index * p.chunk, last = std::min(first + p.chunk, p.tiles);
    for (int64_t block = 0; block < p.depth_blocks; ++block)
      transform_input(job, p, first, last, block, v, strip);
    for (int64_t cob = 0; cob < p.cobs; ++cob) {
      multiply(job, p, last - first, cob, v, m);
      transform_output(job, p, first, last, cob, m, strip);
    }
  });
}

void run_shared(const WinogradJob& job, const Plan& p, float* work) {
  float* v = work;
  const int64_t share = p.m_floats + strips;
  const auto own = [&](int64_t thread) { return work + p.v_floats + thread * share; };
  for (int64_t first = 0; first < p.tiles; first += p.chunk) {
    const int64_t last = std::min(first + p.chunk, p.tiles);
    parallel_for(p.depth_blocks, [&](int64_t block, int64_t thread) {
      transform_input(job, p, first, last, block, v, own(thread));
    });
    parallel_for(p.cobs, [&](int64_t cob, int64_t thread) {
      float* m = own(thread) + strips;
      multiply(job, p, last - first, cob, v, m);
      transform_output(job, p, first, last, cob, m, own(thread));
    });
  }
}

}  // namespace

int64_t winograd_weights_floats(int tile, int64_t c_out, int64_t c_in, bool rotated) {
  const int64_t depth = rotated ? c_out : c_in, outputs = rotated ? c_in : c_out;
  const int64_t panel = std::max<int64_t>(kernels().winograd->panel, block_width);
  return (tile + 2) * (tile + 2) * depth * ceil_div(outputs, panel) * panel;
}

void winograd_weights(int tile, const float* weight, int64_t c_out, int64_t c_in, bool rotated,
                      float* u) {
  const int64_t depth = rotated ? c_out : c_in, outputs = rotated ? c_in : c_out;
  const int64_t elements = (tile + 2) * (tile + 2), panel = kernels().winograd->panel;
  const int64_t out_stride = rotated ? 9 : c_in * 9, in_stride = rotated ? c_in * 9 : 9;
  parallel_for(ceil_div(outputs, panel), [&](int64_t index, int64_t) {
    const int64_t o = index * panel, cob = o / cob_width;
    const int64_t panels = ceil_div(std::min(cob_width, outputs - cob * cob_width), panel);
    float* to = u + cob * cob_width * elements * depth + o % cob_width * depth;
    transforms(tile).weights(weight + o * out_stride, out_stride, in_stride, rotated,
                             std::min(panel, outputs - o), depth, to, panels * panel * depth);
  });
}

int64_t winograd_workspace(const WinogradJob& job) {
  const Plan p = plan_for(job);
  const int64_t threads = thread_count();
  const int64_t own = p.m_floats + strips + (p.shared ? 0 : p.v_floats);
  return threads * own + (p.shared ? p.v_floats : 0);
}

void winograd(const WinogradJob& job, float* workspace) {
  const Plan p = plan_for(job);
  (p.shared ? run_shared : run_own)(job, p, workspace);
}

namespace {

Picture picture_of(const Problem& problem, const void* data, int64_t c, int64_t h, int64_t w) {
  float* floats = static_cast<float*>(const_cast<void*>(data));
  return problem.channels_last ? last_picture(floats, c, h, w) : planar_picture(floats, c, h, w);
}

void run_with_weights(const Problem& problem, const Operands& o, WinogradJob job, bool rotated) {
  const Geometry& g = problem.g;
  const int64_t weights =
      o.prepared ? 0 : winograd_weights_floats(job.tile, g.c_out, g.c_in, rotated);
  const int64_t floats = winograd_workspace(job);
  Workspace space((weights + floats) * sizeof(float) + 128);
  float* u = space.take<float>(weights);
  if (!o.prepared)
    winograd_weights(job.tile, static_cast<const float*>(o.b), g.c_out, g.c_in, rotated, u);
  job.u = o.prepared ? static_cast<const float*>(o.prepared) : u;
  winograd(job, space.take<float>(floats));
}

void forward(int tile, const Problem& problem, const Operands& o) {
  const Geometry& g = problem.g;
  run_with_weights(problem, o,
                   {tile, g.n, picture_of(problem, o.a, g.c_in, g.h, g.w),
                    picture_of(problem, o.out, g.c_out, g.out_h, g.out_w), g.pad_top, g.pad_left,
                    nullptr, static_cast<const float*>(o.bias), false},
                   false);
}

// dx[n,c,k,l] = sum w[o,c,2-u,2-v] dy[n, o, k + u - (2 - top), l + v - (2 - left)]
void grad_input(int tile, const Problem& problem, const Operands& o) {
  const Geometry& g = problem.g;
  run_with_weights(problem, o,
                   {tile, g.n, picture_of(problem, o.a, g.c_out, g.out_h, g.out_w),
                    picture_of(problem, o.out, g.c_in, g.h, g.w), 2 - g.pad_top, 2 - g.pad_left,
                    nullptr, nullptr, false},
                   true);
}

bool possible(const Problem& p) {
  const Geometry& g = p.g;
  return p.dtype == DType::f32 && g.kh == 3 && g.kw == 3 && g.stride_h == 1 && g.stride_w == 1 &&
         g.dil_h == 1 && g.dil_w == 1 && g.groups == 1;
}

// What `auto` means, measured on the development machine.  The first row that a problem reaches
// decides.  Few channels leave the 16-wide blocks empty, and few tiles do not pay for
// transforming and reading the larger weights.  F(6x6) rounds three times as coarsely as F(4x4):
// it is taken only where it gains a fifth, and its error is below 4e-6.
struct AutoRow {
  int64_t least_depth, most_depth, least_outputs, least_pixels;
  Algorithm algorithm;
};
constexpr AutoRow auto_table[] = {
    {32, 128, 32, 128 * 128, Algorithm::f6},
    {16, INT64_MAX, 16, 12 * 12, Algorithm::f4},
};

Algorithm algorithm_for(const Problem& p, bool backward) {
  if (!possible(p)) return Algorithm::direct;
  if (p.algorithm != Algorithm::automatic) return p.algorithm;
  const Geometry& g = p.g;
  const int64_t depth = backward ? g.c_out : g.c_in, outputs = backward ? g.c_in : g.c_out;
  const int64_t pixels = g.n * (backward ? g.h * g.w : g.out_h * g.out_w);
  for (const AutoRow& row : auto_table)
    if (depth >= row.least_depth && depth <= row.most_depth && outputs >= row.least_outputs &&
        pixels >= row.least_pixels)
      return row.algorithm;
  return Algorithm::direct;
}

}  // namespace

int winograd_tile(Operation operation, const Problem& problem) {
  const auto run = choose(operation, problem).run;
  if (run == winograd_f4_forward || run == winograd_f4_grad_input) return 4;
  if (run == winograd_f6_forward || run == winograd_f6_grad_input) return 6;
  return 0;
}

bool winograd_f4_forward_accepts(const Problem& p) {
  return algorithm_for(p, false) == Algorithm::f4;
}
bool winograd_f6_forward_accepts(const Problem& p) {
  return algorithm_for(p, false) == Algorithm::f6;
}
bool winograd_f4_grad_input_accepts(const Problem& p) {
  return algorithm_for(p, true) == Algorithm::f4;
}
bool winograd_f6_grad_input_accepts(const Problem& p) {
  return algorithm_for(p, true) == Algorithm::f6;
}
void winograd_f4_forward(const Problem& p, const Operands& o) { forward(4, p, o); }
void winograd_f6_forward(const Problem& p, const Operands& o) { forward(6, p, o); }
void winograd_f4_grad_input(const Problem& p, const Operands& o) { grad_input(4, p, o); }
void winograd_f6_grad_input(const Problem& p, const Operands& o) { grad_input(6, p, o); }

}  // namespace fastconv
