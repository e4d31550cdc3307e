// All that kernels may use of a card, behind names that a CPU can answer as well.
//
// A kernel's body contains no intrinsic, no `threadIdx` and no `<<<`: it says thread(), sync(),
// mma_tf32().  Compiled by nvcc these are the instructions.  Compiled by a C++ compiler they come
// from host/emulator.h, which runs the threads of a block as fibres, so that the test suite runs
// the very sources without a card:
//
//   FASTCONV_KERNEL(256) scale(Scale p) {                   // threads a block; blocks at once
//     float* tile = static_cast<float*>(shared_memory());   // dynamic; its size is in launch()
//     tile[thread()] = p.x[block().x * 256 + thread()];
//     sync();
//     ...
//   }
//   launch(scale, {blocks, 1, 1}, 256, 256 * sizeof(float), stream, Scale{...});   // 0: fine
//
// What the emulator finds, and tests of kernels therefore prove: a barrier that only some threads
// reach; shared memory read before it was written (it starts as NaN); cp.async data read before
// the wait (the target is NaN until then); memory touched outside of buffers (guard pages);
// missing barriers, as far as running the threads first to last, last to first and in a random
// order shows them.  Hopper's barriers, copies and products (hopper_device.h) are answered alike.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "numbers.h"

namespace fastconv {

struct Grid {
  unsigned x, y, z;
};

}  // namespace fastconv

#ifndef __CUDACC__
#include "host/emulator.h"
#else
#include <cuda_runtime.h>

#define FASTCONV_KERNEL(...) static __global__ void __launch_bounds__(__VA_ARGS__)
#define FASTCONV_DEVICE static __device__ __forceinline__
#define FASTCONV_MEMBER __device__ __forceinline__  // after `static` where that is meant
#define FASTCONV_UNROLL _Pragma("unroll")

namespace fastconv {

FASTCONV_DEVICE int thread() { return static_cast<int>(threadIdx.x); }
FASTCONV_DEVICE int threads_in_block() { return static_cast<int>(blockDim.x); }
FASTCONV_DEVICE Grid block() { return {blockIdx.x, blockIdx.y, blockIdx.z}; }
FASTCONV_DEVICE Grid blocks_in_grid() { return {gridDim.x, gridDim.y, gridDim.z}; }

FASTCONV_DEVICE void* shared_memory() {
  extern __shared__ __align__(1024) unsigned char dynamic_shared_memory[];
  return dynamic_shared_memory;
}

// All threads of the block.
FASTCONV_DEVICE void sync() { __syncthreads(); }

// All 32 lanes of a warp must come here together, in every function down to mma.
template <class T>
FASTCONV_DEVICE T shuffle_xor(T value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}
template <class T>
FASTCONV_DEVICE T shuffle(T value, int from_lane) {
  return __shfl_sync(0xffffffffu, value, from_lane);
}
FASTCONV_DEVICE void sync_warp() { __syncwarp(); }

FASTCONV_DEVICE unsigned shared_address(const void* p) {
  return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

// Copies Bytes (4, 8 or 16, both ends aligned so) to shared memory; zeros if not valid, and then
// `src` is not read.  The data is there after wait, for other threads after a barrier as well.
template <int Bytes>
FASTCONV_DEVICE void cp_async(void* dst, const void* src, bool valid) {
  const int bytes = valid ? Bytes : 0;
  if constexpr (Bytes == 16)  // .cg: not through L1
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(dst)), "l"(src), "r"(bytes));
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(dst)), "l"(src), "n"(Bytes), "r"(bytes));
}
FASTCONV_DEVICE void cp_async16(void* dst, const void* src, bool valid) { cp_async<16>(dst, src, valid); }
FASTCONV_DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Until at most Pending of this thread's groups are under way.
template <int Pending>
FASTCONV_DEVICE void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

// Four 8x8 matrices of 16-bit numbers (or 8x4 of 32 bits).  Lane l gives the address of row l % 8
// of matrix l / 8, 16 bytes, and receives of each matrix row l / 4, bytes 4 * (l % 4) and on.
FASTCONV_DEVICE void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
// The same, of the matrices transposed.
FASTCONV_DEVICE void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

// c += a b, 16x8 of fp32.  With g = lane / 4 and t = lane % 4 a lane holds
//   c: rows g, g, g + 8, g + 8; columns 2t, 2t + 1, 2t, 2t + 1
//   a: rows g, g + 8, g, g + 8; the 4 bytes of k at 4t, 4t, 16 + 4t, 16 + 4t
//   b: column g;                the 4 bytes of k at 4t, 16 + 4t
// where k has 32 bytes: 8 numbers in tf32, 16 in bf16 and fp16.
#define FASTCONV_MMA(name, shape)                                                                \
  FASTCONV_DEVICE void name(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {    \
    asm volatile("mma.sync.aligned." shape                                                       \
                 " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"              \
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));            \
  }
FASTCONV_MMA(mma_tf32, "m16n8k8.row.col.f32.tf32.tf32.f32")
FASTCONV_MMA(mma_bf16, "m16n8k16.row.col.f32.bf16.bf16.f32")
FASTCONV_MMA(mma_f16, "m16n8k16.row.col.f32.f16.f16.f32")
#undef FASTCONV_MMA

// On the stream, without waiting for it.  0, or CUDA's error code.
template <class Params>
int launch(void (*kernel)(Params), Grid grid, int threads, size_t shared_bytes, void* stream, const Params& params) {
  if (shared_bytes > 48 * 1024) {  // more than that has to be asked for
    const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                   static_cast<int>(shared_bytes));
    if (error != cudaSuccess) return static_cast<int>(error);
  }
  kernel<<<dim3(grid.x, grid.y, grid.z), threads, shared_bytes, static_cast<cudaStream_t>(stream)>>>(params);
  return static_cast<int>(cudaGetLastError());
}

}  // namespace fastconv
#endif
