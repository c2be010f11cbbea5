"""The five articles, claim by claim: what is printed, what it gives when it is run, and where the book has it right.

Article keys are those of README.md. The failures of PyTorch and Keras are held by oracle tests; those of TensorFlow's
toolkit are read from its published modules, since nothing here depends on TensorFlow.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from articles import formulas as printed
from nnzip.book.notebook import source_of

VERDICTS = ("wrong", "right", "unclear")


class Run(NamedTuple):
    """A formula on an example: what the article says (None: no value), what it gives or raises.

    fails : the calls of a framework that fail, in order, each with its exception
    """

    formula: Callable | None = None
    example: tuple = ()
    says: Any = None
    gives: Any = None
    fails: tuple = ()


def anchor(heading):
    """Return the place of a heading in a notebook, as Jupyter names it."""
    return f"#{heading.replace(' ', '-')}"


class Better(NamedTuple):
    """Where the book does it: a function, and a chapter with the heading of its section."""

    function: str
    chapter: str
    section: str

    @property
    def link(self):
        """A Markdown link to the section, as Jupyter names its places."""
        place = f"{self.chapter}.ipynb{anchor(self.section)}"
        return f"[{self.chapter.partition('_')[0]}, {self.section}]({place})"


@dataclass(frozen=True, repr=False)
class Finding:
    """One claim of an article.

    heading : its place and a few words, "A3 4.2: the bit width"; also the heading in chapter 13
    claim, truth : what is printed, and what is so: a plain sentence each, in our words
    verdict : "wrong", "right", or "unclear": then truth says what each reading would mean
    also : other sections that it answers, "A0 9.1, A3 9.1"

    Examples
    --------
    >>> width = next(finding for finding in FINDINGS if finding.heading == "A3 4.2: the bit width")
    >>> width.verdict, width.run.says, width.what_happens()
    ('wrong', 2, 0)
    """

    heading: str
    claim: str
    truth: str
    run: Run
    better: Better
    verdict: str
    also: str = ""

    @property
    def where(self):
        """The article and its sections, "A3 4.2"."""
        return self.heading.partition(":")[0]

    @property
    def places(self):
        """All sections that it is about, ["A3 4.1", "A3 4.2"]."""
        article = self.where[:2]
        return [f"{article} {number}" for number in self.where[3:].split(", ")] + self.also.split(
            ", "
        ) * bool(self.also)

    @property
    def anchor(self):
        """The place of its section in chapter 13, as Jupyter names it."""
        return anchor(self.heading)

    @property
    def row(self):
        """Its cells in a Markdown table: a link to its section, verdict, claim, truth, a link to where it is done."""
        cells = (
            f"[{self.heading}]({self.anchor})",
            self.verdict,
            self.claim,
            self.truth,
            self.better.link,
        )
        return [cell.replace("|", r"\|") for cell in cells]

    def what_happens(self):
        """Run the formula on its example; return the result, or the type of the exception that it raises."""
        try:
            return self.run.formula(*self.run.example)
        except Exception as error:  # whatever it is, it is the finding
            return type(error)

    def __repr__(self):
        return f"{self.heading} ({self.verdict})"

    def _repr_markdown_(self):
        parts = [f"**Printed**: {self.claim}."]
        if self.run.formula:
            example = ", ".join(map(_brief, self.run.example))
            says = "" if self.run.says is None else f" The article says {_brief(self.run.says)}."
            parts += [f"```python\n{source_of(self.run.formula)}\n```"]
            parts += [
                f"`{self.run.formula.__name__}({example})` gives {_brief(self.what_happens())}.{says}"
            ]
        if self.run.fails:
            parts += ["  \n".join(f"`{call}`: {error.__name__}." for call, error in self.run.fails)]
        verdict = (
            "**Wrong**; in truth" if self.verdict == "wrong" else f"**{self.verdict.capitalize()}**"
        )
        parts += [
            f"{verdict}: {self.truth}.  \n**In this book**: `{self.better.function}`; chapter {self.better.link}"
        ]
        return "\n\n".join(parts)


def _brief(value):
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_brief(item)}' for key, item in value.items())}}}"
    if np.size(value) > 16:
        return f"(numbers of shape {np.shape(value)})"
    if np.ndim(value):
        return f"[{', '.join(map(_brief, value))}]"
    return f"{value + 0:.4g}"  # and no -0


wrong, right, unclear = (partial(Finding, verdict=verdict) for verdict in VERDICTS)

EXAMPLE = ((1, 0, -1), (0, 1, 0), (-1, 0, 1))  # W of A3 4.3 and 5.2
NETWORKS = "articles.networks"
TRAPS_02 = ("02_quantization", "10. Traps, run")
TRAPS_05 = ("05_pruning", "8. Traps, run")
PRUNED_W = ((0, 0, -1), (0, 1, 0), (-1, 0, 0))  # what A3 4.3 and 5.4 print for W'
QUANTIZED_W = ((-1, 0, 1), (0, 1, 0), (-1, 0, 1))  # and for Q(W)
THIRDS = {
    "conv1.weight": np.linspace(-1 / 3, 1 / 3, 5)
}  # before training PyTorch draws from +-1 / sqrt(9 inputs)
DENSE_FAILS = (("fit: images (28, 28) for an input of (784,)", ValueError),)
TORCH_FAILS = (
    ("torchvision.datasets.MNIST, torchvision not imported", NameError),
    ("64 * 6 * 6 inputs behind 64 maps of 5 x 5", RuntimeError),
    ("torch.min(state_dict().values())", TypeError),
    ("value.item() of an array of 288", RuntimeError),
)
DISTILL_FAILS = (
    ("state_dict().parameters()", AttributeError),
    ("20 x 10 loaded into 10 x 10", RuntimeError),
)

FINDINGS = [
    unclear(
        "A0 2.2, 3.2.2: the Hadamard transform",
        "as a kind of compression, the parameters are turned into a Hadamard matrix, which makes products cheap",
        "a rotated W, W H, has as many numbers as W and only rounds better; a layer replaced by diagonals and Hadamard "
        "matrices is smaller and faster, but it is another layer (Fastfood)",
        Run(printed.a0_3_2_2_hadamard, (np.eye(16),), None, (16, 256, 48)),
        Better("nnzip.hadamard.hadamard_transform", "04_hadamard", "9. Does it compress?"),
    ),
    unclear(
        "A0 3.1: what distillation learns",
        "the target model learns the parameters of the source model",
        "usually a student learns the teacher's outputs, as A0 3.2.2 says, and other parameters can give the same "
        "outputs; a student that inherits weights has been published too (Wu et al. 2024)",
        Run(
            printed.a0_3_1_reordered,
            (np.eye(2), np.eye(2), np.array([[1, 2]])),
            None,
            (((1,), (2,)),) * 2,
        ),
        Better("nnzip.distillation.distillation_loss", "06_distillation", "3. The loss"),
    ),
    right(
        "A0 3.2.1, 3.2.2: the steps",
        "quantize: choose a strategy, then range and step, then round; prune: rank, remove, retrain; distill: imitate "
        "the outputs, tune",
        "these are the steps of chapters 02, 05 and 06, in this order",
        Run(),
        Better("nnzip.compression.pruning.gradual_pruning", "05_pruning", "6. Retraining"),
    ),
    right(
        "A0 3.3: gains and costs",
        "models get smaller and cheaper, at some risk for their accuracy and perhaps at the cost of more training",
        "this is fair, and chapters 02 to 06 and 08 measure how much of each",
        Run(),
        Better("nnzip.book.study.error_grid", "02_quantization", "1. The answer first"),
        also="A0 9.2, A1 3.3, A2 6 Q1, A2 6 Q2, A3 3.3, A4 6",
    ),
    unclear(
        "A0 4.1, 4.2: the formula",
        "theta becomes round(theta / q) r, in 4.2 counted from a, where r is called a range and lies between 0 and q",
        "with r = q, as in 4.3, this is the uniform grid, without a bit width; with r < q, which 4.2 allows, everything "
        "shrinks, 0.5 to 0.25 by 4.1",
        Run(printed.a0_4_1, (0.5, 0.1, 0.05), None, 0.25),
        Better("nnzip.quantization.quantize", "02_quantization", "2. The grid"),
    ),
    wrong(
        "A0 4.3: the worked example",
        "0.5 over [-1, 1] in steps of 0.1 becomes 0, and r is first the interval [0, 0.1], then the number 0.1",
        "-1 + 15 * 0.1 is 0.5, so there is no error at all",
        Run(printed.a0_4_2, (0.5, -1, 0.1, 0.1), 0, 0.5),
        Better("nnzip.quantization.fake_quantize", *TRAPS_02),
    ),
    wrong(
        "A0 5.2: the images",
        "images of 28 x 28 go into a network with 784 inputs",
        "they must be flattened first, or Keras 3 stops with an error",
        Run(
            printed.a0_5_2_input,
            (np.ones((32, 28, 28)), np.ones((784, 64))),
            None,
            ValueError,
            DENSE_FAILS,
        ),
        Better(f"{NETWORKS}.mlp_64", "01_networks", "6. Train one"),
    ),
    wrong(
        "A0 5.2: quantizing it",
        "functions of tensorflow_model_optimization give an 8-bit model and a pruned one, and the accuracy of each is "
        "printed",
        "the package exists, but nothing stands in it where the program looks (quantize_model is in quantization.keras); "
        "and the 8-bit model is not compiled again, so it cannot be evaluated",
        Run(fails=(("from tensorflow_model_optimization import quantitative", ImportError),)),
        Better(
            "nnzip.compression.qat.train_quantized", "09_qat", "2. The straight-through estimator"
        ),
    ),
    unclear(
        "A0 5.2: the schedule",
        "a schedule rises from 10 % at step 1,000 to 30 % at step 10,000, and the training has five epochs",
        "five epochs of 1,875 steps end at step 9,375, where the line is at 28.6 %; whether 30 % is to be reached is "
        "not said",
        Run(printed.a0_5_2_sparsity, (5 * 60_000 // 32,), None, 0.1 + 0.2 * 8375 / 9000),
        Better("nnzip.pruning.linear_schedule", "05_pruning", "6. Retraining"),
    ),
    unclear(
        "A0 7.3: the papers",
        "two papers are recommended by their titles, one on inference in integers and one on pruning techniques",
        "the first is Jacob et al. 2018 and well chosen; under the second title we found no paper",
        Run(),
        Better(
            "nnzip.compression.integer.integer_network",
            "08_integer",
            "2. The way of an image, counted",
        ),
    ),
    unclear(
        "A0 8.2: mixed-precision training",
        "mixed-precision training joins floating-point and integer arithmetic",
        "usually the name means FP16 or BF16 products with FP32 master weights; training with integer products has "
        "been published under it too (Das et al. 2018)",
        Run(printed.a0_8_2_update, (1.0, 1e-4), None, 1.0),
        Better(
            "nnzip.compression.low_precision.train_low_precision",
            "09b_low_precision",
            "4. Training in sixteen bits",
        ),
    ),
    unclear(
        "A1 2: the order",
        "a chart leads from the model to quantization, from there to compression, and then to the small model",
        "as a list of two steps it is right; as an order, pruning first is better at 3 and 4 bits, and at 8 bits it "
        "hardly matters",
        Run(),
        Better(
            "nnzip.compression.quantization.quantize_weights",
            "05b_structure",
            "7. Pruned and quantized together",
        ),
    ),
    unclear(
        "A1 2, 9 Q1, 9 Q3: is quantization compression?",
        "sections 2 and 9 Q1 set quantization beside compression; sections 1 and 9 Q3 count it as a kind of compression",
        "today it counts as one kind, with fewer bits for each number, where pruning has fewer numbers",
        Run(printed.a1_2_bytes, (1000,), None, (4000, 1000)),
        Better("nnzip.quantization.choose_qparams", "02_quantization", "1. The answer first"),
        also="A0 9.1, A3 9.1",
    ),
    unclear(
        "A1 3.2, 9 Q2: making up for the loss",
        "to make up for lost accuracy one may have to change the network, for example add layers or change the "
        "activation functions; 9 Q2 names the choice of a fitting scheme first",
        "before training that is a design for low precision; a trained network can be changed too (split channels, Zhao "
        "et al. 2019), but is mostly helped by calibration, bias correction, reconstruction, or training through the "
        "rounding",
        Run(),
        Better(
            "nnzip.compression.reconstruction.reconstruct_weights",
            "10_reconstruction",
            "9. Layer after layer",
        ),
    ),
    wrong(
        "A1 4.1: the formula",
        "w becomes round(w / 2^b) 2^b for b bits",
        "the step 2^b grows with b, so that at 8 bits every weight below 128 in magnitude becomes 0; the step is "
        "(max - min) / (2^b - 1), or 2^-f with f bits behind the point",
        Run(printed.a1_4_1, ((0.12, -0.05, 0.2), 8), None, (0, 0, 0)),
        Better("nnzip.quantization.choose_qparams", *TRAPS_02),
    ),
    right(
        "A1 4.2: the error",
        "the error is w - w_q and need not be 0",
        "inside the range it is half a step at most, and the mean of its square is about step^2 / 12",
        Run(printed.a1_4_2, (0.37, 0.4), None, -0.03),
        Better("nnzip.quantization.sqnr_db", "02_quantization", "4. What a bit buys"),
    ),
    wrong(
        "A1 5.2, 5.4: quantizing the CNN",
        "tf.keras.models.quantize_model gives an int8 model, with some gain in accuracy and efficiency",
        "Keras 3.15 has neither of the names used, so the program stops; it trains and measures nothing, so the gain is "
        "open (see A2 1); today's model.quantize rounds only the last of the three layers",
        Run(
            fails=(
                ("tf.keras.models.quantize_model", AttributeError),
                ("tf.keras.quantization", AttributeError),
            )
        ),
        Better(
            "nnzip.compression.integer.integer_network",
            "08_integer",
            "6. Does it still read digits?",
        ),
    ),
    right(
        "A1 7.2: the tools",
        "TensorFlow Lite and PyTorch Mobile run models on devices, ONNX Runtime those in ONNX format",
        "they do or did: TensorFlow Lite is called LiteRT since 2024, and ExecuTorch has taken the place of PyTorch Mobile",
        Run(),
        Better("nnzip.files.onnx.to_onnx", "08_integer", "8. Bit for bit against ONNX Runtime"),
    ),
    wrong(
        "A1 7.3: the papers",
        "Quantized Neural Networks is by Schwarz, and Pruning Filters by Han",
        "they are by Hubara et al. and by Li et al.; Distilling the Knowledge is Hinton's, as printed",
        Run(),
        Better(
            "nnzip.compression.pruning.strongest_units",
            "05b_structure",
            "4. Neurons and filters removed for real",
        ),
    ),
    right(
        "A1 8.2: the trends",
        "to come are mixed-precision quantization, differentiable quantization, pruning by networks and by evolution, "
        "and architecture search",
        "all five are done today: for example, values trained by gradient (Polino et al. 2018), and a network that "
        "chooses how much of each layer to prune (He et al. 2018)",
        Run(),
        Better(
            "nnzip.compression.mixed_precision.mixed_precision",
            "11_mixed_precision",
            "1. The answer first",
        ),
    ),
    unclear(
        "A2 1: more accurate?",
        "quantization and pruning can make a model smaller and faster, and raise its accuracy",
        "smaller and faster can be measured; more accurate is seen after more training, and 6 Q1 itself names a possible "
        "loss",
        Run(),
        Better("nnzip.book.study.error_grid", "02_quantization", "1. The answer first"),
    ),
    unclear(
        "A2 2.1: three roundings",
        "floats become integers by integerization, by estimation, or by rounding to the nearest mean integer",
        "none has a formula of its own, and 3.1 has one, with floor, for all three: we read cutting off, some "
        "approximation (rounding at random, perhaps), and rounding to nearest; the nearest of a few means would be a "
        "codebook (k-means)",
        Run(),
        Better("nnzip.quantization.round_to_integer", "02_quantization", "8. Rounding"),
    ),
    unclear(
        "A2 2.2: stability",
        "parameters that change much under a random disturbance are unstable and are deleted",
        "if the parameter itself is unsure, deleting it is an established rule: small |mean| / spread goes; if the "
        "output reacts strongly to it, it must stay",
        Run(printed.a2_2_2_sureness, ((1, 1, 0.1), (0.1, 2, 0.1)), None, (10, 0.5, 1)),
        Better("nnzip.pruning.stability", "05_pruning", "3. Which weights?"),
    ),
    unclear(
        "A2 3.1: the formula",
        "x becomes floor((x - min) / range * maxrange + minrange), where range is called the quantization range, and "
        "maxrange and minrange are not explained",
        "with range 255 and maxrange 127 all of [-1, 1] becomes -128; with max - min, as in 4.1's code, half of the "
        "codes are used if maxrange is 127; if it is 255, this is TensorFlow's MIN_COMBINED with floor for round, half a "
        "step low unless decoding adds it; clip(round(x / s) + z, qmin, qmax) with s = (max - min) / (qmax - qmin) needs "
        "no addition and keeps a code for 0",
        Run(printed.a2_3_1, ((-1, -0.5, 0, 0.5, 1), -1, 255, 127, -128), None, (-128,) * 5),
        Better("nnzip.quantization.quantize", "02_quantization", "2. The grid"),
    ),
    right(
        "A2 3.2: the threshold",
        "x stays where |x| > threshold and becomes 0 elsewhere",
        "this is hard thresholding, and a weight on the threshold goes",
        Run(printed.a2_3_2, ((-0.5, 0.01, 0.02), 0.01), None, (-0.5, 0, 0.02)),
        Better("nnzip.pruning.threshold_mask", "05_pruning", "2. A mask"),
    ),
    wrong(
        "A2 4.1: quantizing in PyTorch",
        "a CNN is trained, its weights are made integers, and then floats again",
        "four mistakes stop it, one after the other (torch.min and torch.max alike); repaired, on weights as PyTorch "
        "draws them, floats from 0 to 0.67 stay floats, and nothing turns back",
        Run(printed.a2_4_1_clamp, (THIRDS,), None, {"conv1.weight": np.arange(5) / 6}, TORCH_FAILS),
        Better(
            "nnzip.compression.quantization.quantize_weights",
            "02_quantization",
            "5. One scale for all, or one for each",
        ),
    ),
    unclear(
        "A2 4.2: stability by standard deviation",
        "an array whose values have a small standard deviation is unstable, so it is deleted",
        "as a measure of stability it says nothing: four weights of 1 have no spread, and the output may be all theirs; "
        "as a measure of size (the root mean square, where the mean is 0) or of information it is a published rule for "
        "filters (Sun et al. 2019), here applied to whole layers",
        Run(
            printed.a2_4_2_small_spread,
            ({"0.weight": np.ones((1, 4))},),
            None,
            {"0.weight": np.zeros((1, 4))},
        ),
        Better("nnzip.pruning.stability", "05_pruning", "3. Which weights?"),
    ),
    wrong(
        "A2 4.2: pruning in PyTorch",
        "every array whose standard deviation is below 0.01 becomes 0, then training goes on",
        "no array of weights is that narrow here (a bias of 10 numbers can be); and without a mask at every step what "
        "was zeroed comes back (soft filter pruning, Yang He et al. 2018, wants this, and prunes again)",
        Run(printed.a2_4_2_small_spread, (THIRDS,), None, THIRDS, TORCH_FAILS[:2]),
        Better("nnzip.compression.pruning.prune_network", *TRAPS_05),
    ),
    unclear(
        "A2 6 Q4: overfitting",
        "quantization and pruning may cause overfitting",
        "they may: pruning can make it worse where labels are noisy (He et al. 2022); the usual risk is lost fit, "
        "where training images are lost too",
        Run(),
        Better("nnzip.nn.training.evaluate", *TRAPS_05),
    ),
    wrong(
        "A3 2.6: the chart",
        "in a simplified chart a box of pruning techniques holds pruning, quantization and distillation",
        "the label should be compression, as the text above the chart says: quantization and distillation prune nothing",
        Run(),
        Better("nnzip.compression.pruning.prune_network", "05_pruning", "2. A mask"),
    ),
    wrong(
        "A3 4.1: a smaller matrix",
        "removing single weights gives a matrix of fewer rows and fewer columns",
        "the shape stays, and a mask says what counts; rows and columns go only when whole neurons do",
        Run(printed.a3_4_1_smaller, (EXAMPLE, 0.5), None, ValueError),
        Better(
            "nnzip.compression.pruning.remove_units",
            "05b_structure",
            "4. Neurons and filters removed for real",
        ),
    ),
    right(
        "A3 4.1: the levels",
        "w bits over [a, b] are the levels a, a + (b - a) / (2^w - 1), ..., b",
        "these are 2^w even levels, and 0 need not be one of them",
        Run(printed.a3_4_1_levels, (-1, 1, 2), None, (-1, -1 / 3, 1 / 3, 1)),
        Better(
            "nnzip.quantization.qparams_from_range", "02_quantization", "3. Where to lay the grid"
        ),
    ),
    unclear(
        "A3 4.1, 4.2: levels or codes",
        "Q(W) is a level in 4.1 and a code, from 0 to 2^w - 1, in 4.2",
        "both are in use: a code is stored, and its level a + code (b - a) / (2^w - 1) is computed with",
        Run(printed.a3_4_2_quantize, (-1 / 3, -1, 1, 2), None, 1),
        Better("nnzip.quantization.dequantize", "02_quantization", "2. The grid"),
    ),
    wrong(
        "A3 4.2: the threshold",
        "theta = (1/N) sum 1/i = ln N / N for the N weights left, which is 0.049 for N = 9 (4.3)",
        "the two sides are 0.314 and 0.244, neither is 0.049, and N is what the threshold is to decide",
        Run(printed.a3_4_2_threshold, (9,), 0.049, (7129 / 22680, math.log(9) / 9)),
        Better("nnzip.pruning.magnitude_mask", *TRAPS_05),
    ),
    wrong(
        "A3 4.2: the mask",
        "W' = W sign(W >= theta), with a sign that is 1 from 0 on and 0 below",
        "read as the condition itself it removes every negative weight, however large; read to the letter, the sign of 0 "
        "or 1 is always 1 and nothing goes; the mask is |W| > theta",
        Run(printed.a3_4_2_prune, (EXAMPLE, 0.049), PRUNED_W, EXAMPLE),
        Better("nnzip.pruning.threshold_mask", *TRAPS_05),
    ),
    wrong(
        "A3 4.2: the bit width",
        "w = ceil(log2((b - a) / (b - a + 1))), which is 2 for [-1, 1] (4.3)",
        "this is never positive, and 0 here; one chooses the width, or a step s, and then "
        "ceil(log2(round((b - a) / s) + 1)) bits hold the codes",
        Run(printed.a3_4_2_width, (-1, 1), 2, 0),
        Better("nnzip.book.study.error_grid", "02_quantization", "1. The answer first"),
    ),
    wrong(
        "A3 4.3: sorting",
        "the nine weights in order are -1, 0, 1, three times over",
        "-1 comes twice, 0 four times and 1 three times, and sorted they stand in rising order",
        Run(printed.a3_4_3_sort, (EXAMPLE,), (-1, 0, 1) * 3, (-1, -1, 0, 0, 0, 0, 1, 1, 1)),
        Better("nnzip.pruning.saliency_mask", "05_pruning", "2. A mask"),
    ),
    wrong(
        "A3 4.3: pruning the matrix",
        "of three weights of 1 the middle one stays and two go, and both -1 stay",
        "no threshold on values can tell equal weights apart: W >= theta drops both -1, and |W| > theta keeps all five",
        Run(printed.a3_4_3_prune, (EXAMPLE, 0.049), PRUNED_W, np.eye(3)),
        Better("nnzip.pruning.threshold_mask", *TRAPS_05),
    ),
    wrong(
        "A3 4.3: quantizing the matrix",
        "the formula of 4.2 gives -1, 0 and 1",
        "the first row has its signs turned; the formula gives codes from 0 to 3, and the zeros come back as 1/3: a grid "
        "without a level at 0 destroys sparsity",
        Run(
            printed.a3_4_2_quantize,
            (EXAMPLE, -1, 1, 2),
            QUANTIZED_W,
            ((3, 2, 0), (2, 3, 2), (0, 2, 3)),
        ),
        Better("nnzip.quantization.choose_qparams", *TRAPS_02),
    ),
    wrong(
        "A3 5.2: the API",
        "the program is said to use the API of TensorFlow",
        "TensorFlow is imported and never called: all of it is NumPy, as in this book",
        Run(),
        Better("nnzip.quantization.fake_quantize", "02_quantization", "2. The grid"),
    ),
    wrong(
        "A3 5.2: pruning in NumPy",
        "the smallest weights become 0, found by their places in the sorted flat array",
        "flat places are used as rows, which fails; and what follows the cut in rising order are the largest",
        Run(printed.a3_5_2_prune, (EXAMPLE, 0.049), PRUNED_W, IndexError),
        Better("nnzip.pruning.magnitude_mask", "05_pruning", "2. A mask"),
    ),
    wrong(
        "A3 5.2, 5.4: quantizing in NumPy",
        "the pruned matrix is quantized, and the output shows -1, 0 and 1",
        "the program stops before its first print; on the printed W' its quantizer gives -1, 3 and 5, for the division "
        "by 2^w - 1 is missing on the way back",
        Run(
            printed.a3_5_2_quantize,
            (PRUNED_W, 2),
            QUANTIZED_W,
            ((3, 3, -1), (3, 5, 3), (-1, 3, 3)),
        ),
        Better("nnzip.quantization.dequantize", "02_quantization", "2. The grid"),
    ),
    wrong(
        "A3 7.3: the papers",
        "a study of pruning is by LeCun, Bengio and Hinton, Quantized Neural Networks by Han and others, and "
        "Squeeze-and-Excitation by H. Hu and others",
        "the first we did not find (LeCun's is Optimal Brain Damage), the second is by Hubara et al.; "
        "Squeeze-and-Excitation is J. Hu's",
        Run(),
        Better("nnzip.pruning.obd", "05_pruning", "Papers"),
    ),
    unclear(
        "A4 1, 5, 6: interpretability",
        "quantization and distillation make networks easier to interpret, and more research is needed for it",
        "A4 shows nothing for it; for distillation it has been measured (Hyeongrok Han et al. 2023), and a network was "
        "distilled into a decision tree (Frosst and Hinton 2017); for quantization we know single cases: binary networks "
        "turned into decision diagrams (Shi et al. 2020)",
        Run(),
        Better(
            "nnzip.compression.distillation.distill",
            "06_distillation",
            "4. A large teacher, a small student",
        ),
        also="A1 8.3",
    ),
    right(
        "A4 2.2: keeping the knowledge",
        "in distillation a smaller model is trained so that it keeps the knowledge of the large one",
        "this is what distillation is: the knowledge is taken from the teacher, mostly from its outputs",
        Run(),
        Better(
            "nnzip.compression.distillation.distill", "06_distillation", "2. What a teacher says"
        ),
    ),
    wrong(
        "A4 3.1.1, 3.1.2: the formula",
        "x in [0, 1] becomes floor(x 2^b + 0.5)",
        "x = 1 becomes 256 at 8 bits, which is 0 in uint8; the factor is 2^b - 1, or 2^b with the codes clipped at "
        "2^b - 1 (fixed point)",
        Run(printed.a4_3_1, (1.0, 8), None, 256),
        Better("nnzip.quantization.quantize", *TRAPS_02),
    ),
    unclear(
        "A4 3.1.3: quantizing the loss",
        "the loss becomes an integer too, as a step toward models for small devices",
        "a device that only predicts has no loss; training in integers alone computes the gradient of the loss in "
        "integers too (NITI, Wang et al. 2020), by a formula, since the rounded loss itself has slope 0 almost "
        "everywhere; usual low precision keeps the loss in floats and scales it",
        Run(printed.a4_3_1_slope, (0.3, 8), None, 0.0),
        Better(
            "nnzip.compression.low_precision.LossScale",
            "09b_low_precision",
            "5. Rounding the loss",
        ),
    ),
    unclear(
        "A4 3.2: distillation",
        "parameters are deleted, the weights are copied, and the small model is tuned on a new task",
        "as a transfer of weights it is published (weight subcloning, Samragh et al. 2023), and a good start "
        "(DistilBERT); what is usually called distillation has the teacher speak in training: the usual loss is "
        "alpha T^2 KL(teacher || student) + (1 - alpha) CE",
        Run(),
        Better("nnzip.distillation.distillation_loss", "06_distillation", "3. The loss"),
    ),
    wrong(
        "A4 4.1: five numbers",
        "0.1 to 0.5 are divided by the largest, made codes from 0 to 4, and come back as they were",
        "they become 0.2 to 1, then codes from 51 to 256, and come back about twice as large: the largest is never "
        "multiplied back",
        Run(
            printed.a4_4_1,
            ((0.1, 0.2, 0.3, 0.4, 0.5),),
            ((0, 0.1, 0.2, 0.3, 0.4), (0, 1, 2, 3, 4), (0.1, 0.2, 0.3, 0.4, 0.5)),
            (
                (0.2, 0.4, 0.6, 0.8, 1),
                (51, 102, 154, 205, 256),
                (51 / 256, 102 / 256, 154 / 256, 205 / 256, 1),
            ),
        ),
        Better("nnzip.quantization.fake_quantize", *TRAPS_02),
    ),
    wrong(
        "A4 4.2: distilling in PyTorch",
        "a large model's weights are copied into a small one, which is then trained",
        "a dict has no parameters() and 20 x 10 does not fit 10 x 10; the target is the input, so no teacher speaks",
        Run(
            printed.a4_4_2_parameters,
            ({"layer1.weight": np.ones((20, 10))},),
            None,
            AttributeError,
            DISTILL_FAILS,
        ),
        Better(
            "nnzip.compression.distillation.distill",
            "06_distillation",
            "4. A large teacher, a small student",
        ),
    ),
]
