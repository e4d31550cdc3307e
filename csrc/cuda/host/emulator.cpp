#include "../device.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <new>
#include <vector>

#include "guarded.h"

namespace fastconv::emulator {

Place here;
int block_threads;
Grid grid;
unsigned char* shared;

namespace {

constexpr size_t stack_bytes = 128 * 1024;
constexpr int max_threads = 1024, max_width = 128;

struct Copy {
  void* dst;
  const void* src;  // null: zeros
  int bytes;
  long group;
};

enum class State { ready, at_barrier, meeting, watching, done };

struct Fibre {
  State state;
  const char* name;  // of the function in which it waits for others
  bool (*condition)(const void*, int);
  const void* watched;
  int value;
  bool started;
  ucontext_t birth;
  jmp_buf resume;
  std::vector<Copy> copies;
  long group;  // of cp.async, the one being filled
};

struct Meeting {  // of the group whose first thread has this index
  int present;
  const char* name;
  void* arguments[max_width];
};

std::vector<Fibre> fibres;
std::vector<Meeting> meetings;
std::vector<std::function<void()>> pending_work;
unsigned char* stacks;
int arrived;    // at the barrier
int finished;   // threads of the block
int order;      // 0: threads first to last, 1: last to first, else a seed
uint32_t randomness;
jmp_buf scheduler;
sigjmp_buf outside;
char message[512];
void (*kernel_body)(void*);
void* kernel_arguments;
size_t page;

void birth() {
  kernel_body(kernel_arguments);
  fibres[here.thread].state = State::done;
  ++finished;
  _longjmp(scheduler, 1);
}

void give_way() {
  if (_setjmp(fibres[here.thread].resume) == 0) _longjmp(scheduler, 1);
}

void resume(int thread) {
  Fibre& fibre = fibres[thread];
  here.thread = thread;
  if (_setjmp(scheduler) != 0) return;  // the fibre gave way
  if (fibre.started) _longjmp(fibre.resume, 1);
  fibre.started = true;
  getcontext(&fibre.birth);
  fibre.birth.uc_stack.ss_sp = stacks + thread * (stack_bytes + page) + page;
  fibre.birth.uc_stack.ss_size = stack_bytes;
  fibre.birth.uc_link = nullptr;
  makecontext(&fibre.birth, birth, 0);
  setcontext(&fibre.birth);
}

uint32_t random_below(size_t limit) {
  randomness = randomness * 1664525u + 1013904223u;
  return (randomness >> 8) % static_cast<uint32_t>(limit);
}

bool can_run(const Fibre& fibre) {
  return fibre.state == State::ready ||
         (fibre.state == State::watching && fibre.condition(fibre.watched, fibre.value));
}

// A thread at or after `from` that can run, in the order of this launch; -1 if all wait.
int next_ready(int from) {
  if (order > 1) from = static_cast<int>(random_below(static_cast<size_t>(block_threads)));
  const int step = order == 1 ? block_threads - 1 : 1;
  for (int i = 0; i < block_threads; ++i, from = (from + step) % block_threads)
    if (can_run(fibres[from])) return from;
  return -1;
}

bool do_pending_work() {
  if (pending_work.empty()) return false;
  const auto chosen = pending_work.begin() + (order > 1 ? random_below(pending_work.size()) : 0);
  const std::function<void()> work = *chosen;
  pending_work.erase(chosen);
  work();
  return true;
}

void explain_standstill() {
  const Fibre* waiting = nullptr;
  for (int t = 0; t < block_threads && !waiting; ++t)
    if (fibres[t].state == State::meeting || fibres[t].state == State::watching) waiting = &fibres[t];
  if (!waiting) fail("%d of %d threads wait at a barrier, %d have finished", arrived, block_threads, finished);
  fail("thread %d waits in %s for others; %d of %d are at a barrier, %d have finished",
       static_cast<int>(waiting - fibres.data()), waiting->name, arrived, block_threads, finished);
}

void run_block() {
  for (int t = 0; t < block_threads; ++t) {
    fibres[t].state = State::ready;
    fibres[t].started = false;
    fibres[t].copies.clear();
    fibres[t].group = 0;
    meetings[t].present = 0;
  }
  arrived = finished = 0;
  pending_work.clear();
  begin_block();
  int thread = order == 1 ? block_threads - 1 : 0;
  while (finished < block_threads) {
    const int next = next_ready(thread);
    if (next >= 0)
      resume(thread = next);
    else if (!do_pending_work())
      explain_standstill();
  }
  if (!pending_work.empty()) fail("a copy was under way when the block ended");
}

void touched_outside(int, siginfo_t* info, void*) {
  snprintf(message, sizeof message, "block (%u, %u, %u), thread %d touched memory outside of every buffer, at %p",
           here.block.x, here.block.y, here.block.z, here.thread, info->si_addr);
  siglongjmp(outside, 1);
}

// While a launch runs, a fault is a finding, not the end of the process.
class Faults {
 public:
  Faults() {
    stack_t own{};
    own.ss_sp = stack_;
    own.ss_size = sizeof stack_;
    sigaltstack(&own, &old_stack_);
    struct sigaction action {};
    action.sa_sigaction = touched_outside;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, &old_segv_);
    sigaction(SIGBUS, &action, &old_bus_);
  }
  ~Faults() {
    sigaction(SIGSEGV, &old_segv_, nullptr);
    sigaction(SIGBUS, &old_bus_, nullptr);
    sigaltstack(&old_stack_, nullptr);
  }

