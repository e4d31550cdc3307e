# %% [markdown]
# # From one multiplication to a painting
#
# Ten short steps. The first multiplies two numbers; the last paints a landscape in the manner of
# another picture. In between, everything is built from the step before: a sum of products, a
# window that slides, a way back for errors, a network that learns, and a network that looks.
#
# All pictures are drawn here, by this project's own code, and nothing is downloaded.
# `make tutorial` runs it all from the beginning.

# %%
import numpy as np
import torch
from IPython.display import Image, display

from fastconv import figures


def show(figure):
    """A figure of the library as a picture in the notebook."""
    display(Image(figures.png(figure, dpi=72)))


def animate(frames, milliseconds=500):
    """Frames as an animation that repeats."""
    display(Image(figures.gif(frames, milliseconds), format="gif"))


# How much to compute; everything below follows.
DIGITS, SIZE, STEPS = 1200, 192, 60
SNAPSHOTS = (1, 51, 101, 151)

# %% [markdown]
# ## 1. One multiplication, one addition
#
# A grey picture is a table of numbers. A **kernel** is a small table of weights. Lay the kernel on
# the picture, multiply each number by the weight that lies on it, and add up: one number comes out.

# %%
picture = np.array(
    [
        [0, 0, 1, 2, 2],
        [0, 1, 3, 2, 1],
        [1, 3, 2, 0, 0],
        [2, 2, 0, 1, 1],
        [1, 0, 0, 1, 2],
    ]
)
kernel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])

total = 0
for u in range(3):
    for v in range(3):
        total += kernel[u, v] * picture[u, v]  # a multiplication, an addition: that is all
print("the upper left corner gives", total)

# %% [markdown]
# This kernel has negative weights on the left and positive ones on the right. It answers with a
# large number where the picture gets brighter from left to right.
#
# ## 2. The window slides
#
# Do the same at every place, and the answers form a picture again. That is a **convolution**:
#
# $$y_{ij} = \sum_{u,v} w_{uv}\; x_{i s + u - p,\; j s + v - p}$$
#
# with **stride** $s$, the length of a step, and **padding** $p$, a frame of zeros that lets the
# window hang over the border. Here the stride is 2 and the padding 1.

# %%
from fastconv import mechanics

animate(mechanics.forward_frames(picture, kernel, stride=2, padding=1))

# %% [markdown]
# Real pictures have several **channels** (red, green, blue), and a layer has several kernels. Each
# kernel then has weights for every channel, sums over all of them, and makes one channel of the
# result:
#
# $$y_{noij} = b_o + \sum_{c,u,v} w_{ocuv}\; x_{n,c,\;i s + u - p,\;j s + v - p}$$
#
# Here $n$ counts pictures, $c$ channels that come in, $o$ channels that go out. `MyConv` is that
# equation in plain NumPy.

# %%
from fastconv.lessons import MyConv

layer = MyConv(c_in=3, c_out=8, kernel_size=3, stride=1, padding=1)
x = np.random.default_rng(0).random((2, 3, 10, 12))  # two small colour pictures
print(x.shape, "->", layer(x).shape)

# %% [markdown]
# ## 3. Kernels that people made
#
# Long before networks learned their kernels, people wrote them down: to blur, to sharpen, to find
# edges and stripes. Red weights are positive, blue ones negative. Try others:
# `fastconv filter photo.jpg --kernel sobel,gaussian:2`.

# %%
from fastconv.tools import filters
from fastconv.tools.demo import drawn_picture
from fastconv.tools.sheets import filter_sheet

scene_small = drawn_picture(160)
chosen = filters.parse("sobel_x,sobel,gaussian:2,sharpen,gabor:8:45")
show(filter_sheet(scene_small, chosen))

# %% [markdown]
# ## 4. Backward
#
# A network learns by asking of each weight: would the error $f$ grow or shrink if you were a little
# larger? The answer is the derivative $\partial f/\partial w$. Suppose that we know it for the
# outputs ($dy$, it comes from the layers above). Every output was made from a window, so it sends
# its $dy$ back through that window:
#
# $$dx_{\text{window}} \mathrel{+}= dy_{ij}\, w \qquad\qquad
# dw \mathrel{+}= dy_{ij}\, x_{\text{window}}$$
#
# The same walk as before, with the arrows turned round. Where windows overlap, the parts add up.

# %%
dy = np.array([[1, 0, -1], [2, 1, 0], [0, -1, 1]])
animate(mechanics.backward_frames(picture, kernel, dy, stride=2, padding=1), 700)

# %% [markdown]
# ## 5. Is the backward pass right?
#
# A wrong gradient does not crash. The network just learns worse, and nobody knows why. So: move
# every single number by a little to both sides, and see what that does to $f$:
#
# $$\frac{\partial f}{\partial x_i} \approx
# \frac{f(x + \varepsilon e_i) - f(x - \varepsilon e_i)}{2 \varepsilon}$$
#
# Far too slow for training, and independent of everything we derived.

