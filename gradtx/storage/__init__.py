"""How state is stored between steps: storage formats as values, for `gx.stored`, which takes names for most of them."""

from gradtx.core.packed import Format as Format
from gradtx.core.packed import Packed as Packed
from gradtx.storage.corrected import corrected as corrected
from gradtx.storage.float8 import float8 as float8
from gradtx.storage.host import host as host
from gradtx.storage.names import NAMES as NAMES
from gradtx.storage.quantized import quantized as quantized
from gradtx.storage.rounded import rounded as rounded
from gradtx.storage.rounded import stochastic as stochastic

__all__ = ["NAMES", "Format", "Packed", "corrected", "float8", "host", "quantized", "rounded", "stochastic"]
