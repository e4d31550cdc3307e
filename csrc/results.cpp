#include "results.h"

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <map>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>

#include "cpu/pages.h"

#if defined(__unix__) || defined(__APPLE__)
#include <dlfcn.h>
#include <pthread.h>
#endif

namespace fastconv {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr std::align_val_t alignment{64};

// torch's own function of this name, from 2.11 on.
using FromBlob = AOTITorchError (*)(void* data, int64_t dimensions, const int64_t* sizes,
                                    const int64_t* strides, int64_t offset, int32_t dtype,
                                    int32_t device_type, int32_t device_index, AtenTensorHandle*,
                                    int32_t layout, const uint8_t* metadata, int64_t metadata_size,
                                    void (*deleter)(void* data, void* context), void* context);

// Python loads libraries apart from each other, so it is asked for in the very one that holds
// another function of torch's.
FromBlob find_from_blob() {
#if defined(__unix__) || defined(__APPLE__)
  Dl_info torch_cpu;
  if (!dladdr(reinterpret_cast<void*>(&aoti_torch_delete_tensor_object), &torch_cpu))
    return nullptr;
  void* const library = dlopen(torch_cpu.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
  return library ? reinterpret_cast<FromBlob>(dlsym(library, "torch_from_blob")) : nullptr;
#else
  return nullptr;
#endif
}

FromBlob torch_from_blob_function() {
  static const FromBlob found = find_from_blob();
  return found;
}

// FASTCONV_KEEP_MB, in bytes.
int64_t read_most_kept() {
  const char* const text = std::getenv("FASTCONV_KEEP_MB");
  if (text == nullptr || *text == '\0') return int64_t{512} << 20;
  const std::string_view digits = text;
  constexpr std::size_t most_digits = 9;  // a million gigabytes
  if (digits.find_first_not_of("0123456789") != digits.npos || digits.size() > most_digits)
    throw std::invalid_argument("FASTCONV_KEEP_MB expects a whole number of megabytes, 0 or more, got '" +
                                std::string(digits) + "'");
  return std::strtoll(text, nullptr, 10) << 20;
}

// Free blocks by size, in each size the longest unused first.
class Blocks {
 public:
  void lock() { mutex_.lock(); }
  void unlock() { mutex_.unlock(); }

  void* take(int64_t bytes) {
    {
      const std::lock_guard lock(mutex_);
      const auto found = free_.find(bytes);
      if (found != free_.end()) {
        void* const memory = found->second.back().memory;
        drop(found, false);
        return memory;
      }
    }
    const auto size = static_cast<std::size_t>(bytes);
    void* memory = ::operator new(size, alignment, std::nothrow);
    if (memory == nullptr) {  // what is kept for later may be what is missing now
      kept(true);
      memory = ::operator new(size, alignment, std::nothrow);
    }
    if (memory == nullptr)
      throw std::bad_alloc();
    prefer_large_pages(memory, size);
    return memory;
  }

  void give_back(void* memory, int64_t bytes) {
    const std::lock_guard lock(mutex_);
    free_[bytes].push_back({memory, ++time_});
    kept_ += bytes;
    shrink(most_);
  }

  int64_t kept(bool release) {
    const std::lock_guard lock(mutex_);
    if (release)
      shrink(0);
    return kept_;
  }

  bool keeps() const { return most_ > 0; }

 private:
  struct Block {
    void* memory;
    int64_t since;
  };
  using Sizes = std::map<int64_t, std::deque<Block>>;

  void drop(Sizes::iterator size, bool oldest) {
    kept_ -= size->first;
    oldest ? size->second.pop_front() : size->second.pop_back();
    if (size->second.empty())
      free_.erase(size);
  }

  void shrink(int64_t most) {
    while (kept_ > most) {
      const auto oldest = std::min_element(free_.begin(), free_.end(), [](auto& a, auto& b) {
        return a.second.front().since < b.second.front().since;
      });
      ::operator delete(oldest->second.front().memory, alignment);
      drop(oldest, true);
    }
  }

  std::mutex mutex_;
  Sizes free_;
  int64_t kept_ = 0, time_ = 0;
  const int64_t most_ = most_kept();  // throws, while there are no blocks yet
};

// Never destroyed: tensors may die after it would be.
Blocks& blocks() {
  static Blocks* const all = new Blocks;
  return *all;
}

#if defined(__unix__) || defined(__APPLE__)
// A fork must not copy the lock while another thread holds it: the child could never take it.
[[maybe_unused]] const int at_fork = pthread_atfork(
    [] { blocks().lock(); }, [] { blocks().unlock(); }, [] { blocks().unlock(); });
#endif

void give_back(void* memory, void* bytes) {
  blocks().give_back(memory, static_cast<int64_t>(reinterpret_cast<std::intptr_t>(bytes)));
}

// Sizes of blocks are eighths of a power of two, so that nearly equal results share them.
int64_t rounded(int64_t bytes) {
  int64_t step = 512;
  while (step * 16 <= bytes) step *= 2;
  return (bytes + step - 1) / step * step;
}

template <class Value>
int32_t shim(Value value) {
  return torch::stable::detail::to<int32_t>(torch::stable::detail::from(value));
}

// A small result comes from torch's allocator, past its dispatcher: 0.35 us.
constexpr int64_t small_bytes = 16 << 10;

}  // namespace

std::optional<Tensor> kept_result(const std::vector<int64_t>& sizes, ScalarType dtype,
                                  bool channels_last) {
  const int64_t c = sizes[1], h = sizes[2], w = sizes[3];
  const int64_t bytes = sizes[0] * c * h * w * (dtype == ScalarType::Double ? 8 : 4);
  const int64_t plain[] = {c * h * w, h * w, w, 1}, last[] = {c * h * w, 1, w * c, c};
  const int64_t* const strides = channels_last ? last : plain;
  const int32_t cpu = shim(torch::headeronly::DeviceType::CPU);
  AtenTensorHandle handle = nullptr;
  if (bytes <= small_bytes) {
    if (aoti_torch_empty_strided(4, sizes.data(), strides, shim(dtype), cpu, -1, &handle))
      return std::nullopt;
    return Tensor(handle);
  }
  if (!keeps_results())
    return std::nullopt;
  const int64_t block = rounded(bytes);
  void* const memory = blocks().take(block);
  const AOTITorchError failed =
      torch_from_blob_function()(
                memory, 4, sizes.data(), strides, 0, shim(dtype), cpu, -1, &handle,
                shim(torch::headeronly::Layout::Strided), nullptr, 0, give_back,
                reinterpret_cast<void*>(static_cast<std::intptr_t>(block)));
  if (failed) {
    blocks().give_back(memory, block);
    return std::nullopt;
  }
  return Tensor(handle);
}

bool keeps_results() { return torch_from_blob_function() && blocks().keeps(); }

int64_t most_kept() {
  static const int64_t most = read_most_kept();
  return most;
}

int64_t kept_bytes(bool release) { return blocks().kept(release); }

}  // namespace fastconv
