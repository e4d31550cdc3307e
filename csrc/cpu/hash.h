// A 64-bit hash of a piece of memory, at the speed of reading it.
//
// Each of eight chains takes 16 bytes a step, (a, b), by a product of 64 x 64 bits whose halves are
// folded together:
//
//   h = fold((h ^ a) (key ^ b)),  fold(p) = p's upper 64 bits ^ p's lower 64 bits
//
// The upper half brings high bits down: of h = (h ^ a) * odd alone, what differs in bit 63 differs in
// bit 63 for ever, so that two flipped signs cancel.  No hash of 64 bits can tell all contents apart;
// this one tells apart what tests/fastconv/test_fingerprint.py writes.  Chains run side by side, for
// one alone waits for its own product.
#pragma once
#include <cstdint>
#include <cstring>
#include <vector>

#if defined(_MSC_VER) && defined(_M_X64)
#include <intrin.h>
#endif

#include "parallel.h"

namespace fastconv {

inline uint64_t folded_product(uint64_t a, uint64_t b) {
#if defined(__SIZEOF_INT128__)
  __extension__ typedef unsigned __int128 Wide;
  const Wide product = static_cast<Wide>(a) * b;
  return static_cast<uint64_t>(product >> 64) ^ static_cast<uint64_t>(product);
#elif defined(_MSC_VER) && defined(_M_X64)
  uint64_t upper;
  const uint64_t lower = _umul128(a, b, &upper);
  return upper ^ lower;
#else
  const uint64_t a0 = a & 0xffffffff, a1 = a >> 32, b0 = b & 0xffffffff, b1 = b >> 32;
  const uint64_t low = a0 * b0, middle = a1 * b0 + (low >> 32), other = a0 * b1 + (middle & 0xffffffff);
  const uint64_t upper = a1 * b1 + (middle >> 32) + (other >> 32);
  return upper ^ (other << 32 | (low & 0xffffffff));
#endif
}

inline uint64_t hash_of_piece(const char* at, int64_t bytes, uint64_t seed = 0) {
  constexpr int chains = 8;
  // The fractional parts of the square roots of the first eight primes, as in SHA-512.
  constexpr uint64_t keys[chains] = {0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b,
                                     0xa54ff53a5f1d36f1, 0x510e527fade682d1, 0x9b05688c2b3e6c1f,
                                     0x1f83d9abfb41bd6b, 0x5be0cd19137e2179};
  uint64_t h[chains], words[2 * chains];
  for (int i = 0; i < chains; ++i) h[i] = keys[chains - 1 - i] + i;
  uint64_t all = folded_product(seed ^ keys[0], static_cast<uint64_t>(bytes) ^ keys[1]);
  for (; bytes > 0; bytes -= sizeof words, at += sizeof words) {
    if (bytes < static_cast<int64_t>(sizeof words)) {
      std::memset(words, 0, sizeof words);
      std::memcpy(words, at, bytes);
    } else {
      std::memcpy(words, at, sizeof words);
    }
    for (int i = 0; i < chains; ++i) h[i] = folded_product(h[i] ^ words[2 * i], keys[i] ^ words[2 * i + 1]);
  }
  for (int i = 0; i < chains; ++i) all = folded_product(all ^ h[i], keys[i]) + h[i];
  return folded_product(all, keys[2]) ^ all;
}

// `seed`: what else has to be equal.
inline int64_t hash_of(const void* memory, int64_t bytes, uint64_t seed) {
  constexpr int64_t piece = int64_t{1} << 19;  // below it, waking threads costs more than it saves
  const char* at = static_cast<const char*>(memory);
  const int64_t pieces = (bytes + piece - 1) / piece;
  if (pieces == 1) return static_cast<int64_t>(hash_of_piece(at, bytes, seed));
  std::vector<uint64_t> hashes(pieces);
  parallel_for(pieces, [&](int64_t i, int64_t) {
    hashes[i] = hash_of_piece(at + i * piece, i + 1 < pieces ? piece : bytes - i * piece);
  });
  const auto size = static_cast<int64_t>(pieces * sizeof(uint64_t));
  return static_cast<int64_t>(hash_of_piece(reinterpret_cast<const char*>(hashes.data()), size, seed));
}

}  // namespace fastconv
