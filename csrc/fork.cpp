// What a forked child must know: of all threads it has only the one that forked.
//
// torch's pool (libgomp's) does not notice, and a child's first parallel region waits for ever, in
// F.conv2d too.  So a child whose parent has run such a region here computes on one thread.
#include "cpu/parallel.h"

#if !defined(FASTCONV_OWN_THREADS) && (defined(__unix__) || defined(__APPLE__))
#include <pthread.h>

namespace fastconv {
namespace {

void in_child() {
  if (Forks::parent_had_threads) Forks::is_child_without = true;
}

[[maybe_unused]] const int at_fork = pthread_atfork(nullptr, nullptr, in_child);

}  // namespace
}  // namespace fastconv
#endif
