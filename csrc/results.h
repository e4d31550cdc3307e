// Memory for results that comes back: a convolution's output is written into pages that an earlier
// output has touched.
//
// glibc maps a large allocation afresh and gives it back when it is freed, and a smaller one at the
// heap's end too; the first touch of a page costs about a microsecond per 4 KB: 20 ms for 64 channels
// of 512 x 512, as long as their convolution takes, and 0.09 ms for 512 channels of 14 x 14, longer
// than theirs.  So results above 16 KB come from blocks that are kept when their tensor dies, up to
// FASTCONV_KEEP_MB (512) of free ones; beyond that the longest unused go.  It needs torch >= 2.11; on an
// older one, and with FASTCONV_KEEP_MB=0, results are ordinary tensors.
//
// Such a tensor owns its memory alone and behaves like any other, save that its storage cannot be
// made larger in place (resize_).
#pragma once
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace fastconv {

// An uninitialized tensor of four dimensions, or nothing where torch's own allocator should make
// it.  Throws std::bad_alloc.
std::optional<torch::stable::Tensor> kept_result(const std::vector<int64_t>& sizes,
                                                 torch::headeronly::ScalarType dtype,
                                                 bool channels_last);

bool keeps_results();

// FASTCONV_KEEP_MB, in bytes.  Throws std::invalid_argument if it is no number.
int64_t most_kept();

// Bytes in free blocks; `release` gives them back to the system first.
int64_t kept_bytes(bool release);

}  // namespace fastconv
