"""What can be asked of zip for a tensor, in Python and as it is written on the command line."""

from dataclasses import dataclass

from nnzip.checks import number, one_of, positive, whole


@dataclass(frozen=True)
class Options:
    """What shall become of a tensor; without any, it stays as it is, to the bit.

    `bits`, 2 to 8, are those of a symmetric grid with a scale for each output or, with `codebook`, of k-means' 2^bits
    shared values; `error` takes the fewest that reach this SQNR in dB. `sparsity` is the fraction of the smallest
    magnitudes that become 0. `rotate` turns the tensor by random signs and Hadamard along axis 1 first.
    """

    bits: int | None = None
    sparsity: float = 0.0
    rotate: bool = False
    error: float | None = None
    codebook: bool = False

    def __post_init__(self):
        number(0, 1)(self.sparsity, "sparsity")
        for name, kind in (("bits", whole(2, 8)), ("error", positive)):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, kind(getattr(self, name), name))  # NumPy's small integers would wrap
        if self.bits is not None and self.error is not None:
            raise ValueError("of bits and error only one can be asked for")
        if self.bits is None and self.error is None and (self.rotate or self.codebook):
            raise ValueError("rotate and codebook need bits or an error")


def parse_options(text):  # "bits:4,sparsity:0.9,rotate" -> Options
    """Read options as they follow a pattern on the command line; "plain" is none of them.

    >>> parse_options("error:30dB,rotate")
    Options(bits=None, sparsity=0.0, rotate=True, error=30.0, codebook=False)
    """
    given, kinds = {}, {"bits": int, "sparsity": float, "error": decibels}
    for word in [] if text == "plain" else text.split(","):
        key, colon, value = word.partition(":")
        one_of(*Options.__dataclass_fields__)(key, "an option")
        if bool(colon) != (key in kinds):
            raise ValueError(f"{key} takes {'a' if key in kinds else 'no'} value, got {word!r}")
        given[key] = kinds[key](value) if colon else True
    return Options(**given)


def parse_pattern(text):  # "conv*=bits:8" -> "conv*", Options(bits=8)
    """Read a pattern of names and the options for what matches it; the last equals sign divides them."""
    pattern, equals, options = text.rpartition("=")
    if not equals:
        raise ValueError(f"what is asked of some tensors must be PATTERN=OPTIONS, got {text!r}")
    return pattern, parse_options(options)


def decibels(text):  # "30dB" or "30" -> 30.0
    """Read an SQNR."""
    return float(text.removesuffix("dB"))
