#include "blocking.h"

namespace fastconv {
namespace {

int64_t floor_divide(int64_t a, int64_t b) { return a >= 0 ? a / b : -ceil_div(-a, b); }

}  // namespace

std::vector<AxisRun> axis_runs(const std::vector<AxisTap>& taps, int64_t step, int64_t destinations,
                               int64_t size) {
  std::vector<int64_t> cuts;
  cuts.reserve(2 + 2 * taps.size());  // allocations were 40 % of the smallest convolution
  cuts.push_back(0);
  cuts.push_back(destinations);
  for (const AxisTap& tap : taps) {
    const Inside in(tap.offset, step, size, destinations);
    cuts.push_back(in.begin);
    cuts.push_back(in.end);
  }
  std::sort(cuts.begin(), cuts.end());
  cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
  std::vector<AxisRun> runs;
  runs.reserve(cuts.size());
  for (size_t cut = 0; cut + 1 < cuts.size(); ++cut) {
    AxisRun run{cuts[cut], cuts[cut + 1], taps.size(), 0};
    for (size_t t = 0; t < taps.size(); ++t) {
      const int64_t at = run.begin * step + taps[t].offset;
      if (at < 0 || at >= size)
        continue;
      run.first = std::min(run.first, t);
      run.last = t + 1;
    }
    if (run.last == 0)
      run.first = 0;
    runs.push_back(run);
  }
  return runs;
}

Cuts::Cuts(const std::vector<AxisRun>& runs, int64_t most, int64_t grain) {
  constexpr int64_t shortest = 8;
  const int64_t end = runs.back().end;
  std::vector<int64_t> borders;
  borders.reserve(runs.size() + 2);
  borders.push_back(0);
  for (const AxisRun& run : runs)
    if (run.end - borders.back() >= shortest && end - run.end >= shortest)
      borders.push_back(run.end);
  borders.push_back(end);
  starts_.reserve(borders.size() + static_cast<size_t>(end / std::max<int64_t>(most, 1)));
  starts_.push_back(0);
  for (size_t b = 0; b + 1 < borders.size(); ++b) {
    const Split parts(borders[b + 1] - borders[b], most, grain);
    for (int64_t index = 0; index < parts.count; ++index) {
      starts_.push_back(borders[b] + parts.begin(index) + parts.length(index));
      longest = std::max(longest, parts.length(index));
    }
  }
}

Bands::Bands(const std::vector<AxisTap>& axis, int64_t step, int64_t destinations,
             int64_t most_span)
    : step(step) {
  struct Band {
    int64_t rest, low, high;  // low, high: in steps
  };
  std::vector<Band> bands;
  bands.reserve(axis.size());
  taps.reserve(axis.size());
  origin.reserve(axis.size());
  for (const AxisTap& tap : axis) {
    const int64_t quotient = floor_divide(tap.offset, step), rest = tap.offset - quotient * step;
    auto band = std::find_if(bands.begin(), bands.end(), [&](const Band& b) { return b.rest == rest; });
    if (band == bands.end())
      band = bands.insert(band, {rest, quotient, quotient});
    band->low = std::min(band->low, quotient);
    band->high = std::max(band->high, quotient);
    taps.push_back({band - bands.begin(), quotient});
  }
  const auto number = static_cast<int64_t>(bands.size());
  for (const Band& band : bands) span = std::max(span, band.high - band.low);
  const auto count = static_cast<int64_t>(axis.size());
  if (number * (destinations + span) <= count * destinations && span <= most_span) {
    for (Tap& tap : taps) tap.shift -= bands[tap.band].low;
    for (const Band& band : bands) origin.push_back(band.rest + band.low * step);
    return;
  }
  span = 0;
  for (size_t t = 0; t < axis.size(); ++t) {
    taps[t] = {static_cast<int64_t>(t), 0};
    origin.push_back(axis[t].offset);
  }
}

template <class T>
void copy_pixels(const BlockCopy& copy, const T* from, const Strides& strides, int64_t src_h,
                 int64_t src_w, int64_t i0, int64_t j0, int64_t rows, int64_t columns,
                 int64_t channels, T* to, int64_t pixel) {
  const Bands &v = copy.vertical, &h = copy.horizontal;
  const int64_t length = columns + h.span;
  for (int64_t band = 0; band < v.count() * h.count(); ++band) {
    const int64_t y0 = v.origin[band / h.count()] + v.step * i0;
    const int64_t x0 = h.origin[band % h.count()] + h.step * j0;
    T* line = to + band * copy.picture * pixel;
    for (int64_t e = 0; e < rows + v.span; ++e, line += copy.pitch * pixel) {
      const int64_t y = y0 + e * v.step;
      const Inside in(x0, h.step, y >= 0 && y < src_h ? src_w : 0, length);
      std::fill(line, line + in.begin * pixel, T{0});
      if (in.end > in.begin)
        gemm<T>().copy_matrix(line + in.begin * pixel, pixel,
                              from + y * strides.row + (x0 + in.begin * h.step) * strides.column,
                              h.step * strides.column, strides.channel, in.end - in.begin,
                              channels);
      std::fill(line + in.end * pixel, line + length * pixel, T{0});
    }
  }
}

template <class T>
void copy_planes(const BlockCopy& copy, const T* from, const Strides& strides, int64_t src_h,
                 int64_t src_w, int64_t i0, int64_t j0, int64_t rows, int64_t columns,
                 int64_t channels, T* to, int64_t plane, bool outside_too) {
  const Bands &v = copy.vertical, &h = copy.horizontal;
  LinesArguments<T> l{};
  l.to_line = copy.pitch, l.lines = rows + v.span, l.length = columns + h.span;
  l.from_line = v.step * strides.row, l.from_step = h.step * strides.column;
  for (int64_t band = 0; band < v.count() * h.count(); ++band) {
    const int64_t y0 = v.origin[band / h.count()] + v.step * i0;
    const int64_t x0 = h.origin[band % h.count()] + h.step * j0;
    const Inside lines(y0, v.step, src_h, l.lines), elements(x0, h.step, src_w, l.length);
    const bool any = lines.end > lines.begin && elements.end > elements.begin;
    if (!any && !outside_too)
      continue;
    l.first = lines.begin, l.last = any ? lines.end : lines.begin;
    l.begin = elements.begin, l.end = elements.end;
    const int64_t at =
        any ? (y0 + l.first * v.step) * strides.row + (x0 + l.begin * h.step) * strides.column : 0;
    for (int64_t c = 0; c < channels; ++c) {
      l.to = to + c * plane + band * copy.picture;
      l.from = from + c * strides.channel + at;
      gemm<T>().copy_lines(l);
    }
  }
}

template void copy_planes(const BlockCopy&, const float*, const Strides&, int64_t, int64_t, int64_t,
                          int64_t, int64_t, int64_t, int64_t, float*, int64_t, bool);
template void copy_planes(const BlockCopy&, const double*, const Strides&, int64_t, int64_t,
                          int64_t, int64_t, int64_t, int64_t, int64_t, double*, int64_t, bool);
template void copy_pixels(const BlockCopy&, const float*, const Strides&, int64_t, int64_t, int64_t,
                          int64_t, int64_t, int64_t, int64_t, float*, int64_t);
template void copy_pixels(const BlockCopy&, const double*, const Strides&, int64_t, int64_t,
                          int64_t, int64_t, int64_t, int64_t, int64_t, double*, int64_t);

}  // namespace fastconv
