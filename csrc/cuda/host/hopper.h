// The vocabulary of hopper_device.h on a CPU.  Copies and products happen late: a copy's target is
// NaN until it has come, and products read shared memory when they are waited for.
#pragma once
#include "../device.h"
#include "../hopper_plan.h"

#define FASTCONV_HAS_WGMMA 1

namespace fastconv {
namespace emulator {

void fetch(void* to, const cuda::TensorMap* map, uint64_t* barrier, const int (&at)[4]);
void start_product(cuda::Type type, float* c, int columns, uint64_t a, uint64_t b);
void commit_products();
void wait_for_products(int pending);

}  // namespace emulator

void barrier_init(uint64_t* barrier, int arrivals);
inline void barriers_initialised() {}
void barrier_arrive(uint64_t* barrier);
void barrier_arrive_and_expect(uint64_t* barrier, int bytes);
void barrier_wait(uint64_t* barrier, int parity);

inline void fetch_box(void* to, const cuda::TensorMap* map, uint64_t* barrier, int c0, int c1, int c2) {
  emulator::fetch(to, map, barrier, {c0, c1, c2, 0});
}
inline void fetch_box(void* to, const cuda::TensorMap* map, uint64_t* barrier, int c0, int c1, int c2, int c3) {
  emulator::fetch(to, map, barrier, {c0, c1, c2, c3});
}
inline void prefetch_map(const cuda::TensorMap*) {}

unsigned shared_address(const void* p);

inline void wgmma_begin() {}
inline void wgmma_commit() { emulator::commit_products(); }
template <int Pending>
void wgmma_wait() {
  emulator::wait_for_products(Pending);
}
template <int N>
void wgmma(bf16, float (&c)[N], uint64_t a, uint64_t b) {
  emulator::start_product(cuda::Type::bf16, c, N * 2, a, b);
}
template <int N>
void wgmma(f16, float (&c)[N], uint64_t a, uint64_t b) {
  emulator::start_product(cuda::Type::f16, c, N * 2, a, b);
}
template <int N>
void wgmma(float, float (&c)[N], uint64_t a, uint64_t b) {
  emulator::start_product(cuda::Type::f32, c, N * 2, a, b);
}

}  // namespace fastconv