 private:
  static inline unsigned char stack_[64 * 1024];
  stack_t old_stack_{};
  struct sigaction old_segv_ {}, old_bus_ {};
};

void reserve(int threads) {
  page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  if (!stacks) {
    const size_t each = stack_bytes + page;
    void* all = mmap(nullptr, max_threads * each, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED) throw std::bad_alloc();
    stacks = static_cast<unsigned char*>(all);
    for (int t = 0; t < max_threads; ++t) mprotect(stacks + t * each, page, PROT_NONE);
  }
  if (static_cast<int>(fibres.size()) < threads) {
    fibres.resize(threads);
    meetings.resize(threads);
  }
}

void run_grid(size_t shared_bytes) {
  const unsigned blocks = grid.x * grid.y * grid.z;
  for (unsigned i = 0; i < blocks; ++i) {
    const unsigned at = order == 1 ? blocks - 1 - i : i;
    here.block = {at % grid.x, at / grid.x % grid.y, at / grid.x / grid.y};
    memset(shared, 0xff, shared_bytes);  // NaN in every format
    run_block();
  }
}

}  // namespace

void fail(const char* format, ...) {
  const int used = snprintf(message, sizeof message, "block (%u, %u, %u), thread %d: ", here.block.x, here.block.y,
                            here.block.z, here.thread);
  va_list rest;
  va_start(rest, format);
  vsnprintf(message + used, sizeof message - static_cast<size_t>(used), format, rest);
  va_end(rest);
  siglongjmp(outside, 1);
}

void barrier() {
  if (finished) fail("waits at a barrier; %d threads have finished without it", finished);
  if (++arrived < block_threads) {
    fibres[here.thread].state = State::at_barrier;
    return give_way();
  }
  arrived = 0;
  for (int t = 0; t < block_threads; ++t) fibres[t].state = State::ready;
}

void meet(int width, const char* name, Work work, void* of_this_lane) {
  const int thread = here.thread, first = thread / width * width;
  if (first + width > block_threads) fail("%s in an incomplete warp of a block of %d", name, block_threads);
  Meeting& meeting = meetings[first];
  if (meeting.present && strcmp(meeting.name, name) != 0)
    fail("comes to %s while others of its warp wait in %s", name, meeting.name);
  meeting.name = name;
  meeting.arguments[thread - first] = of_this_lane;
  if (++meeting.present < width) {
    fibres[thread].state = State::meeting;
    fibres[thread].name = name;
    return give_way();
  }
  meeting.present = 0;
  work(meeting.arguments);
  for (int t = first; t < first + width; ++t) fibres[t].state = State::ready;
}

void wait_until(bool (*condition)(const void*, int), const void* what, int value, const char* name) {
  if (condition(what, value)) return;
  Fibre& fibre = fibres[here.thread];
  fibre.state = State::watching;
  fibre.name = name;
  fibre.condition = condition;
  fibre.watched = what;
  fibre.value = value;
  give_way();
  fibres[here.thread].state = State::ready;
}

void do_later(std::function<void()> work) {
  if (order == 1) return work();
  pending_work.push_back(std::move(work));
}

void start_copy(void* dst, const void* src, int bytes, bool valid) {
  if (reinterpret_cast<uintptr_t>(dst) % static_cast<uintptr_t>(bytes)) fail("cp.async of %d bytes to %p", bytes, dst);
  if (valid && reinterpret_cast<uintptr_t>(src) % static_cast<uintptr_t>(bytes))
    fail("cp.async of %d bytes from %p, which is not aligned", bytes, src);
  Fibre& fibre = fibres[here.thread];
  memset(dst, 0xff, static_cast<size_t>(bytes));  // until the wait
  fibre.copies.push_back({dst, valid ? src : nullptr, bytes, fibre.group});
}

void commit_copies() { ++fibres[here.thread].group; }

void wait_for_copies(int pending) {
  Fibre& fibre = fibres[here.thread];
  size_t kept = 0;
  for (const Copy& copy : fibre.copies)
    if (copy.group >= fibre.group - pending)
      fibre.copies[kept++] = copy;
    else if (copy.src)
      memcpy(copy.dst, copy.src, static_cast<size_t>(copy.bytes));
    else
      memset(copy.dst, 0, static_cast<size_t>(copy.bytes));
  fibre.copies.resize(kept);
}

int run(void (*body)(void*), void* arguments, Grid of_grid, int threads, size_t shared_bytes) {
  message[0] = 0;
  if (threads < 1 || threads > max_threads || !of_grid.x || !of_grid.y || !of_grid.z || of_grid.y > 65535 ||
      of_grid.z > 65535 || shared_bytes > 227 * 1024) {
    snprintf(message, sizeof message, "no card runs a grid of (%u, %u, %u) with %d threads and %zu bytes", of_grid.x,
             of_grid.y, of_grid.z, threads, shared_bytes);
    return 1;
  }
  reserve(threads);
  kernel_body = body;
  kernel_arguments = arguments;
  grid = of_grid;
  block_threads = threads;
  randomness = static_cast<uint32_t>(order);
  shared = static_cast<unsigned char*>(guarded_allocation(shared_bytes, shared_bytes % 1024 ? 128 : 1024, true));
  const Faults faults;
  const int failed = sigsetjmp(outside, 1);
  if (!failed) run_grid(shared_bytes);
  guarded_release(shared);
  return failed;
}

}  // namespace fastconv::emulator

extern "C" {

const char* fastconv_emulator_message() { return fastconv::emulator::message; }
// 0: threads and blocks run first to last; 1: last to first; else in a random order of this seed.
void fastconv_emulator_set_order(int order) { fastconv::emulator::order = order; }

}  // extern "C"
