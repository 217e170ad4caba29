"""Factors and shifts of channels: one after the other, there and back, and what is none."""

import numpy as np
import pytest

from mbn_deploy.graph.rescaling import IDENTITY, Rescaling


def test_steps_follow_one_another():
    x = np.array([[1.0, 4.0], [-2.0, 3.0]])
    factors, constants = np.array([2.0, 0.5]), np.array([1.0, -1.0])
    rescaling = IDENTITY.lowered(constants).scaled(factors).lowered(constants).scaled(np.array([6.0]))
    np.testing.assert_allclose(rescaling.to_quantized(x), ((x - constants) * factors - constants) * 6)
    np.testing.assert_array_equal(IDENTITY.to_quantized(x), x)


@pytest.mark.parametrize("rescaling", [IDENTITY, Rescaling(np.array([2.0, 0.5]), np.zeros(1))])
def test_arrays_come_back(rescaling):
    array = rescaling.to_array()
    assert (array.dtype, array.shape) == (np.float32, (2, rescaling.factor.size))
    again = Rescaling.from_array(array)
    np.testing.assert_array_equal(again.factor, rescaling.factor)
    np.testing.assert_array_equal(again.shift, np.zeros(rescaling.factor.size))


@pytest.mark.parametrize("array", [np.ones(2), np.ones((3, 2)), np.ones((2, 0)), [[0.0], [1.0]], [[np.nan], [1.0]]])
def test_what_is_no_rescaling_is_refused(array):
    with pytest.raises(ValueError, match="factors"):
        Rescaling.from_array(np.asarray(array, np.float32))
