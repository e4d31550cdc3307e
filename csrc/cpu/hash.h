// A 64-bit hash of a piece of memory, at the speed of reading it.
//
// Eight chains h = (h ^ word) * odd run side by side, for one alone waits for its own product.
// Each step is one-to-one in h and in the word, so that a change of one word always shows, and
// any other with probability 1 - 2^-64.
#pragma once
#include <cstdint>
#include <cstring>
#include <vector>

#include "parallel.h"

namespace fastconv {

inline uint64_t hash_of_piece(const char* at, int64_t bytes) {
  constexpr int chains = 8;
  constexpr uint64_t odd = 0x9e3779b97f4a7c15u;
  uint64_t h[chains] = {1, 2, 3, 4, 5, 6, 7, 8};
  uint64_t words[chains];
  for (; bytes > 0; bytes -= sizeof words, at += sizeof words) {
    if (bytes < static_cast<int64_t>(sizeof words)) {
      std::memset(words, 0, sizeof words);
      std::memcpy(words, at, bytes);
    } else {
      std::memcpy(words, at, sizeof words);
    }
    for (int i = 0; i < chains; ++i) h[i] = (h[i] ^ words[i]) * odd;
  }
  uint64_t all = 0;
  for (uint64_t one : h) all = ((all ^ one) * odd) ^ (all >> 29);
  return all;
}

inline int64_t hash_of(const void* memory, int64_t bytes) {
  constexpr int64_t piece = int64_t{1} << 19;  // below it, waking threads costs more than it saves
  const char* at = static_cast<const char*>(memory);
  const int64_t pieces = (bytes + piece - 1) / piece;
  std::vector<uint64_t> hashes(pieces);
  parallel_for(pieces, [&](int64_t i, int64_t) {
    hashes[i] = hash_of_piece(at + i * piece, i + 1 < pieces ? piece : bytes - i * piece);
  });
  return static_cast<int64_t>(
      hash_of_piece(reinterpret_cast<const char*>(hashes.data()), pieces * sizeof(uint64_t)));
}

}  // namespace fastconv
