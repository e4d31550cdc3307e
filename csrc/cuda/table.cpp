#include "table.h"

#include "operations.h"

namespace fastconv::cuda {
namespace {

const Implementation table[] = {
    {"simt_direct", direct_accepts, nullptr, nullptr, nullptr, direct_launch},
    {"simt", simt_accepts, simt_prepared_bytes, simt_prepare, simt_space_bytes, simt_launch},
};

}  // namespace

const Implementation& choose(const Problem& problem) {
  const Implementation* row = table;
  while (!row->accepts(problem)) ++row;
  return *row;
}

}  // namespace fastconv::cuda
