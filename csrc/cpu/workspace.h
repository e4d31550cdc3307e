// Scratch memory that is kept from call to call, so that its pages are touched only once.
//
// Fresh memory costs about 1.4 us per 4 KB page on first touch; a buffer of 32 MB that is mapped
// anew on each call costs more than many a convolution.  Each calling thread keeps one block, as
// large as its largest demand so far, up to `kept_bytes`; a larger one is given back at the end.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace fastconv {

template <int Use>
class WorkspaceFor {
 public:
  // Throws std::bad_alloc.  One of each use may be alive per thread at a time.
  explicit WorkspaceFor(std::size_t bytes) {
    Block& block = kept();
    if (block.size < bytes) {
      block.memory.reset();
      block.size = 0;
      block.memory.reset(static_cast<std::byte*>(::operator new(bytes, alignment)));
      block.size = bytes;
    }
  }
  ~WorkspaceFor() {
    if (kept().size > kept_bytes) kept() = Block{};
  }
  WorkspaceFor(const WorkspaceFor&) = delete;
  WorkspaceFor& operator=(const WorkspaceFor&) = delete;

  // The next `count` elements of T, aligned to a cache line.
  template <class T>
  T* take(std::size_t count) {
    T* at = reinterpret_cast<T*>(kept().memory.get() + used_);
    used_ += bytes_for<T>(count);
    return at;
  }

  template <class T>
  static std::size_t bytes_for(std::size_t count) {
    return (count * sizeof(T) + line - 1) / line * line;
  }

 private:
  static constexpr std::size_t line = 64;
  static constexpr std::align_val_t alignment{line};
  static constexpr std::size_t kept_bytes = std::size_t{256} << 20;

  struct Free {
    void operator()(std::byte* memory) const { ::operator delete(memory, alignment); }
  };
  struct Block {
    std::unique_ptr<std::byte, Free> memory;
    std::size_t size = 0;
  };
  static Block& kept() {
    thread_local Block block;
    return block;
  }
  std::size_t used_ = 0;
};

using Workspace = WorkspaceFor<0>;
using RearrangedPicture = WorkspaceFor<1>;  // for what another implementation then works on

}  // namespace fastconv
