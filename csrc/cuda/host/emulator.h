// The vocabulary of device.h on a CPU: the threads of a block are fibres of one thread.
//
// A fibre runs until it waits for others.  Functions of a whole warp are rendezvous: every lane
// leaves its arguments, the last one to come does the work for all.  Mistakes (see device.h) end
// the launch with code 1 and a sentence in fastconv_emulator_message().
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <functional>

#include "../numbers.h"

#define FASTCONV_KERNEL(...) [[maybe_unused]] static void
#define FASTCONV_DEVICE inline
#define FASTCONV_CONSTANT const
#define FASTCONV_MEMBER inline
#define FASTCONV_UNROLL

namespace fastconv {
namespace emulator {

struct Place {
  int thread;
  Grid block;
};
extern Place here;
extern int block_threads;
extern Grid grid;
extern unsigned char* shared;

// Ends the launch with a message; never returns to the kernel.
[[noreturn]] void fail(const char* format, ...);

void barrier();

// The next `width` threads (an aligned group) meet; the last to come runs work(arguments of all).
using Work = void (*)(void* const* of_lanes);
void meet(int width, const char* name, Work work, void* of_this_lane);

// Waits until condition(what, value) holds, which something that others do brings about.
void wait_until(bool (*condition)(const void* what, int value), const void* what, int value, const char* name);

// Work of an engine beside the threads: it happens as late as it may, but at once if the threads run
// last to first, and in any order if they do.
void do_later(std::function<void()> work);

void start_copy(void* dst, const void* src, int bytes, bool valid);
void commit_copies();
void wait_for_copies(int pending);

int run(void (*body)(void*), void* arguments, Grid grid, int threads, size_t shared_bytes);

// The number at index k of 4-byte cells, and a sum as tensor cores round it.
enum Format { tf32, bf16_pairs, f16_pairs };
double number(int format, const uint32_t* cells, int k);
float truncated(double value);

void load_matrices(void* const* of_lanes, bool transposed);
void multiply(void* const* of_lanes, int format);

void begin_block();  // of hopper.cpp

template <class T>
struct Exchange {
  T* value;
  int lane;
  T sent;
};

}  // namespace emulator

inline int thread() { return emulator::here.thread; }
inline int threads_in_block() { return emulator::block_threads; }
inline Grid block() { return emulator::here.block; }
inline Grid blocks_in_grid() { return emulator::grid; }
inline void* shared_memory() { return emulator::shared; }

inline void sync() { emulator::barrier(); }
inline void sync_warp() {
  emulator::meet(32, "sync_warp", [](void* const*) {}, nullptr);
}

template <class T>
T shuffle(T value, int from_lane) {
  T received = value;
  emulator::Exchange<T> exchange{&received, from_lane, value};
  emulator::meet(
      32, "shuffle",
      [](void* const* of_lanes) {
        for (int lane = 0; lane < 32; ++lane) {
          const auto* to = static_cast<emulator::Exchange<T>*>(of_lanes[lane]);
          *to->value = static_cast<emulator::Exchange<T>*>(of_lanes[to->lane & 31])->sent;
        }
      },
      &exchange);
  return received;
}
template <class T>
T shuffle_xor(T value, int mask) {
  return shuffle(value, thread() % 32 ^ mask);
}

template <int Bytes>
void cp_async(void* dst, const void* src, bool valid) {
  emulator::start_copy(dst, src, Bytes, valid);
}
inline void cp_async16(void* dst, const void* src, bool valid) { cp_async<16>(dst, src, valid); }
inline void cp_async_commit() { emulator::commit_copies(); }
template <int Pending>
void cp_async_wait() {
  emulator::wait_for_copies(Pending);
}

namespace emulator {
struct Matrices {
  uint32_t* r;
  const void* row;
};
struct Product {
  float* c;
  const uint32_t* a;
  const uint32_t* b;
};

template <int F>
void product(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  Product lane{c, a, b};
  meet(32, "mma", [](void* const* of_lanes) { multiply(of_lanes, F); }, &lane);
}
}  // namespace emulator

inline void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
  emulator::Matrices lane{r, row};
  emulator::meet(32, "ldmatrix", [](void* const* l) { emulator::load_matrices(l, false); }, &lane);
}
inline void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
  emulator::Matrices lane{r, row};
  emulator::meet(32, "ldmatrix.trans", [](void* const* l) { emulator::load_matrices(l, true); }, &lane);
}
inline void mma_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  emulator::product<emulator::tf32>(c, a, b);
}
inline void mma_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  emulator::product<emulator::bf16_pairs>(c, a, b);
}
inline void mma_f16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  emulator::product<emulator::f16_pairs>(c, a, b);
}

template <class Params>
int launch(void (*kernel)(Params), Grid grid, int threads, size_t shared_bytes, void*, const Params& params) {
  struct Call {
    void (*kernel)(Params);
    const Params* params;
  } call{kernel, &params};
  const auto body = [](void* c) { static_cast<Call*>(c)->kernel(*static_cast<Call*>(c)->params); };
  return emulator::run(body, &call, grid, threads, shared_bytes);
}

}  // namespace fastconv
