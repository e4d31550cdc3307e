// The operators of frozen stacks on CUDA (fastconv/frozen/cuda_run.py): convolutions with epilogues and
// the pools between them, into memory that the caller keeps.  Pictures are channels_last, given as
// any tensor of as many numbers; weights as cuda_arrange has arranged them.
//
//   cuda_row(like, operation, geometry, precision) -> the implementation's name, `row` below
//   cuda_space(like, row, operation, geometry, precision) -> bytes of `space`
//   cuda_arrange(weight, row, operation, geometry, precision) -> weights for cuda_conv
//   cuda_conv(from, weights, bias, added, mask, to, space, row, operation, relu, geometry, precision)
//   cuda_pool(from, to, average, sizes)
//   cuda_unpool(gradient, from, to, average, relu, sizes)
//   cuda_mask(gradient, from, to)
//
// `like` is a tensor on the card, of the pictures' dtype; `sizes`: n, channels, height, width.
#include <torch/csrc/stable/library.h>

#include "cuda/pools.h"
#include "cuda_call.h"

namespace fastconv::cuda {
namespace {

Operation direction_from(const std::string& name) {
  if (name == "forward") return Operation::forward;
  if (name == "grad_input") return Operation::grad_input;
  refuse("operation expects forward or grad_input, got '" + name + "'");
}

Problem problem_of(const Tensor& like, Text operation, const Sizes& geometry, int64_t precision, const Call& call) {
  return {countable_geometry_from(geometry), direction_from(operation.take()), type_of(like), precision_from(precision),
          true,                              call.capability(),         call.processors()};
}

int64_t numbers_of(const Sizes& sizes) {
  int64_t numbers = 1;
  for (const int64_t size : sizes) numbers *= size;
  return numbers;
}

// The data of a tensor that has to hold `least` numbers side by side.
void* data_of(const Tensor& tensor, const char* name, int64_t least, const Tensor& like) {
  const bool fits = tensor.numel() >= least && tensor.scalar_type() == like.scalar_type();
  if (!fits || !tensor.is_cuda() || tensor.get_device_index() != like.get_device_index())
    refuse(std::string(name) + " expects " + std::to_string(least) + " numbers of the stack's dtype on its card");
  return tensor.data_ptr();
}
void* data_of(const std::optional<Tensor>& tensor, const char* name, int64_t least, const Tensor& like) {
  return tensor ? data_of(*tensor, name, least, like) : nullptr;
}

std::string cuda_row(const Tensor& like, Text operation, const Sizes& geometry, int64_t precision) {
  const Call call(like);
  return choose(problem_of(like, operation, geometry, precision, call)).name;
}

const Implementation& row_for(const Problem& p, Text row_name) {
  const std::string name = row_name.take();
  const Implementation* row = row_named(name.c_str());
  if (!row || !row->accepts(p)) refuse("'" + name + "' is no CUDA implementation for this problem");
  return *row;
}

int64_t cuda_space(const Tensor& like, Text row, Text operation, const Sizes& geometry, int64_t precision) {
  const Call call(like);
  const Problem p = problem_of(like, operation, geometry, precision, call);
  return space_bytes(row_for(p, row), p);
}

Tensor cuda_arrange(const Tensor& weight, Text name, Text operation, const Sizes& geometry, int64_t precision) {
  const Call call(weight);
  const Problem p = problem_of(weight, operation, geometry, precision, call);
  on_card(weight, "weight", weight_sizes(p.g), weight);
  const Implementation& row = row_for(p, name);
  const Tensor plain = dense(weight, false);
  const int64_t bytes = prepared_bytes(row, p);
  if (!bytes) return torch::stable::clone(plain);
  const Tensor prepared = empty_on_card(weight, {bytes}, ScalarType::Byte);
  check(row.prepare(p, plain.data_ptr(), prepared.data_ptr(), call.stream), row.name);
  return prepared;
}

void cuda_conv(const Tensor& from, const Tensor& weights, const std::optional<Tensor>& bias,
               const std::optional<Tensor>& added, const std::optional<Tensor>& mask, Tensor to,
               std::optional<Tensor> space, Text name, Text operation, bool relu, const Sizes& geometry,
               int64_t precision) {
  const Call call(from);
  const Problem p = problem_of(from, operation, geometry, precision, call);
  const bool forward = p.operation == Operation::forward;
  const int64_t x = numbers_of(input_sizes(p.g)), y = numbers_of(output_sizes(p.g));
  const int64_t read = forward ? x : y, written = forward ? y : x;
  const Implementation& row = row_for(p, name);
  const int64_t prepared = prepared_bytes(row, p), asked = space_bytes(row, p);
  const int64_t given = weights.numel() * (weights.scalar_type() == ScalarType::Byte ? 1 : bytes_of(p.type));
  if (given != (prepared ? prepared : numbers_of(weight_sizes(p.g)) * bytes_of(p.type)) || !weights.is_cuda())
    refuse("these are not the weights that cuda_arrange gives for this problem");
  if (asked && (!space || space->scalar_type() != ScalarType::Byte || space->numel() < asked))
    refuse("space expects " + std::to_string(asked) + " bytes");
  Operands o{};
  o.a = data_of(from, "from", read, from);
  (prepared ? o.prepared : o.b) = weights.data_ptr();
  o.bias = data_of(bias, "bias", forward ? p.g.c_out : p.g.c_in, from);
  o.added = data_of(added, "added", written, from);
  o.mask = data_of(mask, "mask", written, from);
  o.out = data_of(to, "to", written, from);
  o.space = asked ? space->data_ptr() : nullptr;
  o.relu = relu;
  check(row.launch(p, o, call.stream), row.name);
}

PoolJob pool_job(const Tensor& from, const Sizes& sizes, bool average) {
  if (sizes.size() != 4) refuse("sizes expect n, channels, height, width");
  for (const int64_t size : sizes)
    if (size < 1 || size >= int64_t{1} << 30) refuse("sizes expect numbers from 1 to 2^30");
  if (sizes[2] < 2 || sizes[3] < 2) refuse("nothing is left to pool");
  PoolJob job{};
  job.type = type_of(from);
  job.n = sizes[0], job.channels = sizes[1], job.height = sizes[2], job.width = sizes[3];
  job.from = data_of(from, "from", numbers_of(sizes), from);
  job.average = average;
  return job;
}
int64_t pooled_numbers(const PoolJob& job) { return job.n * job.channels * (job.height / 2) * (job.width / 2); }

void cuda_pool(const Tensor& from, Tensor to, bool average, const Sizes& sizes) {
  const Call call(from);
  PoolJob job = pool_job(from, sizes, average);
  job.to = data_of(to, "to", pooled_numbers(job), from);
  check(pool_launch(job, call.stream), "pool");
}

void cuda_unpool(const Tensor& gradient, const Tensor& from, Tensor to, bool average, bool relu, const Sizes& sizes) {
  const Call call(from);
  PoolJob job = pool_job(from, sizes, average);
  job.gradient = data_of(gradient, "gradient", pooled_numbers(job), from);
  job.to = data_of(to, "to", numbers_of(sizes), from);
  job.relu = relu;
  check(pool_launch(job, call.stream), "unpool");
}

void cuda_mask(const Tensor& gradient, const Tensor& from, Tensor to) {
  const Call call(gradient);
  const int64_t numbers = gradient.numel();
  check(mask_launch(type_of(gradient), data_of(from, "from", numbers, gradient), gradient.data_ptr(),
                    data_of(to, "to", numbers, gradient), numbers, call.stream),
        "mask");
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(fastconv, m) {
  m.def("cuda_row(Tensor like, str operation, int[] geometry, int precision) -> str");
  m.def("cuda_space(Tensor like, str row, str operation, int[] geometry, int precision) -> int");
  m.def("cuda_arrange(Tensor weight, str row, str operation, int[] geometry, int precision) -> Tensor");
  m.def("cuda_conv(Tensor from_, Tensor weights, Tensor? bias, Tensor? added, Tensor? mask, Tensor(a!) to, "
        "Tensor(b!)? space, str row, str operation, bool relu, int[] geometry, int precision) -> ()");
  m.def("cuda_pool(Tensor from_, Tensor(a!) to, bool average, int[] sizes) -> ()");
  m.def("cuda_unpool(Tensor gradient, Tensor from_, Tensor(a!) to, bool average, bool relu, int[] sizes) -> ()");
  m.def("cuda_mask(Tensor gradient, Tensor from_, Tensor(a!) to) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(fastconv, CUDA, m) {
  m.impl("cuda_row", TORCH_BOX(&cuda_row));
  m.impl("cuda_space", TORCH_BOX(&cuda_space));
  m.impl("cuda_arrange", TORCH_BOX(&cuda_arrange));
  m.impl("cuda_conv", TORCH_BOX(&cuda_conv));
  m.impl("cuda_pool", TORCH_BOX(&cuda_pool));
  m.impl("cuda_unpool", TORCH_BOX(&cuda_unpool));
  m.impl("cuda_mask", TORCH_BOX(&cuda_mask));
}

}  // namespace fastconv::cuda
