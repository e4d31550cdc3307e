// Work in parallel on torch's own threads, so that torch.set_num_threads is obeyed.
//
// With FASTCONV_OWN_THREADS, on threads that are started and joined for each region, as many as the
// environment's FASTCONV_THREADS says.  ThreadSanitizer needs that: it does not see how the threads of
// torch's OpenMP wait for each other, and would call every result a race.
#pragma once
#include <torch/csrc/stable/ops.h>

#include <atomic>
#include <cstdint>

#if defined(FASTCONV_OWN_THREADS)
#include <cstdlib>
#include <thread>
#include <vector>
#endif
#if defined(__SSE2__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace fastconv {

// While it lives, denormal numbers count as zero on this thread: on x86 arithmetic with them is
// 5 to 50 times slower.  The caller's setting comes back at the end.  Not for double precision: who asks
// for it wants small numbers, and what training leaves of them is far above 2e-308.
class FlushDenormals {
 public:
#if defined(__SSE2__) || defined(_M_X64)
  explicit FlushDenormals(bool wanted) : before_(_mm_getcsr()) {
    if (wanted) _mm_setcsr(before_ | 0x8040);
  }
  ~FlushDenormals() { _mm_setcsr(before_); }

 private:
  unsigned before_;
#else
  explicit FlushDenormals(bool) {}
#endif
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;
};

// Whether this thread's work is in double precision, for as long as it lives.
class InDoublePrecision {
 public:
  explicit InDoublePrecision(bool is_double) { now() = is_double; }
  ~InDoublePrecision() { now() = false; }
  InDoublePrecision(const InDoublePrecision&) = delete;
  InDoublePrecision& operator=(const InDoublePrecision&) = delete;
  static bool& now() {
    thread_local bool is_double = false;
    return is_double;
  }
};

#if defined(FASTCONV_OWN_THREADS)
inline int64_t thread_count() {
  const char* const wanted = std::getenv("FASTCONV_THREADS");
  return wanted ? std::strtoll(wanted, nullptr, 10) : 2;
}

// work(thread, thread + 1) for every thread, each on its own.
template <class Work>
void run_on_threads(int64_t threads, const Work& work) {
  std::vector<std::thread> others;
  for (int64_t thread = 1; thread < threads; ++thread) others.emplace_back(work, thread, thread + 1);
  work(0, 1);
  for (std::thread& other : others) other.join();
}
#else
// A forked child has none of its parent's threads, and would wait for them for ever (fork.cpp).
struct Forks {
  static inline std::atomic<bool> parent_had_threads{false}, is_child_without{false};
};

inline int64_t thread_count() {
  return Forks::is_child_without.load(std::memory_order_relaxed) ? 1 : torch::stable::get_num_threads();
}

template <class Work>
void run_on_threads(int64_t threads, const Work& work) {
  Forks::parent_had_threads.store(true, std::memory_order_relaxed);
  torch::stable::parallel_for(0, threads, 1, work);
}
#endif

// Calls work(index, thread) for every index in [0, count).  Threads take the next index as they
// become free (torch's parallel_for alone hands each thread one fixed share).  `work` must not
// throw: allocate and validate beforehand.  `most` limits the number of threads.
template <class Work>
void parallel_for(int64_t count, const Work& work, int64_t most = INT64_MAX) {
  const int64_t available = most < thread_count() ? most : thread_count();
  const int64_t threads = count < available ? count : available;
  const bool flushes = !InDoublePrecision::now();
  if (threads <= 1) {
    const FlushDenormals guard(flushes);
    for (int64_t i = 0; i < count; ++i) work(i, int64_t{0});
    return;
  }
  // Relaxed, for items are independent of each other: the region's end orders what they write.  (A
  // stricter order would also make ThreadSanitizer believe that one item waits for another.)
  std::atomic<int64_t> next{0};
  const auto take = [&next] { return next.fetch_add(1, std::memory_order_relaxed); };
  run_on_threads(threads, [&](int64_t first, int64_t last) {
    const FlushDenormals guard(flushes);
    for (int64_t thread = first; thread < last; ++thread)
      for (int64_t i = take(); i < count; i = take()) work(i, thread);
  });
}

}  // namespace fastconv
