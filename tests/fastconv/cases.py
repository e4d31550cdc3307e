"""The one table of hand-written cases, awkward sizes first.

The first column says what a row is there for; it is the test's name as well.  Rows are small,
because the naive backend runs them too; sizes at which vector kernels reach their full speed
are in test_gradients.py.
"""

from __future__ import annotations

from fastconv.tools.checking import Case

CASES = (
    # --- the smallest pictures
    Case("one pixel and one tap", (1, 1, 1, 1), (1, 1, 1, 1)),
    Case("one pixel under a kernel that is mostly padding", (1, 1, 1, 1), (1, 1, 3, 3), padding=1),
    Case("one pixel seen by the last tap only", (1, 2, 1, 1), (3, 2, 2, 2), padding=1, stride=3),
    Case("one row", (1, 2, 1, 19), (3, 2, 1, 3), padding=(0, 1)),
    Case("one column", (1, 2, 19, 1), (3, 2, 3, 1), padding=(1, 0)),
    Case("kernel as large as the picture", (2, 3, 4, 5), (2, 3, 4, 5)),
    Case("kernel as large as the padded picture", (1, 2, 3, 3), (2, 2, 5, 5), padding=1),
    # --- one off the tiles: 4x4 and 6x6 of Winograd, 8 and 16 lanes of a vector
    Case("3x3 on less than one 4x4 tile", (1, 2, 3, 3), (2, 2, 3, 3), padding=1),
    Case("3x3 on exactly one 4x4 tile", (1, 2, 4, 4), (2, 2, 3, 3), padding=1),
    Case("3x3 one past a 4x4 tile", (1, 2, 5, 5), (2, 2, 3, 3), padding=1),
    Case("3x3 one short of a 6x6 tile", (1, 2, 7, 7), (2, 2, 3, 3)),
    Case("3x3 on exactly one 6x6 tile", (1, 2, 6, 6), (2, 2, 3, 3), padding=1),
    Case("3x3 one past a 6x6 tile", (1, 2, 7, 13), (2, 2, 3, 3), padding=1),
    Case("15 columns, one short of a vector", (1, 2, 3, 15), (2, 2, 3, 3), padding=1),
    Case("16 columns, one vector", (1, 2, 3, 16), (2, 2, 3, 3), padding=1),
    Case("17 columns, one past a vector", (1, 2, 3, 17), (2, 2, 3, 3), padding=1),
    Case("33 columns, one past two vectors", (1, 1, 3, 33), (1, 1, 3, 3), padding=1),
    Case("15 channels to 17", (1, 15, 4, 5), (17, 15, 3, 3), padding=1),
    Case("16 channels to 16", (1, 16, 4, 5), (16, 16, 3, 3), padding=1),
    Case("17 channels to 15", (1, 17, 4, 5), (15, 17, 3, 3), padding=1),
    Case("33 channels to 7", (1, 33, 3, 3), (7, 33, 3, 3), padding=1),
    Case("picture's 3 channels to 32", (1, 3, 6, 7), (32, 3, 3, 3), padding=1),
    Case("3x3 without padding, wide and flat", (1, 2, 3, 29), (4, 2, 3, 3)),
    # --- kernels
    Case("even kernel", (2, 3, 6, 7), (4, 3, 2, 2)),
    Case("even kernel, padded", (1, 3, 6, 7), (4, 3, 4, 4), padding=2),
    Case("one by three", (1, 3, 6, 7), (4, 3, 1, 3), padding=(0, 1)),
    Case("three by one", (1, 3, 6, 7), (4, 3, 3, 1), padding=(1, 0)),
    Case("two by five", (1, 3, 6, 8), (4, 3, 2, 5)),
    Case("5x5", (1, 3, 9, 8), (4, 3, 5, 5), padding=2),
    Case("11x11 with stride 4, AlexNet's first", (1, 3, 23, 27), (4, 3, 11, 11), 4, padding=2),
    Case("7x7 with stride 2, ResNet's first", (1, 3, 15, 17), (4, 3, 7, 7), 2, padding=3),
    Case("1x1", (2, 5, 4, 7), (6, 5, 1, 1)),
    Case("1x1 over 64 channels", (1, 64, 3, 3), (8, 64, 1, 1)),
    Case("1x1 with padding: bias alone at the edge", (1, 3, 4, 5), (4, 3, 1, 1), padding=1),
    # --- padding
    Case("padding wider than the kernel", (1, 2, 3, 4), (3, 2, 2, 2), padding=4),
    Case("padding wider than the picture", (1, 2, 2, 2), (3, 2, 3, 3), padding=5),
    Case("wide padding and stride: whole rows see no picture", (1, 2, 3, 3), (2, 2, 3, 3), 3, 6),
    Case("padding of rows only", (1, 2, 5, 6), (3, 2, 3, 3), padding=(2, 0)),
    Case("padding of columns only", (1, 2, 5, 6), (3, 2, 3, 3), padding=(0, 2)),
    Case("padding='valid'", (1, 2, 5, 6), (3, 2, 3, 3), padding="valid"),
    Case("padding='valid' with stride", (1, 2, 7, 8), (3, 2, 3, 3), 2, "valid"),
    Case("padding='same'", (1, 2, 5, 6), (3, 2, 3, 3), padding="same"),
    Case("'same' with an even kernel: more below and right", (2, 2, 5, 6), (3, 2, 2, 4), 1, "same"),
    Case("'same', dilated", (1, 2, 5, 6), (3, 2, 3, 3), padding="same", dilation=2),
    Case("'same', even and dilated", (1, 2, 5, 6), (3, 2, 2, 4), 1, "same", (3, 1)),
    Case("'same' with 1x1", (1, 2, 5, 6), (3, 2, 1, 1), padding="same"),
    # --- stride
    Case("3x3 stride 2", (2, 3, 9, 8), (4, 3, 3, 3), 2, 1),
    Case("1x1 stride 2: pixels that nothing reads", (1, 3, 7, 8), (4, 3, 1, 1), 2),
    Case("stride larger than the kernel", (1, 3, 11, 10), (2, 3, 2, 2), 5),
    Case("stride larger than the picture", (1, 3, 4, 5), (2, 3, 3, 3), 9),
    Case("strides that differ", (1, 3, 9, 11), (2, 3, 3, 3), (3, 2), 1),
    Case("last rows and columns unused", (1, 2, 10, 12), (2, 2, 3, 3), (4, 5)),
    Case("stride as a list of one", (1, 2, 7, 7), (2, 2, 3, 3), [2], [1], [1]),
    # --- dilation
    Case("dilation 2", (1, 3, 9, 8), (4, 3, 3, 3), 1, 2, 2),
    Case("dilation with stride", (1, 3, 11, 12), (4, 3, 3, 3), 2, 2, 2),
    Case("dilations that differ", (1, 3, 9, 9), (4, 3, 3, 2), 1, 0, (1, 5)),
    Case("dilation that reaches only with padding", (1, 2, 3, 3), (2, 2, 3, 3), 1, 4, 5),
    Case("taps so far apart that only the middle sees", (1, 2, 3, 4), (2, 2, 3, 3), 1, 9, 9),
    Case("dilation of a 1x1 kernel means nothing", (2, 4, 6, 2), (4, 4, 1, 1), (4, 3), 1, 3),
    # --- groups
    Case("two groups", (2, 4, 5, 6), (6, 2, 3, 3), padding=1, groups=2),
    Case("three groups of unequal in and out", (1, 9, 5, 5), (6, 3, 3, 2), groups=3),
    Case("depthwise", (2, 5, 6, 7), (5, 1, 3, 3), padding=1, groups=5),
    Case("depthwise, two filters a channel", (1, 4, 6, 7), (8, 1, 3, 3), padding=1, groups=4),
    Case("depthwise, stride 2", (1, 17, 7, 9), (17, 1, 3, 3), 2, 1, groups=17),
    Case("depthwise 5x5, dilated", (1, 3, 9, 9), (3, 1, 5, 5), 1, 4, 2, groups=3),
    Case("depthwise 1x1: a factor per channel", (1, 6, 4, 5), (6, 1, 1, 1), groups=6),
    Case("groups of 17 channels", (1, 34, 3, 4), (6, 17, 3, 3), padding=1, groups=2),
    # --- batch, bias
    Case("unbatched", (3, 6, 7), (4, 3, 3, 3), padding=1),
    Case("unbatched, depthwise, no bias", (3, 6, 7), (3, 1, 3, 3), 2, groups=3, bias=False),
    Case("no bias", (2, 3, 5, 6), (4, 3, 3, 3), padding=1, bias=False),
    Case("empty batch", (0, 3, 5, 6), (4, 3, 3, 3), padding=1),
    Case("empty batch, strided and grouped", (0, 4, 5, 6), (4, 2, 3, 3), 2, groups=2),
    Case("batch of seven", (7, 2, 3, 4), (2, 2, 3, 3), padding=1),
    Case("large batch of single pixels", (65, 3, 1, 1), (2, 3, 1, 1)),
    # --- memory; what lies between the numbers of a slice is NaN
    Case("channels_last", (2, 3, 5, 6), (4, 3, 3, 3), 1, 1, layout="channels_last"),
    Case("channels_last 1x1", (2, 5, 4, 3), (4, 5, 1, 1), layout="channels_last"),
    Case("channels_last depthwise", (2, 6, 5, 4), (6, 1, 3, 3), 1, 1, 1, 6, layout="channels_last"),
    Case("every second column of a picture", (2, 3, 5, 6), (4, 3, 3, 3), 1, 1, layout="sliced"),
    Case("sliced, 1x1", (1, 3, 5, 6), (4, 3, 1, 1), layout="sliced"),
    Case("rows and columns exchanged", (2, 3, 5, 6), (4, 3, 3, 3), 2, 1, layout="transposed"),
    Case("unbatched and sliced", (3, 5, 6), (4, 3, 3, 3), 1, 1, layout="sliced"),
    Case("all at once", (2, 6, 9, 8), (4, 3, 2, 3), (2, 1), (3, 2), (2, 3), 2, False, "transposed"),
)
