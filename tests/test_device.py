"""The same answer on a GPU as on the CPU; skipped where there is none."""

import numpy as np
import pytest
import torch
from strategies import spectrum, with_spectrum

from audit.linear_map import Dense
from audit.svd import factorise, leading

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


@needs_cuda
@pytest.mark.parametrize("shape", [(300, 500), (1500, 1100)], ids=["small", "float32"])
def test_leading_triplets_agree_within_their_bounds(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    weight = torch.from_numpy(with_spectrum(*shape, spectrum("spiked", min(shape), rng), rng)).float()
    here, there = leading(Dense(weight), 2, "seed"), leading(Dense(weight.cuda()), 2, "seed")
    assert there.sigma.cpu().numpy() == pytest.approx(here.sigma.numpy(), rel=1e-5)
    for i in range(2):
        cosine = abs(float(here.v[i].double() @ there.v[i].cpu().double()))
        assert 1 - cosine <= float(here.bound[i] + there.bound[i]) ** 2 + 1e-6


@needs_cuda
def test_the_exact_path_agrees() -> None:
    rng = np.random.default_rng(1)
    weight = torch.from_numpy(with_spectrum(200, 150, spectrum("uniform", 150, rng), rng))
    here, there = factorise(Dense(weight)), factorise(Dense(weight.cuda()))
    assert there.sigma.numpy() == pytest.approx(here.sigma.numpy(), rel=1e-9)
