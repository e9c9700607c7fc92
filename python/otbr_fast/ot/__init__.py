"""Exact and entropic optimal transport on CPU, with a certificate.

Two faces: `solve` gives an `OTResult` (sparse plan, potentials, certificate); `emd`, `emd2`,
`sinkhorn` and `sinkhorn2` take POT's arguments and return what POT returns. numpy arrays and CPU
torch tensors go in, the same kind comes out; torch is imported only when a tensor wants a gradient.
"""

from otbr_fast.ot.batch import solve_batch
from otbr_fast.ot.distances import cost_matrix
from otbr_fast.ot.pot import emd, emd2, sinkhorn, sinkhorn2
from otbr_fast.ot.result import Certificate, OTResult
from otbr_fast.ot.sample import solve_sample
from otbr_fast.ot.solver import solve
from otbr_fast.ot.unbalanced import (
    entropic_partial_wasserstein,
    partial_wasserstein,
    round_plan,
    sinkhorn_unbalanced,
)

__all__ = [
    "Certificate",
    "OTResult",
    "cost_matrix",
    "emd",
    "emd2",
    "entropic_partial_wasserstein",
    "partial_wasserstein",
    "round_plan",
    "sinkhorn",
    "sinkhorn2",
    "sinkhorn_unbalanced",
    "solve",
    "solve_batch",
    "solve_sample",
]
