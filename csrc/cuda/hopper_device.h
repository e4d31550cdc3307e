// The instructions that only Hopper has (compute capability 9.0, code for sm_90a), in the manner of
// device.h: barriers that count bytes, the tensor copy engine, and matrix products of a warpgroup,
// which are four warps that start at a multiple of four.
#pragma once
#include "device.h"
#include "hopper_plan.h"

#ifndef __CUDACC__
#include "host/hopper.h"
#else

// Other architectures than sm_90a compile these files as well, and leave out what they lack.
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define FASTCONV_HAS_WGMMA 1
#endif
#define FASTCONV_CONSTANT const __grid_constant__

#ifdef FASTCONV_HAS_WGMMA
namespace fastconv {

// A barrier is eight bytes of shared memory.  Its phase ends when `arrivals` came and as many bytes
// as were announced; then the next begins.
FASTCONV_DEVICE void barrier_init(uint64_t* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}
// After all inits, before a barrier of the block makes them known to others and to the copy engine.
FASTCONV_DEVICE void barriers_initialised() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
FASTCONV_DEVICE void barrier_arrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
FASTCONV_DEVICE void barrier_arrive_and_expect(uint64_t* barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
               : "memory");
}
// Until the phase of this parity (0 for the first, 1 for the second, 0, ...) has ended.
FASTCONV_DEVICE void barrier_wait(uint64_t* barrier, int parity) {
  asm volatile(
      "{\n"
      ".reg .pred ended;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 ended, [%0], %1;\n"
      "@ended bra done;\n"
      "bra again;\n"
      "done:\n"
      "}" ::"r"(shared_address(barrier)),
      "r"(parity)
      : "memory");
}

// Starts to fetch the box at these coordinates; its bytes count at the barrier when they have come.
FASTCONV_DEVICE void fetch_box(void* to, const cuda::TensorMap* map, uint64_t* barrier, int c0, int c1, int c2) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];"
      ::"r"(shared_address(to)), "l"(map), "r"(shared_address(barrier)), "r"(c0), "r"(c1), "r"(c2)
      : "memory");
}
FASTCONV_DEVICE void fetch_box(void* to, const cuda::TensorMap* map, uint64_t* barrier, int c0, int c1, int c2, int c3) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], [%2];"
      ::"r"(shared_address(to)), "l"(map), "r"(shared_address(barrier)), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
      : "memory");
}
FASTCONV_DEVICE void prefetch_map(const cuda::TensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

// Products run by themselves between begin and wait; until then their accumulators must rest.
FASTCONV_DEVICE void wgmma_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
FASTCONV_DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Until at most Pending committed groups are under way.
template <int Pending>
FASTCONV_DEVICE void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
}

// c += a b: 64 rows, N columns and 32 bytes of k, of operands in shared memory (hopper_plan.h).
// With w the warp of four, g = lane / 4 and t = lane % 4 a thread holds, for each eight columns j,
//   c[4j], c[4j + 1]: row 16w + g, columns 8j + 2t and 8j + 2t + 1;  c[4j + 2], c[4j + 3]: row + 8
// The first argument says the type: float means tf32.
#define FASTCONV_WGMMA_64(type, shape, transposed)                                                                    \
  FASTCONV_DEVICE void wgmma(type, float (&c)[32], uint64_t a, uint64_t b) {                                          \
    asm volatile("{ .reg .pred on; setp.eq.b32 on, 0, 0; wgmma.mma_async.sync.aligned.m64n64" shape " "               \
      "{%0, %1, %2, %3, %4, %5, %6, %7, "                                                                             \
      " %8, %9, %10, %11, %12, %13, %14, %15, "                                                                       \
      " %16, %17, %18, %19, %20, %21, %22, %23, "                                                                     \
      " %24, %25, %26, %27, %28, %29, %30, %31}, "                                                                    \
      "%32, %33, on, 1, 1" transposed "; }"                                                                           \
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]), "+f"(c[4]), "+f"(c[5]), "+f"(c[6]), "+f"(c[7]),               \
        "+f"(c[8]), "+f"(c[9]), "+f"(c[10]), "+f"(c[11]), "+f"(c[12]), "+f"(c[13]), "+f"(c[14]), "+f"(c[15]),         \
        "+f"(c[16]), "+f"(c[17]), "+f"(c[18]), "+f"(c[19]), "+f"(c[20]), "+f"(c[21]), "+f"(c[22]), "+f"(c[23]),       \
        "+f"(c[24]), "+f"(c[25]), "+f"(c[26]), "+f"(c[27]), "+f"(c[28]), "+f"(c[29]), "+f"(c[30]), "+f"(c[31])        \
      : "l"(a), "l"(b));                                                                                              \
  }
