"""The five articles, claim by claim: what is printed, what it gives when it is run, and where the book has it right.

Article keys are those of README.md. PyTorch's failures are held by an oracle test; TensorFlow's are read from its
published API (tensorflow.org/model_optimization/api_docs/python, and tf.keras), since nothing here depends on it.
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


class Better(NamedTuple):
    """Where the book does it: a function, and a chapter with the heading of its section."""

    function: str
    chapter: str
    section: str

    @property
    def link(self):
        """A Markdown link to the section, as Jupyter names its places."""
        anchor = self.section.replace(" ", "-")
        return f"[{self.chapter.partition('_')[0]}, {self.section}]({self.chapter}.ipynb#{anchor})"


@dataclass(frozen=True, repr=False)
class Finding:
    """One claim of an article.

    heading : its place and a few words, "A3 4.2: the bit width"; also the heading in chapter 13
    claim, truth : what is printed, and what is so, in our words
    verdict : "wrong", "right" or "unclear"

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

    @property
    def where(self):
        """The article and its sections, "A3 4.2"."""
        return self.heading.partition(":")[0]

    @property
    def row(self):
        """Its cells in a Markdown table: a link to its section, verdict, claim, truth, a link to where it is done."""
        link = f"[{self.heading}](#{self.heading.replace(' ', '-')})"
        cells = (link, self.verdict, self.claim, self.truth, self.better.link)
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
ARTICLES_06 = ("06_distillation", "11. The articles")
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
    wrong(
        "A0 2.2, 3.2.2: the Hadamard transform",
        "a compression: the parameters become a Hadamard matrix, which makes products cheap",
        "W is multiplied by H, which removes no number; it shares outliers out before rounding",
        Run(printed.a0_3_2_2_hadamard, (np.eye(4),), None, (4, 16)),
        Better("nnzip.hadamard.hadamard_transform", "04_hadamard", "9. Does it compress?"),
    ),
    wrong(
        "A0 3.1: what distillation learns",
        "the target model learns the parameters of the source model",
        "it learns outputs, as A0 3.2.2 says; other parameters can give the same outputs",
        Run(
            printed.a0_3_1_reordered,
            (np.eye(2), np.eye(2), np.array([[1, 2]])),
            None,
            (((1,), (2,)),) * 2,
        ),
        Better("nnzip.distillation.distillation_loss", *ARTICLES_06),
    ),
    right(
        "A0 3.2.1, 3.2.2: the steps",
        "quantize: range, step, round; prune: rank, remove, retrain; distill: imitate outputs, tune",
        "the steps of chapters 02, 05 and 06, in this order",
        Run(),
        Better("nnzip.compression.pruning.gradual_pruning", "05_pruning", "6. Retraining"),
    ),
    right(
        "A0 3.3: gains and costs",
        "smaller and cheaper, at the risk of accuracy and some training (so too A1 3.3, A2 6 Q1, A3 3.3, A4 6)",
        "fair; chapters 02 to 06 and 08 measure how much of each",
        Run(),
        Better("nnzip.book.study.error_grid", "02_quantization", "1. The answer first"),
    ),
    wrong(
        "A0 4.1, 4.2: the formula",
        "round(theta / q) r, with q and r of their own, r a range, and no clipping",
        "r must be q: s (clip(round(theta / s) + z) - z), s = (b - a) / (2^n - 1)",
        Run(printed.a0_4_1, (0.5, 0.1, 0.05), None, 0.25),
        Better("nnzip.quantization.quantize", "02_quantization", "2. The grid"),
    ),
    wrong(
        "A0 4.3: the worked example",
        "0.5 over [-1, 1] in steps of 0.1 becomes 0; r is the interval [0, 0.1], then the number 0.1",
        "-1 + 15 * 0.1 = 0.5: no error at all",
        Run(printed.a0_4_2, (0.5, -1, 0.1, 0.1), 0, 0.5),
        Better("nnzip.quantization.fake_quantize", *TRAPS_02),
    ),
    wrong(
        "A0 5.2: the images",
        "images of 28 x 28 go into a network with 784 inputs",
        "they must be flattened first",
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
        "an 8-bit model by calls of tensorflow_model_optimization, and its accuracy",
        "the names do not exist; neither trained nor compiled after it, the model cannot be evaluated",
        Run(fails=(("from tensorflow_model_optimization import quantitative", ImportError),)),
        Better(
            "nnzip.compression.qat.train_quantized", "09_qat", "2. The straight-through estimator"
        ),
    ),
    wrong(
        "A0 5.2: the schedule",
        "pruned to 30 % at step 10,000",
        "5 epochs of 1,875 steps end at 9,375, at 28.6 %",
        Run(printed.a0_5_2_sparsity, (5 * 60_000 // 32,), 0.3, 0.1 + 0.2 * 8375 / 9000),
        Better("nnzip.pruning.linear_schedule", "05_pruning", "6. Retraining"),
    ),
    wrong(
        "A0 8.2: mixed-precision training",
        "a mixture of float and integer arithmetic",
        "arithmetic in FP16 or BF16, FP32 master weights, a scaled loss: in FP16 1 - 0.0001 is 1",
        Run(printed.a0_8_2_update, (1.0, 1e-4), None, 1.0),
        Better(
            "nnzip.compression.low_precision.train_low_precision",
            "09b_low_precision",
            "4. Training in sixteen bits",
        ),
    ),
    unclear(
        "A1 2, 3.1, Q1, Q3: is quantization compression?",
        "beside compression in 2 and Q1 (and A0 9.1), a kind of it in 3.1 and Q3",
        "it is one kind: fewer bits for each number, where pruning has fewer numbers",
        Run(printed.a1_2_bytes, (1000,), None, (4000, 1000)),
        Better("nnzip.quantization.choose_qparams", "02_quantization", "1. The answer first"),
    ),
    unclear(
        "A1 3.2, Q2: making up for the loss",
        "perhaps add layers or change the activations",
        "that is another network, trained anew; for a given one: calibration, QAT, bias correction, reconstruction",
        Run(),
        Better(
            "nnzip.compression.reconstruction.reconstruct_weights",
            "10_reconstruction",
            "9. Layer after layer",
        ),
    ),
    wrong(
        "A1 4.1: the formula",
        "round(w / 2^b) 2^b for b bits",
        "the step grows with b: at 8 bits all is 0; (max - min) / (2^b - 1), or round(w 2^f) / 2^f",
        Run(printed.a1_4_1, ((0.12, -0.05, 0.2), 8), None, (0, 0, 0)),
        Better("nnzip.quantization.choose_qparams", *TRAPS_02),
    ),
    right(
        "A1 4.2: the error",
        "the error is w - w_q and need not be 0",
        "within half a step inside the range, of variance step^2 / 12",
        Run(printed.a1_4_2, (0.37, 0.4), None, -0.03),
        Better("nnzip.quantization.sqnr_db", "02_quantization", "4. What a bit buys"),
    ),
    wrong(
        "A1 5.2, 5.4: quantizing the CNN",
        "an int8 model by tf.keras.models.quantize_model; accuracy and efficiency improve",
        "no such names; nothing is trained or measured. At 8 bits accuracy stays, within noise",
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
    wrong(
        "A1 7.3: the papers",
        "Quantized Neural Networks by Schwarz, Pruning Filters by Han",
        "by Hubara et al. and by Li et al.; Distilling the Knowledge is Hinton's, as printed",
        Run(),
        Better(
            "nnzip.compression.pruning.strongest_units",
            "05b_structure",
            "4. Neurons and filters removed for real",
        ),
    ),
    wrong(
        "A2 2.2, 4.2: stability",
        "unstable weights are deleted in 2.2, arrays of small standard deviation in 4.2",
        "what the outputs do not react to may go; a row of ones has no spread, and they may react to nothing else",
        Run(
            printed.a2_4_2_small_spread,
            ({"0.weight": np.ones((1, 4))},),
            None,
            {"0.weight": np.zeros((1, 4))},
        ),
        Better("nnzip.pruning.stability", "05_pruning", "3. Which weights?"),
    ),
    wrong(
        "A2 3.1: the formula",
        "floor((x - min) / range * maxrange + minrange), range the quantization range",
        "round((x - min) / (max - min) (qmax - qmin)) + qmin; here [-1, 1] becomes -128; floor is half a step off",
        Run(printed.a2_3_1, ((-1, -0.5, 0, 0.5, 1), -1, 255, 127, -128), None, (-128,) * 5),
        Better("nnzip.quantization.quantize", "02_quantization", "8. Rounding"),
    ),
    right(
        "A2 3.2: the threshold",
        "x where |x| > threshold, else 0",
        "hard thresholding; a weight on the threshold goes",
        Run(printed.a2_3_2, ((-0.5, 0.01, 0.02), 0.01), None, (-0.5, 0, 0.02)),
        Better("nnzip.pruning.threshold_mask", "05_pruning", "2. A mask"),
    ),
    wrong(
        "A2 4.1: quantizing in PyTorch",
        "train a CNN, make its weights integers, and floats again",
        "four calls fail, one after the other; repaired, floats from 0 to 0.67 stay floats, and nothing turns back",
        Run(printed.a2_4_1_clamp, (THIRDS,), None, {"conv1.weight": np.arange(5) / 6}, TORCH_FAILS),
        Better(
            "nnzip.compression.quantization.quantize_weights",
            "02_quantization",
            "5. One scale for all, or one for each",
        ),
    ),
    wrong(
        "A2 4.2: pruning in PyTorch",
        "zero every array whose standard deviation is below 0.01, then train on",
        "no array of weights here is that narrow; and what is zeroed comes back without a mask",
        Run(printed.a2_4_2_small_spread, (THIRDS,), None, THIRDS, TORCH_FAILS[:2]),
        Better("nnzip.compression.pruning.prune_network", *TRAPS_05),
    ),
    wrong(
        "A2 6 Q4: overfitting",
        "quantization and pruning may cause overfitting",
        "the usual risk is lost fit: pruned too far, a network errs on its training images almost as much",
        Run(),
        Better("nnzip.nn.training.evaluate", *TRAPS_05),
    ),
    wrong(
        "A3 4.1: a smaller matrix",
        "removing single weights gives a matrix of fewer rows and columns; the threshold is usually in (0, 1)",
        "the shape stays and a mask says what counts; the threshold lives on the scale of the weights",
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
        "2^w even levels; 0 need not be one of them",
        Run(printed.a3_4_1_levels, (-1, 1, 2), None, (-1, -1 / 3, 1 / 3, 1)),
        Better(
            "nnzip.quantization.qparams_from_range", "02_quantization", "3. Where to lay the grid"
        ),
    ),
    unclear(
        "A3 4.1, 4.2: levels or codes",
        "Q(W) is a level in 4.1 and a code, 0 to 2^w - 1, in 4.2",
        "level = a + code (b - a) / (2^w - 1); codes are stored, levels computed with",
        Run(printed.a3_4_2_quantize, (-1 / 3, -1, 1, 2), None, 1),
        Better("nnzip.quantization.dequantize", "02_quantization", "2. The grid"),
    ),
    wrong(
        "A3 4.2: the threshold",
        "theta = (1/N) sum 1/i = ln N / N for the N weights left; 0.049 for N = 9 (4.3)",
        "H_N / N = 0.314 and ln N / N = 0.244; and N is what is to be decided",
        Run(printed.a3_4_2_threshold, (9,), 0.049, (7129 / 22680, math.log(9) / 9)),
        Better("nnzip.pruning.magnitude_mask", *TRAPS_05),
    ),
    wrong(
        "A3 4.2: the mask",
        "W sign(W >= theta), with sign(0) = 1",
        "a condition is 0 or 1, its sign always 1: nothing is pruned; |W| > theta",
        Run(printed.a3_4_2_prune, (EXAMPLE, 0.049), PRUNED_W, EXAMPLE),
        Better("nnzip.pruning.threshold_mask", *TRAPS_05),
    ),
    wrong(
        "A3 4.2: the bit width",
        "w = ceil(log2((b - a) / (b - a + 1))), 2 for [-1, 1] (4.3)",
        "never positive: 0 here; the width is chosen, or ceil(log2((b - a) / step + 1))",
        Run(printed.a3_4_2_width, (-1, 1), 2, 0),
        Better("nnzip.book.study.error_grid", "02_quantization", "1. The answer first"),
    ),
    wrong(
        "A3 4.3: sorting",
        "the nine weights in order: -1, 0, 1 three times over",
        "-1 twice, 0 four times, 1 three times",
        Run(printed.a3_4_3_sort, (EXAMPLE,), (-1, 0, 1) * 3, (-1, -1, 0, 0, 0, 0, 1, 1, 1)),
        Better("nnzip.pruning.saliency_mask", "05_pruning", "2. A mask"),
    ),
    wrong(
        "A3 4.3: pruning the matrix",
        "of three weights of 1 the middle one stays; both -1 stay",
        "no rule by value can tell equal weights apart; W >= theta drops both -1; |W| > theta keeps W",
        Run(printed.a3_4_3_prune, (EXAMPLE, 0.049), PRUNED_W, np.eye(3)),
        Better("nnzip.pruning.threshold_mask", *TRAPS_05),
    ),
    wrong(
        "A3 4.3: quantizing the matrix",
        "the formula of 4.2 gives -1, 0 and 1",
        "it gives codes 0 to 3, and 0 comes back as 1/3: a grid without a zero destroys sparsity",
        Run(
            printed.a3_4_2_quantize,
            (EXAMPLE, -1, 1, 2),
            QUANTIZED_W,
            ((3, 2, 0), (2, 3, 2), (0, 2, 3)),
        ),
        Better("nnzip.quantization.choose_qparams", *TRAPS_02),
    ),
    wrong(
        "A3 5.2: pruning in NumPy",
        "zero what is smallest, by the order of the flat array",
        "flat positions are used as rows; and in rising order the largest follow the cut",
        Run(printed.a3_5_2_prune, (EXAMPLE, 0.049), PRUNED_W, IndexError),
        Better("nnzip.pruning.magnitude_mask", "05_pruning", "2. A mask"),
    ),
    wrong(
        "A3 5.2, 5.4: quantizing in NumPy",
        "an output with -1, 0 and 1",
        "nothing is printed after the failure; alone, without the division by 2^w - 1, it gives 5, 3, -1",
        Run(
            printed.a3_5_2_quantize, (EXAMPLE, 2), QUANTIZED_W, ((5, 3, -1), (3, 5, 3), (-1, 3, 5))
        ),
        Better("nnzip.quantization.dequantize", "02_quantization", "2. The grid"),
    ),
    wrong(
        "A3 7.3: the papers",
        "a study of pruning by LeCun, Bengio and Hinton; Quantized Neural Networks by Han",
        "not to be found (LeCun's is Optimal Brain Damage); by Hubara et al.; Squeeze-and-Excitation is J. Hu's",
        Run(),
        Better("nnzip.pruning.obd", "05_pruning", "Papers"),
    ),
    unclear(
        "A4 1, 5, 6: interpretability",
        "quantization and distillation make networks easier to interpret (1, 6; more research is needed: 5)",
        "no example; a difficulty in A1 8.3; a tree distilled from a network can be read (Frosst and Hinton 2017)",
        Run(),
        Better("nnzip.compression.distillation.distill", *ARTICLES_06),
    ),
    wrong(
        "A4 3.1.1, 3.1.2: the formula",
        "floor(x 2^b + 0.5) for x in [0, 1]",
        "x = 1 gives 256 at 8 bits, which is 0 in uint8; the factor is 2^b - 1",
        Run(printed.a4_3_1, (1.0, 8), None, 256),
        Better("nnzip.quantization.quantize", *TRAPS_02),
    ),
    wrong(
        "A4 3.1.3: quantizing the loss",
        "the loss is made an integer, so that the model runs on small devices",
        "there is no loss at inference; in training an integer loss has no slope, and low precision needs it scaled",
        Run(printed.a4_3_1_slope, (0.3, 8), None, 0.0),
        Better(
            "nnzip.compression.low_precision.LossScale",
            "09b_low_precision",
            "5. Rounding the loss",
        ),
    ),
    wrong(
        "A4 3.2: distillation",
        "delete parameters, copy the weights, tune on a new task",
        "that is pruning and transfer; alpha T^2 KL(teacher || student) + (1 - alpha) CE",
        Run(),
        Better("nnzip.distillation.distillation_loss", "06_distillation", "3. The loss"),
    ),
    wrong(
        "A4 4.1: five numbers",
        "0.1 to 0.5 are divided by the largest, made codes, and come back",
        "0.2 to 1, codes 51 to 256, and twice the numbers back: the largest is never multiplied back",
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
        "copy a large model's weights into a small one and train it",
        "a dict has no parameters(); 20 x 10 is not 10 x 10; the target is the input; no teacher speaks",
        Run(
            printed.a4_4_2_parameters,
            ({"layer1.weight": np.ones((20, 10))},),
            None,
            AttributeError,
            DISTILL_FAILS,
        ),
        Better("nnzip.compression.distillation.distill", *ARTICLES_06),
    ),
]
