#include "hopper.h"

#include <vector>

namespace fastconv {
namespace {

// A barrier's eight bytes, as this emulator lays them out.
struct Barrier {
  uint16_t arrivals, missing;  // of a phase, and of the one that runs
  uint32_t bytes_and_phase;    // bytes that have not come, plus 2^30 (they may come early); bit 31: phase
};
static_assert(sizeof(Barrier) == 8);
constexpr uint32_t no_bytes = 1u << 30;

Barrier* at(uint64_t* barrier) { return reinterpret_cast<Barrier*>(barrier); }

void end_phase_if_complete(Barrier& b) {
  if (b.missing || (b.bytes_and_phase & 0x7fffffffu) != no_bytes) return;
  b.missing = b.arrivals;
  b.bytes_and_phase ^= 0x80000000u;
}

bool has_ended(const void* barrier, int parity) {
  return static_cast<int>(static_cast<const Barrier*>(barrier)->bytes_and_phase >> 31) != parity;
}

void arrive(uint64_t* barrier, int bytes) {
  Barrier& b = *at(barrier);
  if (b.arrivals == 0xffff) emulator::fail("arrives at a barrier that was never initialised");
  if (!b.missing) emulator::fail("arrives at a barrier at which all have arrived");
  --b.missing;
  b.bytes_and_phase += static_cast<uint32_t>(bytes);
  end_phase_if_complete(b);
}

}  // namespace

unsigned shared_address(const void* p) {
  return static_cast<unsigned>(static_cast<const unsigned char*>(p) - emulator::shared);
}

void barrier_init(uint64_t* barrier, int arrivals) {
  *at(barrier) = {static_cast<uint16_t>(arrivals), static_cast<uint16_t>(arrivals), no_bytes};
}
void barrier_arrive(uint64_t* barrier) { arrive(barrier, 0); }
void barrier_arrive_and_expect(uint64_t* barrier, int bytes) { arrive(barrier, bytes); }
void barrier_wait(uint64_t* barrier, int parity) {
  if (at(barrier)->arrivals == 0xffff) emulator::fail("waits at a barrier that was never initialised");
  emulator::wait_until(has_ended, barrier, parity, "barrier_wait");
}

namespace cuda {

// The rules of cuTensorMapEncodeTiled with the 128-byte swizzle and no interleaving.
int encode(const TensorMapPlan& plan, TensorMap* map) {
  static_assert(sizeof plan <= sizeof map->opaque);
  const auto element = static_cast<uint64_t>(bytes_of(plan.type));
  bool fine = reinterpret_cast<uintptr_t>(plan.data) % 16 == 0 && plan.box[0] * element == row_bytes;
  for (int i = 0; i < plan.rank; ++i) fine = fine && plan.sizes[i] > 0 && plan.box[i] > 0 && plan.box[i] <= 256;
  for (int i = 0; i + 1 < plan.rank; ++i) fine = fine && plan.step_bytes[i] % 16 == 0 && plan.step_bytes[i] > 0;
  memcpy(map->opaque, &plan, sizeof plan);
  return fine ? 0 : 1;
}

}  // namespace cuda

namespace emulator {
namespace {

using cuda::TensorMapPlan;
using cuda::Type;

uint32_t swizzled(uint32_t address) { return address ^ (address >> 7 & 7) << 4; }

// A box's row of 128 bytes, from index (i1, i2, i3) of the tensor; channels from c0.
void fetch_row(unsigned char* row, const TensorMapPlan& plan, int64_t c0, const int64_t (&index)[3]) {
  const int element = static_cast<int>(cuda::bytes_of(plan.type));
  const unsigned char* data = static_cast<const unsigned char*>(plan.data);
  bool inside = true;
  for (int i = 0; i + 1 < plan.rank; ++i) {
    inside = inside && index[i] >= 0 && index[i] < static_cast<int64_t>(plan.sizes[i + 1]);
    data += index[i] * static_cast<int64_t>(plan.step_bytes[i]);
  }
  for (int e = 0; e < cuda::row_bytes / element; ++e) {
    const int64_t c = c0 + e;
    uint32_t value = 0;
    if (inside && c >= 0 && c < static_cast<int64_t>(plan.sizes[0]))
      memcpy(&value, data + c * element, static_cast<size_t>(element));
    if (plan.type == Type::f32) value = rounded_to_tf32(float_of(value));
    memcpy(row + e * element, &value, static_cast<size_t>(element));
  }
}

void fetch_all(unsigned char* to, const TensorMapPlan& plan, const int (&at)[4]) {
  uint32_t row = 0;
  for (uint32_t i3 = 0; i3 < (plan.rank > 3 ? plan.box[3] : 1); ++i3)
    for (uint32_t i2 = 0; i2 < plan.box[2]; ++i2)
      for (uint32_t i1 = 0; i1 < plan.box[1]; ++i1, ++row) {
        unsigned char bytes[cuda::row_bytes];
        fetch_row(bytes, plan, at[0], {at[1] + int64_t{i1}, at[2] + int64_t{i2}, at[3] + int64_t{i3}});
        const unsigned first = shared_address(to) + row * cuda::row_bytes;
        for (uint32_t chunk = 0; chunk < 8; ++chunk) memcpy(shared + swizzled(first + chunk * 16), bytes + chunk * 16, 16);
      }
}

size_t box_bytes(const TensorMapPlan& plan) {
  return size_t{cuda::row_bytes} * plan.box[1] * plan.box[2] * (plan.rank > 3 ? plan.box[3] : 1);
}

struct Products {  // of one warpgroup, in the order of their start
  struct One {
    Type type;
    int columns;
    uint64_t a, b;
    float* c[128];
    long group;
  };
  std::vector<One> started;
  long group = 0;
};
Products products[8];

// The four-byte cells of 32 bytes of k of one row.
void read_row(uint32_t (&cells)[8], uint64_t descriptor, uint32_t row) {
  const auto start = static_cast<uint32_t>(descriptor & 0x3fff) << 4;
  const auto groups_apart = static_cast<uint32_t>(descriptor >> 32 & 0x3fff) << 4;
  if (descriptor >> 62 != 1) fail("wgmma with a descriptor that does not say 128-byte swizzle");
  const uint32_t first = start + row / 8 * groups_apart + row % 8 * cuda::row_bytes;
  for (uint32_t i = 0; i < 8; ++i) memcpy(&cells[i], shared + swizzled(first + 4 * i), 4);
}

void multiply(const Products::One& p) {
  const int depth = p.type == Type::f32 ? 8 : 16;
  const int format = p.type == Type::f32 ? tf32 : p.type == Type::bf16 ? bf16_pairs : f16_pairs;
  static double a[64][16], b[256][16];
  uint32_t cells[8];
  for (uint32_t row = 0; row < 64; ++row) {
    read_row(cells, p.a, row);
    for (int k = 0; k < depth; ++k) a[row][k] = number(format, cells, k);
  }
  for (uint32_t column = 0; column < static_cast<uint32_t>(p.columns); ++column) {
    read_row(cells, p.b, column);
    for (int k = 0; k < depth; ++k) b[column][k] = number(format, cells, k);
  }
  for (int t = 0; t < 128; ++t)
    for (int i = 0; i < p.columns / 2; ++i) {
      const int row = t / 32 * 16 + t % 32 / 4 + i / 2 % 2 * 8, column = i / 4 * 8 + t % 4 * 2 + i % 2;
      double sum = p.c[t][i];
      for (int k = 0; k < depth; ++k) sum += a[row][k] * b[column][k];
      p.c[t][i] = truncated(sum);
    }
}

struct Start {
  Type type;
  float* c;
  int columns;
  uint64_t a, b;
};

Products& of_this_warpgroup() { return products[here.thread / 128]; }

}  // namespace

void fetch(void* to, const cuda::TensorMap* map, uint64_t* barrier, const int (&at)[4]) {
  TensorMapPlan plan;
  memcpy(&plan, map->opaque, sizeof plan);
  if (shared_address(to) % 128) fail("a box is fetched to shared memory that is not aligned to 128 bytes");
  memset(to, 0xff, box_bytes(plan));
  const int c0 = at[0], c1 = at[1], c2 = at[2], c3 = at[3];
  do_later([=] {
    fetch_all(static_cast<unsigned char*>(to), plan, {c0, c1, c2, c3});
    Barrier& b = *fastconv::at(barrier);
    b.bytes_and_phase -= static_cast<uint32_t>(box_bytes(plan));
    end_phase_if_complete(b);
  });
}

void start_product(Type type, float* c, int columns, uint64_t a, uint64_t b) {
  Start start{type, c, columns, a, b};
  meet(128, "wgmma", [](void* const* of_lanes) {
    const Start& first = *static_cast<Start*>(of_lanes[0]);
    Products::One one{first.type, first.columns, first.a, first.b, {}, of_this_warpgroup().group};
    for (int t = 0; t < 128; ++t) {
      const Start& lane = *static_cast<Start*>(of_lanes[t]);
      if (lane.a != first.a || lane.b != first.b) fail("the threads of a warpgroup describe different operands");
      one.c[t] = lane.c;
    }
    of_this_warpgroup().started.push_back(one);
  }, &start);
}

void commit_products() {
  meet(128, "wgmma_commit", [](void* const*) { ++of_this_warpgroup().group; }, nullptr);
}

void wait_for_products(int pending) {
  meet(128, "wgmma_wait", [](void* const* of_lanes) {
    Products& p = of_this_warpgroup();
    const int still = *static_cast<int*>(of_lanes[0]);
    while (!p.started.empty() && p.started.front().group < p.group - still) {
      multiply(p.started.front());
      p.started.erase(p.started.begin());
    }
  }, &pending);
}

void begin_block() {
  for (Products& p : products) p = {};
}

}  // namespace emulator
}  // namespace fastconv