FASTCONV_WGMMA_64(bf16, "k16.f32.bf16.bf16", ", 0, 0")
FASTCONV_WGMMA_64(f16, "k16.f32.f16.f16", ", 0, 0")
FASTCONV_WGMMA_64(float, "k8.f32.tf32.tf32", "")
#undef FASTCONV_WGMMA_64
#define FASTCONV_WGMMA_128(type, shape, transposed)                                                                   \
  FASTCONV_DEVICE void wgmma(type, float (&c)[64], uint64_t a, uint64_t b) {                                          \
    asm volatile("{ .reg .pred on; setp.eq.b32 on, 0, 0; wgmma.mma_async.sync.aligned.m64n128" shape " "              \
      "{%0, %1, %2, %3, %4, %5, %6, %7, "                                                                             \
      " %8, %9, %10, %11, %12, %13, %14, %15, "                                                                       \
      " %16, %17, %18, %19, %20, %21, %22, %23, "                                                                     \
      " %24, %25, %26, %27, %28, %29, %30, %31, "                                                                     \
      " %32, %33, %34, %35, %36, %37, %38, %39, "                                                                     \
      " %40, %41, %42, %43, %44, %45, %46, %47, "                                                                     \
      " %48, %49, %50, %51, %52, %53, %54, %55, "                                                                     \
      " %56, %57, %58, %59, %60, %61, %62, %63}, "                                                                    \
      "%64, %65, on, 1, 1" transposed "; }"                                                                           \
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]), "+f"(c[4]), "+f"(c[5]), "+f"(c[6]), "+f"(c[7]),               \
        "+f"(c[8]), "+f"(c[9]), "+f"(c[10]), "+f"(c[11]), "+f"(c[12]), "+f"(c[13]), "+f"(c[14]), "+f"(c[15]),         \
        "+f"(c[16]), "+f"(c[17]), "+f"(c[18]), "+f"(c[19]), "+f"(c[20]), "+f"(c[21]), "+f"(c[22]), "+f"(c[23]),       \
        "+f"(c[24]), "+f"(c[25]), "+f"(c[26]), "+f"(c[27]), "+f"(c[28]), "+f"(c[29]), "+f"(c[30]), "+f"(c[31]),       \
        "+f"(c[32]), "+f"(c[33]), "+f"(c[34]), "+f"(c[35]), "+f"(c[36]), "+f"(c[37]), "+f"(c[38]), "+f"(c[39]),       \
        "+f"(c[40]), "+f"(c[41]), "+f"(c[42]), "+f"(c[43]), "+f"(c[44]), "+f"(c[45]), "+f"(c[46]), "+f"(c[47]),       \
        "+f"(c[48]), "+f"(c[49]), "+f"(c[50]), "+f"(c[51]), "+f"(c[52]), "+f"(c[53]), "+f"(c[54]), "+f"(c[55]),       \
        "+f"(c[56]), "+f"(c[57]), "+f"(c[58]), "+f"(c[59]), "+f"(c[60]), "+f"(c[61]), "+f"(c[62]), "+f"(c[63])        \
      : "l"(a), "l"(b));                                                                                              \
  }
