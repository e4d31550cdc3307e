#include "guarded.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <map>
#include <new>

namespace fastconv::emulator {
namespace {

struct Mapping {
  void* start;
  size_t bytes;
};
std::map<void*, Mapping> mappings;

}  // namespace

void* guarded_allocation(size_t bytes, size_t alignment, bool at_end) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t inner = (bytes + page - 1) / page * page + (bytes ? 0 : page);
  void* start = mmap(nullptr, inner + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (start == MAP_FAILED) throw std::bad_alloc();
  unsigned char* first = static_cast<unsigned char*>(start) + page;
  mprotect(start, page, PROT_NONE);
  mprotect(first + inner, page, PROT_NONE);
  memset(first, 0xff, inner);
  void* memory = first + (at_end ? (inner - bytes) / alignment * alignment : 0);
  mappings[memory] = {start, inner + 2 * page};
  return memory;
}

void guarded_release(void* memory) {
  const auto found = mappings.find(memory);
  if (found == mappings.end()) return;
  munmap(found->second.start, found->second.bytes);
  mappings.erase(found);
}

}  // namespace fastconv::emulator

extern "C" {

void* fastconv_emulator_allocate(size_t bytes, int at_end) {
  return fastconv::emulator::guarded_allocation(bytes, 16, at_end != 0);
}
void fastconv_emulator_release(void* memory) { fastconv::emulator::guarded_release(memory); }

}  // extern "C"
