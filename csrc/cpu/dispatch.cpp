// Which instruction set the kernels use: the table of sets, and the choice among them.
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "kernels.h"

namespace fastconv {

#ifdef FASTCONV_X86
namespace avx512 { extern const GemmKernels gemm_kernels; }
namespace avx2 { extern const GemmKernels gemm_kernels; }
#endif
namespace plain { extern const GemmKernels gemm_kernels; }

namespace {

struct Row {
  Kernels kernels;
  bool (*present)();
};

// Best first.  To add an instruction set: a row here and one in CMakeLists.txt.
const Row rows[] = {
#ifdef FASTCONV_X86
    {{"avx512", &avx512::gemm_kernels},
     [] {
       return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
     }},
    {{"avx2", &avx2::gemm_kernels},
     [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }},
#endif
    {{"plain", &plain::gemm_kernels}, [] { return true; }},
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