FASTCONV_WGMMA_128(bf16, "k16.f32.bf16.bf16", ", 0, 0")
FASTCONV_WGMMA_128(f16, "k16.f32.f16.f16", ", 0, 0")
FASTCONV_WGMMA_128(float, "k8.f32.tf32.tf32", "")
#undef FASTCONV_WGMMA_128
#define FASTCONV_WGMMA_256(type, shape, transposed)                                                                   \
  FASTCONV_DEVICE void wgmma(type, float (&c)[128], uint64_t a, uint64_t b) {                                         \
    asm volatile("{ .reg .pred on; setp.eq.b32 on, 0, 0; wgmma.mma_async.sync.aligned.m64n256" shape " "              \
      "{%0, %1, %2, %3, %4, %5, %6, %7, "                                                                             \
      " %8, %9, %10, %11, %12, %13, %14, %15, "                                                                       \
      " %16, %17, %18, %19, %20, %21, %22, %23, "                                                                     \
      " %24, %25, %26, %27, %28, %29, %30, %31, "                                                                     \
      " %32, %33, %34, %35, %36, %37, %38, %39, "                                                                     \
      " %40, %41, %42, %43, %44, %45, %46, %47, "                                                                     \
      " %48, %49, %50, %51, %52, %53, %54, %55, "                                                                     \
      " %56, %57, %58, %59, %60, %61, %62, %63, "                                                                     \
      " %64, %65, %66, %67, %68, %69, %70, %71, "                                                                     \
      " %72, %73, %74, %75, %76, %77, %78, %79, "                                                                     \
      " %80, %81, %82, %83, %84, %85, %86, %87, "                                                                     \
      " %88, %89, %90, %91, %92, %93, %94, %95, "                                                                     \
      " %96, %97, %98, %99, %100, %101, %102, %103, "                                                                 \
      " %104, %105, %106, %107, %108, %109, %110, %111, "                                                             \
      " %112, %113, %114, %115, %116, %117, %118, %119, "                                                             \
      " %120, %121, %122, %123, %124, %125, %126, %127}, "                                                            \
      "%128, %129, on, 1, 1" transposed "; }"                                                                         \
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]), "+f"(c[4]), "+f"(c[5]), "+f"(c[6]), "+f"(c[7]),               \
        "+f"(c[8]), "+f"(c[9]), "+f"(c[10]), "+f"(c[11]), "+f"(c[12]), "+f"(c[13]), "+f"(c[14]), "+f"(c[15]),         \
        "+f"(c[16]), "+f"(c[17]), "+f"(c[18]), "+f"(c[19]), "+f"(c[20]), "+f"(c[21]), "+f"(c[22]), "+f"(c[23]),       \
        "+f"(c[24]), "+f"(c[25]), "+f"(c[26]), "+f"(c[27]), "+f"(c[28]), "+f"(c[29]), "+f"(c[30]), "+f"(c[31]),       \
        "+f"(c[32]), "+f"(c[33]), "+f"(c[34]), "+f"(c[35]), "+f"(c[36]), "+f"(c[37]), "+f"(c[38]), "+f"(c[39]),       \
        "+f"(c[40]), "+f"(c[41]), "+f"(c[42]), "+f"(c[43]), "+f"(c[44]), "+f"(c[45]), "+f"(c[46]), "+f"(c[47]),       \
        "+f"(c[48]), "+f"(c[49]), "+f"(c[50]), "+f"(c[51]), "+f"(c[52]), "+f"(c[53]), "+f"(c[54]), "+f"(c[55]),       \
        "+f"(c[56]), "+f"(c[57]), "+f"(c[58]), "+f"(c[59]), "+f"(c[60]), "+f"(c[61]), "+f"(c[62]), "+f"(c[63]),       \
        "+f"(c[64]), "+f"(c[65]), "+f"(c[66]), "+f"(c[67]), "+f"(c[68]), "+f"(c[69]), "+f"(c[70]), "+f"(c[71]),       \
        "+f"(c[72]), "+f"(c[73]), "+f"(c[74]), "+f"(c[75]), "+f"(c[76]), "+f"(c[77]), "+f"(c[78]), "+f"(c[79]),       \
        "+f"(c[80]), "+f"(c[81]), "+f"(c[82]), "+f"(c[83]), "+f"(c[84]), "+f"(c[85]), "+f"(c[86]), "+f"(c[87]),       \
        "+f"(c[88]), "+f"(c[89]), "+f"(c[90]), "+f"(c[91]), "+f"(c[92]), "+f"(c[93]), "+f"(c[94]), "+f"(c[95]),       \
        "+f"(c[96]), "+f"(c[97]), "+f"(c[98]), "+f"(c[99]), "+f"(c[100]), "+f"(c[101]), "+f"(c[102]), "+f"(c[103]),   \
        "+f"(c[104]), "+f"(c[105]), "+f"(c[106]), "+f"(c[107]), "+f"(c[108]), "+f"(c[109]), "+f"(c[110]), "+f"(c[111]), \
        "+f"(c[112]), "+f"(c[113]), "+f"(c[114]), "+f"(c[115]), "+f"(c[116]), "+f"(c[117]), "+f"(c[118]), "+f"(c[119]), \
        "+f"(c[120]), "+f"(c[121]), "+f"(c[122]), "+f"(c[123]), "+f"(c[124]), "+f"(c[125]), "+f"(c[126]), "+f"(c[127]) \
      : "l"(a), "l"(b));                                                                                              \
  }
FASTCONV_WGMMA_256(bf16, "k16.f32.bf16.bf16", ", 0, 0")
FASTCONV_WGMMA_256(f16, "k16.f32.f16.f16", ", 0, 0")
FASTCONV_WGMMA_256(float, "k8.f32.tf32.tf32", "")
#undef FASTCONV_WGMMA_256

}  // namespace fastconv
#endif
#endif
