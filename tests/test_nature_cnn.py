import keras
import numpy as np
import pytest

from keras_rl.heads import with_head
from models.nature_cnn import nature_cnn


def by_hand(weights, states):
    """The network of Mnih et al. (2015), computed in NumPy one window at a time."""

    def convolution(images, kernel, bias, stride):
        size, filters = kernel.shape[0], kernel.shape[3]
        steps = (images.shape[1] - size) // stride + 1
        out = np.zeros((len(images), steps, steps, filters))
        for row in range(steps):
            for column in range(steps):
                top, left = row * stride, column * stride
                window = images[:, top : top + size, left : left + size]
                out[:, row, column] = np.tensordot(window, kernel, axes=3) + bias
        return np.maximum(out, 0)

    x = np.moveaxis(states.astype(np.float64), 1, -1)
    for stride in (4, 2, 1):
        kernel, bias, *weights = weights
        x = convolution(x, kernel, bias, stride)
    hidden_kernel, hidden_bias, q_kernel, q_bias = weights
    hidden = np.maximum(x.reshape(len(x), -1) @ hidden_kernel + hidden_bias, 0)
    return hidden @ q_kernel + q_bias


def random_weights(model):
    generator = np.random.default_rng(0)
    return [generator.normal(size=each.shape, scale=0.05).astype(np.float32) for each in model.get_weights()]


def test_q_values_are_those_of_the_published_network_computed_by_hand():
    model = nature_cnn(6)
    weights = random_weights(model)
    model.set_weights(weights)
    states = np.random.default_rng(1).random((2, 4, 84, 84), dtype=np.float32)
    q_values = np.asarray(model(states))
    assert np.ptp(q_values) > 0.1
    np.testing.assert_allclose(q_values, by_hand(weights, states), rtol=1e-4, atol=1e-4)


def test_every_layer_has_the_published_shape_and_a_name_that_says_what_it_is():
    layers = [(layer.name, layer.output.shape[1:]) for layer in nature_cnn(4).layers]
    assert layers == [
        ("frames_last", (84, 84, 4)),
        ("conv1", (20, 20, 32)),
        ("conv2", (9, 9, 64)),
        ("conv3", (7, 7, 64)),
        ("flatten", (3136,)),
        ("hidden", (512,)),
        ("q_values", (4,)),
    ]
    assert nature_cnn(4).count_params() == 1_686_180


def test_window_length_and_frame_size_are_free():
    model = nature_cnn(3, window_length=2, input_size=(100, 60))
    assert model.input_shape == (None, 2, 100, 60)
    assert model(np.zeros((5, 2, 100, 60), np.float32)).shape == (5, 3)


def test_frames_too_small_for_the_convolutions_are_refused():
    assert nature_cnn(4, input_size=(36, 36)).output_shape == (None, 4)
    for input_size in ((35, 36), (36, 35)):
        with pytest.raises(ValueError, match="expected at least"):
            nature_cnn(4, input_size=input_size)


def test_a_keras_json_with_channels_first_changes_nothing():
    expected = nature_cnn(4).get_config()
    keras.config.set_image_data_format("channels_first")
    try:
        assert nature_cnn(4).get_config() == expected
    finally:
        keras.config.set_image_data_format("channels_last")


@pytest.mark.parametrize("floatx", ["float64", "float16"])
@pytest.mark.parametrize("head", [{}, {"dueling_type": "avg"}, {"num_quantiles": 8, "dueling_type": "naive"}])
def test_a_keras_json_with_other_numbers_changes_nothing(floatx, head):
    def network():
        model = nature_cnn(4)
        return with_head(model, **head) if head else model

    def numbers(model):
        return [(layer.dtype_policy.name, [variable.dtype for variable in layer.variables]) for layer in model.layers]

    expected = numbers(network())
    keras.config.set_floatx(floatx)
    try:
        model = network()
        assert numbers(model) == expected
        assert model(np.zeros((1, 4, 84, 84), np.float32)).dtype == "float32"
    finally:
        keras.config.set_floatx("float32")
    assert {name for name, _ in expected} == {"float32"}
