// Which instruction set the kernels use: the table of sets, and the choice among them.
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "kernels.h"

#ifdef FASTCONV_AMX
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace fastconv {

// What every *_kernels.cpp offers, once per instruction set.
#define FASTCONV_KERNELS(isa)                             \
  namespace isa {                                         \
  extern const GemmKernels gemm_kernels;                  \
  extern const DotKernels dot_kernels;                    \
  extern const DepthwiseKernels depthwise_kernels;        \
  extern const PictureKernels picture_kernels;            \
  extern const WinogradGemm winograd_gemm;                \
  extern const WinogradTransforms winograd_f4, winograd_f6; \
  extern const ChainKernels chain_kernels;                \
  extern const FewKernels few_kernels;                    \
  extern const OuterProducts outer_products;              \
  extern const WinogradGradWeight winograd_grad_weight_f4, winograd_grad_weight_f6; \
  extern const GramKernels gram_kernels;                  \
  extern const GramSums gram_sums;                        \
  extern const GramProducts gram_products;                \
  extern const PackedRowsKernels packed_rows_kernels;     \
  }
// `products`: the set whose multiplications Winograd's algorithms use, and moments of many channels;
// `squares`: the products of the general path on a matrix unit, or null.
#define FASTCONV_TABLE_WITH(name, isa, products, squares)                  \
  {name,                                                                   \
   &isa::gemm_kernels,            &isa::dot_kernels,                       \
   &isa::depthwise_kernels,       &isa::picture_kernels,                   \
   &products::winograd_gemm,      &isa::winograd_f4,                       \
   &isa::winograd_f6,             &isa::chain_kernels,                     \
   &isa::few_kernels,             &products::outer_products,               \
   &isa::winograd_grad_weight_f4, &isa::winograd_grad_weight_f6,           \
   &isa::gram_kernels,            {&isa::gram_sums, &products::gram_sums}, \
   {&isa::gram_products,          &products::gram_products},               \
   &isa::packed_rows_kernels,     squares}
#define FASTCONV_TABLE(isa) FASTCONV_TABLE_WITH(#isa, isa, isa, nullptr)

#ifdef FASTCONV_X86
FASTCONV_KERNELS(avx512)
FASTCONV_KERNELS(avx2)
#endif
FASTCONV_KERNELS(plain)
#ifdef FASTCONV_AMX
namespace amx {
extern const WinogradGemm winograd_gemm;
extern const OuterProducts outer_products;
extern const GramSums gram_sums;
extern const GramProducts gram_products;
extern const SquareKernels square_kernels;
}
#endif

namespace {

#ifdef FASTCONV_X86
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

#ifdef FASTCONV_AMX
// The processor has tiles of bfloat16, and the system saves their 8 KB for a process that asks.
bool has_amx() {
  unsigned a, b, c, d = 0;
  constexpr unsigned bfloat16 = 1u << 22, tiles = 1u << 24;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & bfloat16) == 0 || (d & tiles) == 0) return false;
  constexpr long ask = 0x1023, tile_data = 18;
  return has_avx512() && syscall(SYS_arch_prctl, ask, tile_data) == 0;
}
#endif

struct Row {
  Kernels kernels;
  bool (*present)();
};

// Best first.  To add an instruction set: a row here and one in CMakeLists.txt.
const Row rows[] = {
#ifdef FASTCONV_X86
#ifdef FASTCONV_AMX
    {FASTCONV_TABLE_WITH("amx", avx512, amx, &amx::square_kernels), has_amx},
#endif
    {FASTCONV_TABLE(avx512), has_avx512},
    {FASTCONV_TABLE(avx2),
     [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }},
#endif
    {FASTCONV_TABLE(plain), [] { return true; }},
};

const Kernels& choose_kernels() {
  const char* wanted = std::getenv("FASTCONV_ISA");
  if (wanted == nullptr || *wanted == '\0') return *available_kernels()[0];
  std::string choices;
  for (const Kernels* const* at = available_kernels(); *at != nullptr; ++at) {
    if (std::strcmp((*at)->name, wanted) == 0) return **at;
    choices += (choices.empty() ? "" : ", ") + std::string((*at)->name);
  }
  throw std::invalid_argument("FASTCONV_ISA='" + std::string(wanted) +
                              "' is not an instruction set of this build and processor; choices: " +
                              choices);
}

}  // namespace

const Kernels* const* available_kernels() {
  static const Kernels* present[sizeof(rows) / sizeof(rows[0]) + 1] = {};
  static const bool filled = [] {
    int count = 0;
    for (const Row& row : rows)
      if (row.present()) present[count++] = &row.kernels;
    return true;
  }();
  (void)filled;
  return present;
}

const Kernels& kernels() {
  static const Kernels& chosen = choose_kernels();
  return chosen;
}

}  // namespace fastconv
