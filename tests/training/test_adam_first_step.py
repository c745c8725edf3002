"""P14: where Adam adds eps decides how far tiny gradients move the weights in the first step."""

import pytest
import torch
from torch.nn import Parameter

from plaudit.training.optimizer import Optimizer, ParameterGroup


def test_p14_eps_is_added_after_bias_correction() -> None:
    """Gradient 1e-6, eps 1e-5: .0909 of the learning rate. With eps added before, as in TensorFlow, .00315."""
    weight = Parameter(torch.zeros(1))
    optimizer = Optimizer([ParameterGroup({"weight": weight}, lr=1.0)], betas=(0.9, 0.999), eps=1e-5)
    (1e-6 * weight).sum().backward()
    optimizer.step()
    assert float(weight.detach()) == pytest.approx(-0.09091, abs=1e-5)
