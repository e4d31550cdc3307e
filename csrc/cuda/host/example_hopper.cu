// As example.cu, of hopper_device.h: boxes of eight rows of 32 floats, fetched by one thread and added
// up by 128 others.
#include "../hopper_device.h"

namespace fastconv {
namespace {

struct HopperExample {
  cuda::TensorMap x;  // steps x 8 rows x 32
  float* y;           // 8 rows x 32: the sum over steps
  int steps, mistake;
};

enum Mistake { none, no_wait_for_bytes, no_wait_for_room, no_init, copy_at_the_end, wrong_bytes };

constexpr int stages = 2, box_bytes = 1024;

#ifdef FASTCONV_HAS_WGMMA
FASTCONV_DEVICE void fetch_steps(const HopperExample& p, unsigned char* boxes, uint64_t* full, uint64_t* empty) {
  const int steps = p.steps + (p.mistake == copy_at_the_end);
  for (int step = 0; step < steps; ++step) {
    const int stage = step % stages;
    if (step >= stages && p.mistake != no_wait_for_room) barrier_wait(empty + stage, (step / stages - 1) & 1);
    barrier_arrive_and_expect(full + stage, p.mistake == wrong_bytes ? box_bytes + 16 : box_bytes);
    fetch_box(boxes + stage * box_bytes, &p.x, full + stage, 0, 0, step);
  }
}

FASTCONV_DEVICE void add_steps(const HopperExample& p, const unsigned char* boxes, uint64_t* full, uint64_t* empty) {
  const int row = thread() / 16, chunk = thread() % 16 / 2, half = thread() % 2 * 8;
  float sums[2] = {};
  for (int step = 0; step < p.steps; ++step) {
    const int stage = step % stages;
    if (p.mistake != no_wait_for_bytes) barrier_wait(full + stage, step / stages & 1);
    const unsigned char* at = boxes + stage * box_bytes + row * 128 + (chunk ^ row) * 16 + half;
    for (int i = 0; i < 2; ++i) sums[i] += reinterpret_cast<const float*>(at)[i];
    barrier_arrive(empty + stage);
  }
  for (int i = 0; i < 2; ++i) p.y[thread() * 2 + i] = sums[i];
}
#endif

FASTCONV_KERNEL(160) hopper_example(FASTCONV_CONSTANT HopperExample p) {
#ifdef FASTCONV_HAS_WGMMA
  unsigned char* boxes = static_cast<unsigned char*>(shared_memory());
  uint64_t* full = reinterpret_cast<uint64_t*>(boxes + stages * box_bytes);
  uint64_t* empty = full + stages;
  if (thread() == 0 && p.mistake != no_init) {
    for (int s = 0; s < stages; ++s) {
      barrier_init(full + s, 1);
      barrier_init(empty + s, 128);
    }
    barriers_initialised();
  }
  sync();
  if (thread() < 128)
    add_steps(p, boxes, full, empty);
  else if (thread() == 128)
    fetch_steps(p, boxes, full, empty);
#endif
}

}  // namespace
}  // namespace fastconv

extern "C" int fastconv_hopper_example_launch(const float* x, float* y, int steps, int mistake) {
  using namespace fastconv;
  HopperExample p{{}, y, steps, mistake};
  const uint64_t all = static_cast<uint64_t>(steps);
  const int error = cuda::encode({x, cuda::Type::f32, 3, {32, 8, all, 1}, {128, 1024, 0}, {32, 8, 1, 1}}, &p.x);
  return error ? error : launch(hopper_example, {1, 1, 1}, 160, stages * (box_bytes + 16), nullptr, p);
}