# %%
from fastconv.lessons import (
    AvgPool,
    Linear,
    MaxPool,
    ReLU,
    SoftmaxCrossEntropy,
    check_gradient,
    check_layer,
)

small = np.random.default_rng(1).normal(size=(2, 3, 6, 5))
layers = [MyConv(3, 4, stride=2, padding=1), MaxPool(2), AvgPool(3, stride=2, padding=1), ReLU()]
for each in layers:
    print(check_layer(each, small), end="\n\n")
print(check_layer(Linear(5, 3), np.random.default_rng(2).normal(size=(4, 5))), end="\n\n")

scores, answers = torch.randn(4, 3, dtype=torch.float64), np.array([0, 2, 1, 1])
loss = SoftmaxCrossEntropy()  # of section 6
loss.forward(scores.numpy(), answers)
claimed = torch.from_numpy(loss.backward())
print("softmax and cross-entropy:")
print(check_gradient(lambda x: loss.forward(x.numpy(), answers), scores, claimed))

# %% [markdown]
# Ten digits or more agree, which is all that differences can tell. And a mistake? Here is a
# layer that gets one of its 108 weights' gradients wrong by a thousandth.


# %%
class Careless(MyConv):
    def backward(self, dy):
        dx = super().backward(dy)
        self.gradients["weight"][1, 2, 0, 1] *= 1.001
        return dx


from fastconv.lessons.pictures import gradient_figure

report = check_layer(Careless(3, 4, padding=1), small)
print(report)
show(gradient_figure(report))

# %% [markdown]
# ## 6. A network learns
#
# Convolutions, a **ReLU** behind each (negative numbers become 0; two convolutions in a row with
# nothing between would be no more than one), **pooling** that keeps the largest of each 2x2
# numbers, and at the end one score per digit. **Softmax** turns scores into probabilities; the
# **cross-entropy** $-\log p$ of the right digit is the error $f$. Its gradient goes back through
# all layers, and every weight takes a small step downhill.

# %%
from fastconv.lessons import digit_network, drawn_digits, train
from fastconv.lessons.pictures import digits_figure, kernels_figure, learning_figure

digits, labels = drawn_digits(DIGITS, seed=1)
unseen = drawn_digits(500, seed=2)
network = digit_network(seed=2)
print(network.summary(digits[:1]))
history = train(network, digits, labels, unseen)
print(f"\n{len(history.losses)} steps in {history.seconds:.1f} s")
show(learning_figure(history))

# %% [markdown]
# What it takes forty unseen digits for, in red where it is wrong; and what its eight learned
# kernels see in one of them. Nobody wrote those down.

# %%
show(digits_figure(*unseen, network))
show(kernels_figure(network, unseen[0][1]))

# %% [markdown]
# ## 7. The same, fast
#
# `MyConv` is for reading. The same equation can be computed a hundred times as fast, which is some
# thousands of times as fast as in section 1. First idea, **im2col**: write every window as a
# column. The whole convolution is then one matrix product, and processors are very good at those.

# %%
show(mechanics.im2col_figure(picture, kernel))

# %% [markdown]
# Second idea, **Winograd**: from a tile of the picture and the kernel, form sums that are
# multiplied cell by cell and added up again, with fewer multiplications than the plain way. Follow
# the numbers row by row; both results at the bottom are the same.

# %%
wider = np.pad(picture, ((0, 1), (0, 1)), mode="edge")
show(mechanics.winograd_figure(wider, kernel, m=2))

# %% [markdown]
# All backends of `fastconv.conv2d` agree, forward and backward, and torch can use them like its own
# convolution. The page `docs/speed.md` measures what each idea is worth.

# %%
import time

from fastconv import backends, conv2d

a, w = torch.randn(1, 16, 48, 48), torch.randn(16, 16, 3, 3) / 12
expected = torch.nn.functional.conv2d(a, w, padding=1)
for name, info in backends().items():
    if not info.available:
        print(f"{name:8}is not here: {info.reason}")
        continue
    seconds = []
    for _ in range(4):  # the first time it compiles or loads
        started = time.perf_counter()
        y = conv2d(a, w, padding=1, backend=name)
        seconds.append(time.perf_counter() - started)
    print(f"{name:8}{1000 * min(seconds[1:]):9.2f} ms   off by {(y - expected).abs().max():.0e}")

# %% [markdown]
# ## 8. What a deep network sees
#
# Now a deep one: thirteen convolutions in five blocks, in the layout of VGG19 at half its width. It
# is built in: its weights come with the project.

# %%
from nst.networks.survey import table

print("\n".join(table("builtin", (SIZE, SIZE), "auto")))

# %% [markdown]
# One number of a deep layer has seen much of the picture: its **receptive field** grows from layer
# to layer, with every kernel and faster behind every pooling.

