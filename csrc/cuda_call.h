// What CUDA operators have in common: the card and stream of a call, problems from tensors, errors.
#pragma once
#include <cuda_runtime_api.h>
#include <torch/csrc/stable/accelerator.h>

#include "cuda/table.h"
#include "tensors.h"

extern "C" AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device_index, void** stream);

namespace fastconv::cuda {

// Makes the tensor's card the current one for as long as this object lives; what is launched goes to
// that card's current stream.
class Call {
 public:
  explicit Call(const Tensor& tensor) : device_(device_of(tensor)), guard_(device_) {
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device_, &stream));
  }

  void* stream = nullptr;

  int32_t attribute(cudaDeviceAttr which) const {
    int value = 0;
    if (cudaDeviceGetAttribute(&value, which, device_) != cudaSuccess) refuse("the card does not answer");
    return value;
  }
  int32_t capability() const {
    return 10 * attribute(cudaDevAttrComputeCapabilityMajor) + attribute(cudaDevAttrComputeCapabilityMinor);
  }
  int32_t processors() const { return attribute(cudaDevAttrMultiProcessorCount); }

 private:
  static int32_t device_of(const Tensor& tensor) {
    if (!tensor.is_cuda()) refuse("expects CUDA tensors");
    return tensor.get_device_index();
  }
  int32_t device_;
  torch::stable::accelerator::DeviceGuard guard_;
};

inline void check(int error, const char* what) {
  if (error == cudaSuccess) return;
  if (error == cudaErrorMemoryAllocation) out_of_memory();
  cudaGetLastError();  // so that the next launch is not blamed for it
  throw std::runtime_error("fastconv: '" + std::string(what) + "' cannot run on this card: " +
                           cudaGetErrorString(static_cast<cudaError_t>(error)));
}

inline Type type_of(const Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case ScalarType::Float: return Type::f32;
    case ScalarType::Double: return Type::f64;
    case ScalarType::Half: return Type::f16;
    case ScalarType::BFloat16: return Type::bf16;
    default: refuse("expects float32, float64, float16 or bfloat16 tensors");
  }
}

// `number` is the name's place in precision.py's CHOICES.
inline Precision precision_from(int64_t number) {
  if (number < 0 || number > 2) refuse("precision expects a number from 0 to 2, got " + std::to_string(number));
  return static_cast<Precision>(number);
}

// Kernels count rows, columns and one filter bank in 32 bits.
inline Geometry countable_geometry_from(const Sizes& flat) {
  const Geometry g = geometry_from(flat);
  constexpr int64_t limit = int64_t{1} << 30;
  if (g.pad_top + g.h + g.pad_bottom >= limit || g.pad_left + g.w + g.pad_right >= limit)
    refuse("a padded picture on CUDA expects fewer than 2^30 rows and columns");
  if (g.c_out >= limit / g.c_in_per_group() / g.kh / g.kw) refuse("weights on CUDA expect fewer than 2^30 numbers");
  return g;
}

inline void on_card(const Tensor& tensor, const char* name, const Sizes& sizes, const Tensor& first) {
  require(tensor, name, sizes, first.scalar_type());
  if (!tensor.is_cuda() || tensor.get_device_index() != first.get_device_index())
    refuse(std::string(name) + " is on another device than the first tensor");
}

inline Tensor empty_on_card(const Tensor& like, const Sizes& sizes, ScalarType type, bool channels_last = false) try {
  const auto format = channels_last ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous;
  return torch::stable::empty(sizes, type, std::nullopt, like.device(), std::nullopt, format);
} catch (const std::exception&) {
  out_of_memory();
}

// As kernels read it: dense, beginning at 16 bytes, which a view of a part may not do.
inline Tensor readable(const Tensor& t, bool channels_last) {
  const Tensor found = dense(t, channels_last);
  if (reinterpret_cast<uintptr_t>(found.data_ptr()) % 16 == 0) return found;
  try {
    return torch::stable::clone(found);
  } catch (const std::exception&) {
    out_of_memory();
  }
}

// Scratch of so many bytes; a null pointer for none.
inline std::optional<Tensor> bytes_on_card(const Tensor& like, int64_t bytes) {
  if (!bytes) return std::nullopt;
  return empty_on_card(like, {bytes}, ScalarType::Byte);
}
inline void* data_of(const std::optional<Tensor>& tensor) { return tensor ? tensor->data_ptr() : nullptr; }

}  // namespace fastconv::cuda
