"""Heads that help a network to learn fold into the plain layer of a policy.h5."""

import numpy as np
import pytest

from keras_rl.heads import fold_head, unfold_head


@pytest.mark.parametrize("dueling_type", ["avg", "naive"])
def test_a_folded_dueling_head_gives_the_q_values_of_keras_rl(dueling_type):
    generator = np.random.default_rng(0)
    kernel, bias, features = (generator.normal(size=shape) for shape in ((512, 5), (5,), (7, 512)))
    y = features @ kernel + bias
    expected = y[:, :1] + y[:, 1:] - (y[:, 1:].mean(axis=1, keepdims=True) if dueling_type == "avg" else 0)
    folded_kernel, folded_bias = fold_head(kernel, bias, dueling_type=dueling_type)
    assert folded_kernel.shape == (512, 4) and folded_bias.shape == (4,)
    assert folded_kernel.dtype == folded_bias.dtype == np.float32
    np.testing.assert_allclose(features @ folded_kernel + folded_bias, expected, atol=1e-4)


@pytest.mark.parametrize("dueling_type", ["max", "mean"])
def test_a_dueling_head_that_is_not_linear_is_refused(dueling_type):
    with pytest.raises(ValueError, match=f"'{dueling_type}' cannot be folded.*expected 'avg' or 'naive'"):
        fold_head(np.zeros((512, 5)), np.zeros(5), dueling_type=dueling_type)


def test_a_folded_quantile_head_gives_the_mean_of_the_quantiles():
    generator = np.random.default_rng(0)
    kernel, bias, features = (generator.normal(size=shape) for shape in ((512, 4 * 8), (4 * 8,), (7, 512)))
    expected = (features @ kernel + bias).reshape(7, 4, 8).mean(axis=2)
    folded_kernel, folded_bias = fold_head(kernel, bias, num_quantiles=8)
    assert folded_kernel.shape == (512, 4) and folded_bias.shape == (4,)
    assert folded_kernel.dtype == folded_bias.dtype == np.float32
    np.testing.assert_allclose(features @ folded_kernel + folded_bias, expected, atol=1e-4)


@pytest.mark.parametrize("dueling_type", [None, "avg", "naive"])
@pytest.mark.parametrize("num_quantiles", [1, 8])
def test_a_head_that_is_unfolded_folds_back(dueling_type, num_quantiles):
    generator = np.random.default_rng(0)
    kernel, bias = (generator.normal(size=shape).astype(np.float32) for shape in ((512, 4), (4,)))
    head = {"dueling_type": dueling_type, "num_quantiles": num_quantiles}
    unfolded = unfold_head(kernel, bias, **head)
    assert unfolded[0].shape == (512, (4 + (dueling_type is not None)) * num_quantiles)
    for found, expected in zip(fold_head(*unfolded, **head), (kernel, bias), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)