# %%
show(mechanics.receptive_figure(drawn_picture(256)))

# %% [markdown]
# Two pictures, a landscape and a painting, and what the same channels of the network make of them.
# Early layers answer to colours and edges, and one still sees the picture in them. Later ones are
# coarse and answer to whole structures.

# %%
from nst.samples import scene, swirls
from nst.visualize.features import feature_reader, reconstruct
from nst.visualize.figures import (
    features_figure,
    grams_figure,
    reconstructions_figure,
    steps_figure,
)

content, style = scene(2 * SIZE), swirls(2 * SIZE)
reader = feature_reader(network="builtin", size=SIZE)
show(features_figure(reader, {"content": content, "style": style}))

# %% [markdown]
# ## 9. What a layer remembers
#
# Which channels answer *together* in a picture, wherever that is? Multiply every two channels place
# by place and take the mean: the **Gram matrix** $G_{ij} = \frac{1}{m}\sum_k f_{ik} f_{jk}$. It has
# forgotten where things are. What is left is how the picture is painted.

# %%
show(grams_figure(reader, {"content": content, "style": style}))

# %% [markdown]
# The proof: start from noise and change the *pixels* (the network stays as it is) until one layer
# cannot tell noise and picture apart. In the first row the layer's features must be the same place
# by place, which brings the picture back, less exactly from deeper layers. In the second row only
# their statistics must be the same: the channels' means and covariances, which tell what the Gram
# matrix tells. That makes a texture: the same colours and strokes, in other places, and the deeper
# the layer, the larger the pieces. The deepest here has hardly more places in so small a picture
# (24 x 18) than channels (256): there, the statistics tell much of the arrangement too.

# %%
options = {"network": "builtin", "iterations": (STEPS,)}
names = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
rows = [
    [reconstruct(content, [n], "content", size=SIZE * 2 // 3, **options) for n in names],
    [reconstruct(style, [n], "style", size=SIZE, **options) for n in names],
]
show(reconstructions_figure(rows))

# %% [markdown]
# ## 10. A finished style transfer
#
# Both at once: keep the *features* of the landscape in one layer and the *statistics* of the
# painting in all style layers. The gradient goes back through every layer of section 8, down to
# the pixels, by the backward pass of section 4.
#
# $$f = \alpha\, f_{\text{content}} + \beta\, (f_{\text{style}} + f_{\text{colour}}) +
# \gamma\, f_{\text{smooth}}$$
#
# $f_{\text{colour}}$ compares the colours as such, which features leave loose, and
# $f_{\text{smooth}}$ (total variation) is the mean step from one pixel to the next. Here
# $\alpha = 0.02$, $\beta = 1$ and $\gamma = 0.005$. The steps are small, so that one can watch.

# %%
import nst

kept = {}


def keep(step):
    """Look at the picture after some of the iterations."""
    if step.iteration in SNAPSHOTS:
        kept[f"iteration {step.iteration}"] = step.picture


result = nst.stylize(
    content,
    style,
    size=SIZE,
    network="builtin",
    optimizer="adam",
    learning_rate=0.005,
    ema=0,  # the steps themselves, not their running average
    scales=1,
    iterations=SNAPSHOTS[-1],
    callback=keep,
)
for row in result.losses[:: max(1, len(result.losses) // 6)]:
    names = ("total", "content", "style", "color", "tv")
    words = ", ".join(f"{name} {row[name]:.4f}" for name in names)
    print(f"iteration {row['iteration']:4}: {words}")
show(steps_figure(kept))

# %% [markdown]
# The losses over the iterations, on a logarithmic axis. The total falls to less than a tenth, most
# of it in the first fifty. The content's loss began at nothing, since we started from the content
# itself, and rose: that is the price of the style. In the end both fall together.

# %%
import tempfile
from pathlib import Path

from nst.outputs.loss_plots import plot_losses

with tempfile.TemporaryDirectory() as folder:
    later = result.losses[1:] or result.losses  # a logarithmic axis cannot show the first zero
    path = plot_losses(later, Path(folder) / "losses.png")
    display(Image(path.read_bytes(), width=640))

# %%
from nst.pictures.sizing import load_picture

pictures = {"content": content, "style": style}
sheet = {name: load_picture(each, SIZE).rgb for name, each in pictures.items()}
show(steps_figure({**sheet, "content in that style": result.rgb}))

# %% [markdown]
# With your own pictures, larger, and from coarse to fine:
#
#     nst stylize photo.jpg painting.jpg -o out.png --size 512
#
# What to try here: other `SNAPSHOTS`, `content_weight=0.2`, `init="random"`,
# `preserve_color="luminance"`, a photograph of yours for `content`, or `backend="numba"`. And in
# section 6: leave out the ReLUs. Little is lost, for keeping the largest bends as well; with
# `AvgPool` for `MaxPool` nothing bends any more, and all layers together are no more than one.
