// Work in parallel on torch's own threads, so that torch.set_num_threads is obeyed.
#pragma once
#include <torch/csrc/stable/ops.h>

#include <atomic>
#include <cstdint>

#if defined(__SSE2__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace fastconv {

// While it lives, denormal numbers count as zero on this thread: on x86 arithmetic with them is
// 5 to 50 times slower.  The caller's setting comes back at the end.
class FlushDenormals {
 public:
#if defined(__SSE2__) || defined(_M_X64)
  FlushDenormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
  ~FlushDenormals() { _mm_setcsr(before_); }

 private:
  unsigned before_;
#else
  FlushDenormals() {}
#endif
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;
};

inline int64_t thread_count() { return torch::stable::get_num_threads(); }

// Calls work(index, thread) for every index in [0, count).  Threads take the next index as they
// become free (torch's parallel_for alone hands each thread one fixed share).  `work` must not
// throw: allocate and validate beforehand.  `most` limits the number of threads.
template <class Work>
void parallel_for(int64_t count, const Work& work, int64_t most = INT64_MAX) {
  const int64_t available = most < thread_count() ? most : thread_count();
  const int64_t threads = count < available ? count : available;
  if (threads <= 1) {
    FlushDenormals guard;
    for (int64_t i = 0; i < count; ++i) work(i, int64_t{0});
    return;
  }
  std::atomic<int64_t> next{0};
  torch::stable::parallel_for(0, threads, 1, [&](int64_t first, int64_t last) {
    FlushDenormals guard;
    for (int64_t thread = first; thread < last; ++thread)
      for (int64_t i = next++; i < count; i = next++) work(i, thread);
  });
}

}  // namespace fastconv
