"""The style and content losses that can be named; a row of these tables adds one."""

from __future__ import annotations

from ..tables import Row

STYLE_LOSSES = {
    "wasserstein": Row(
        "2-Wasserstein distance between Gaussians of the features", "nst.losses.style:Wasserstein"
    ),
    "covariance": Row("means and covariances of the features", "nst.losses.style:Covariance"),
    "gram": Row(
        "mean square of Gram matrices over c h w, as in most tutorials", "nst.losses.style:Gram"
    ),
    "gatys": Row(
        "the paper's 1/(4 N^2 M^2) sum of squares of Gram matrices", "nst.losses.style:PaperGram"
    ),
}

CONTENT_LOSSES = {
    "mse": Row("mean of squares", "nst.losses.content:MeanSquare"),
    "gatys": Row("the paper's half sum of squares", "nst.losses.content:HalfSum"),
}
