import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from keras_h5.files import FileError, require_writable
from keras_h5.layers import load_weights, read_array, reading, save_weights
from models.policy_file import SUFFIXES, PolicyFileError, load_policy, save_policy

SHAPES = [(8, 8, 4, 32), (32,), (4, 4, 32, 64), (64,), (3, 3, 64, 64), (64,), (3136, 512), (512,)]
KERNEL = "model_weights/conv1/conv1/kernel:0"
GENERATOR = np.random.default_rng(0)
NOISE = GENERATOR.normal(size=3136 * 512, scale=0.05).astype(np.float32)


def random_weights(nb_actions=4, seed=0):
    """Float32 arrays that differ everywhere, cheaply: windows into the same noise, scaled by the seed."""
    shapes = [*SHAPES, (512, nb_actions), (nb_actions,)]
    return [NOISE[: np.prod(shape)].reshape(shape) * np.float32(1 + seed / 7) for shape in shapes]


def states():
    return np.random.default_rng(1).random((3, 4, 84, 84), dtype=np.float32)


def same(arrays, others):
    return len(arrays) == len(others) and all(
        a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(arrays, others, strict=True)
    )


def names_in(folder):
    return sorted(each.name for each in folder.iterdir())


@pytest.fixture(autouse=True)
def spare_the_disk(tmp_path, monkeypatch):
    """Files of 7 MB a test need not reach the disk, nor stay."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    yield
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "policy.h5"


@pytest.fixture(scope="module")
def policy_bytes(tmp_path_factory):
    path = tmp_path_factory.mktemp("made once") / "policy.h5"
    save_policy(path, random_weights(), {"run": "first", "game": "breakout"})
    return path.read_bytes()


@pytest.fixture
def policy(path, policy_bytes):
    """A good policy.h5 of the run "first"."""
    path.write_bytes(policy_bytes)
    return path


@pytest.fixture
def refused(path):
    """Asserts that a file is refused with one sentence: the path, what was found, what was expected."""

    def check(found, file=path, read=load_policy):
        with pytest.raises(PolicyFileError) as caught:
            read(file)
        message = str(caught.value)
        assert message.startswith(f"{file} ")
        assert "; expected " in message and message.endswith("another file.") and "\n" not in message
        assert found in message

    return check


def keras_net(*, activation_layers=False, input_shape=(4, 84, 84), nb_actions=4, head=()):
    """A Nature CNN as other people write it; with `activation_layers` as in the example of keras-rl."""
    import keras
    from keras import layers

    def activated(layer, **settings):
        if activation_layers:
            return [layer(**settings), layers.Activation("relu")]
        return [layer(**settings, activation="relu")]

    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Permute((2, 3, 1)),
            *activated(layers.Conv2D, filters=32, kernel_size=8, strides=4),
            *activated(layers.Conv2D, filters=64, kernel_size=4, strides=2),
            *activated(layers.Conv2D, filters=64, kernel_size=3),
            layers.Flatten(),
            *activated(layers.Dense, units=512),
            layers.Dense(nb_actions),
            *([layers.Activation("linear")] if activation_layers else []),
            *head,
        ]
    )


# What goes in comes out


@pytest.mark.parametrize("nb_actions", [1, 4, 18])
def test_weights_come_back_bit_for_bit(path, nb_actions):
    weights = random_weights(nb_actions)
    assert save_policy(path, weights, {}) is None
    policy = load_policy(path, nb_actions=nb_actions)
    assert same(policy.weights, weights)
    assert policy.nb_actions == nb_actions
    assert policy.facts == {}


FACTS = {
    "run": "breakout-1",
    "actions": ["NOOP", "FIRE", "RIGHT", "LEFT"],
    "steps": 500_000,
    "score": 28.8,
    "none": None,
    "true": True,
    "nested": {"a": [1, {"b": None}]},
    "seed": 2**127 + 1,
    "negative": -(2**63),
    "infinite": float("inf"),
    "empty": "",
    "like_number": "123",
    "like_null": "null",
    "like_nan": "NaN",
    "like_json": '["a"]',
    "quoted": '"quoted"',
    "brackets": "[" * 50_000,
    "lines": "a\nb\x00c",
    "umlaut": "Müller 🎮",
    "surrogate": "\udce4",
}


def test_facts_come_back_with_value_and_type(path):
    save_policy(path, random_weights(), FACTS)
    facts = load_policy(path).facts
    assert facts == FACTS
    assert {name: type(value) for name, value in facts.items()} == {k: type(v) for k, v in FACTS.items()}


def test_facts_are_plain_attributes_for_whoever_has_only_h5py(path):
    save_policy(path, random_weights(), {"game": "breakout", "steps": 5, "score": np.float32(1.5), "x": [1]})
    with h5py.File(path) as file:
        assert file.attrs["dqn_game"] == "breakout"
        assert file.attrs["dqn_steps"] == 5
        assert file.attrs["dqn_score"] == 1.5
        assert file.attrs["dqn_x"] == "[1]"
        assert "training_config" not in file.attrs


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", "x" * 100_000])
def test_a_fact_that_could_not_be_read_back_is_refused_and_nothing_is_written(tmp_path, path, value):
    with pytest.raises(PolicyFileError, match=r"fact 'odd'.*expected"):
        save_policy(path, random_weights(), {"odd": value})
    assert names_in(tmp_path) == []


def test_the_same_policy_makes_the_same_bytes(policy):
    before = policy.read_bytes()
    save_policy(policy, random_weights(), {"run": "first", "game": "breakout"})
    assert policy.read_bytes() == before


def test_half_precision_weights_are_stored_as_float32_exactly(path):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    dtypes = [bfloat16, np.float16] * 5
    halves = [each.astype(dtype) for each, dtype in zip(random_weights(), dtypes, strict=True)]
    save_policy(path, halves, {})
    assert same(load_policy(path).weights, [each.astype(np.float32) for each in halves])


@pytest.mark.parametrize(
    ("index", "array", "found"),
    [
        (4, np.full((3, 3, 64, 64), np.nan, np.float32), "NaN or infinite numbers in array number 5"),
        (1, np.full(32, 1e300), "NaN or infinite numbers in array number 2"),
        (1, np.zeros(32, np.int64), "int64"),
        (1, np.zeros(32, np.complex64), "complex64"),
        (0, np.zeros((8, 8, 1, 32), np.float32), r"\(8, 8, 1, 32\)"),
        (9, np.zeros(5, np.float32), r"\(512, 4\) in array number 9"),
        (9, np.zeros((), np.float32), "values 0 actions"),
    ],
)
def test_weights_that_are_no_finite_nature_cnn_do_not_replace_a_policy(tmp_path, policy, index, array, found):
    before = policy.read_bytes()
    weights = random_weights(seed=1)
    weights[index] = array
    with pytest.raises(PolicyFileError, match=f"{found}.*expected"):
        save_policy(policy, weights, {"run": "first"})
    with pytest.raises(PolicyFileError, match="9 arrays, not five kernels"):
        save_policy(policy, weights[:9], {"run": "first"})
    assert policy.read_bytes() == before
    assert names_in(tmp_path) == ["policy.h5"]


def test_reading_facts_and_weights_loads_neither_keras_nor_tensorflow(policy):
    script = (
        "import sys; from models.policy_file import load_policy; load_policy(sys.argv[1]);"
        "assert not {'keras', 'tensorflow', 'tf_keras'} & set(sys.modules)"
    )
    root = Path(__file__).parent.parent
    subprocess.run([sys.executable, "-c", script, policy], cwd=root, check=True)


# Keras opens the file


def test_keras_opens_the_file_and_gives_the_same_q_values(policy):
    import keras

    expected = np.asarray(load_policy(policy).build_model()(states()))
    assert np.ptp(expected) > 0.1
    for settings in ({}, {"compile": False}):
        model = keras.models.load_model(policy, **settings)
        np.testing.assert_allclose(np.asarray(model(states())), expected, rtol=0, atol=1e-5)
    for layers_apart in (False, True):
        fresh = keras_net(activation_layers=layers_apart)
        fresh.load_weights(policy)
        np.testing.assert_allclose(np.asarray(fresh(states())), expected, rtol=0, atol=1e-5)


def test_the_architecture_in_the_file_is_nature_cnn(policy):
    import keras

    from models.nature_cnn import nature_cnn

    assert keras.models.load_model(policy).get_config() == nature_cnn(4).get_config()


def test_the_architecture_in_the_file_uses_only_what_keras_2_and_3_share(policy):
    with h5py.File(policy) as file:
        text = file.attrs["model_config"].decode()
        assert file.attrs["keras_version"].startswith(b"2.")
        assert file["model_weights"].attrs["backend"] == b"tensorflow"
    only_keras_3 = ["batch_shape", "optional", "module", "registered_name", "build_config", "DTypePolicy"]
    for key in [*only_keras_3, "quantization_config", "build_input_shape", "ragged", "groups"]:
        assert f'"{key}"' not in text


@pytest.mark.parametrize("activation_layers", [False, True])
def test_a_nature_cnn_that_keras_saved_is_read(path, activation_layers):
    model = keras_net(activation_layers=activation_layers)
    model.compile("adam", "mse")
    model.save(path)
    assert same(load_policy(path).weights, model.get_weights())


def test_a_weights_file_in_the_layout_of_keras_rl_is_read(tmp_path):
    model = keras_net(activation_layers=True)
    save_weights(model, tmp_path / "dqn_Breakout_weights.h5f")
    assert same(load_policy(tmp_path / "dqn_Breakout_weights.h5f").weights, model.get_weights())


def functional(model):
    """The same network with the same weights, written with Keras' functional interface."""
    import keras

    x = inputs = keras.Input(model.input_shape[1:])
    for layer in model.layers:
        x = layer(x)
    return keras.Model(inputs, x)


@pytest.mark.parametrize("activation_layers", [False, True])
def test_a_functional_model_of_the_same_layers_is_read(path, activation_layers):
    model = functional(keras_net(activation_layers=activation_layers))
    model.save(path)
    assert same(load_policy(path).weights, model.get_weights())


def test_a_functional_model_as_keras_2_describes_it_is_read(path):
    model = functional(keras_net())
    model.save(path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        before: list = []
        for layer in config["config"]["layers"]:
            layer["inbound_nodes"], before = before, [[[layer["config"]["name"], 0, 0, {}]]]
        file.attrs["model_config"] = json.dumps(config)
    assert same(load_policy(path).weights, model.get_weights())


def test_a_functional_model_with_a_branch_is_refused(path, refused):
    import keras
    from keras import layers

    x = inputs = keras.Input((4, 84, 84))
    for layer in keras_net().layers[:-2]:
        x = layer(x)
    keras.Model(inputs, layers.Dense(4)(layers.Add()([layers.Dense(512)(x), layers.Dense(512)(x)]))).save(path)
    refused("'Functional' model whose layers do not follow one another")


def test_weights_of_a_dueling_network_are_not_taken_for_a_policy_of_one_action_more(tmp_path, refused):
    from keras_rl.heads import with_head

    file = tmp_path / "policy.h5"
    for head in ({"dueling_type": "avg"}, {"num_quantiles": 2}, {"dueling_type": "avg", "num_quantiles": 2}):
        save_weights(with_head(keras_net(), **head), file)
        refused("a dueling or quantile head, which save_weights() keeps", file)


def test_order_comes_from_the_attributes_and_not_from_the_alphabet(policy):
    names = [b"z", b"y", b"x", b"w", b"v"]
    with h5py.File(policy, "r+") as file:
        group = file["model_weights"]
        for old, new in zip(["conv1", "conv2", "conv3", "hidden", "q_values"], names, strict=True):
            group.move(old, new.decode())
        group.attrs["layer_names"] = np.array(names)
        del file.attrs["model_config"]
    assert same(load_policy(policy).weights, random_weights())


def test_big_endian_and_half_precision_arrays_are_read(policy):
    with h5py.File(policy, "r+") as file:
        for name, dtype in (("kernel:0", ">f4"), ("bias:0", "<f2")):
            array = file[f"model_weights/conv1/conv1/{name}"][()]
            del file[f"model_weights/conv1/conv1/{name}"]
            file[f"model_weights/conv1/conv1/{name}"] = array.astype(dtype)
    kernel, bias = load_policy(policy).weights[:2]
    expected_kernel, expected_bias = random_weights()[:2]
    assert same([kernel, bias], [expected_kernel, expected_bias.astype(np.float16).astype(np.float32)])


# Writing is whole or not at all


def no_space(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("run", ["first", "second"])
def test_a_full_disk_leaves_the_old_policy_and_nothing_else(tmp_path, policy, monkeypatch, step, run):
    before = policy.read_bytes()
    monkeypatch.setattr(os, step, no_space)
    with pytest.raises(FileError, match=r"No space left.*unchanged; make room"):
        save_policy(policy, random_weights(seed=1), {"run": run})
    assert policy.read_bytes() == before
    assert names_in(tmp_path) == ["policy.h5"]


def test_a_write_cut_off_midway_by_the_system_leaves_the_old_policy_and_nothing_else(tmp_path, policy):
    resource = pytest.importorskip("resource")
    before = policy.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))  # a policy has 6.7 MB
    try:
        with pytest.raises(FileError, match="unchanged"):
            save_policy(policy, random_weights(seed=1), {"run": "second"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert policy.read_bytes() == before
    assert names_in(tmp_path) == ["policy.h5"]


def test_control_c_while_writing_leaves_the_old_policy_and_nothing_else(tmp_path, policy, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    before = policy.read_bytes()
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_policy(policy, random_weights(seed=1), {"run": "first"})
    assert policy.read_bytes() == before
    assert names_in(tmp_path) == ["policy.h5"]


def test_at_the_moment_of_replacement_old_and_new_policy_are_both_whole(tmp_path, policy, monkeypatch):
    old, replace, seen = policy.read_bytes(), os.replace, []

    def checked_replace(source, target):
        assert Path(target).read_bytes() == old
        assert (tmp_path / "policy.previous-first.h5").read_bytes() == old
        seen.append(Path(source).read_bytes())
        replace(source, target)

    monkeypatch.setattr(os, "replace", checked_replace)
    save_policy(policy, random_weights(seed=1), {"run": "second"})
    assert seen == [policy.read_bytes()]


# A policy of another run is kept


def set_aside(path, seed, facts) -> Path:
    """Saves over a file of another origin, and returns where that one is now."""
    aside = save_policy(path, random_weights(seed=seed), facts)
    assert aside is not None
    return aside


def test_the_same_run_replaces_its_own_policy(tmp_path, policy):
    assert save_policy(policy, random_weights(seed=1), {"run": "first"}) is None
    assert same(load_policy(policy).weights, random_weights(seed=1))
    assert names_in(tmp_path) == ["policy.h5"]


@pytest.mark.parametrize("hard_links", [True, False])
def test_a_policy_of_another_run_is_never_overwritten(tmp_path, policy, monkeypatch, hard_links):
    if not hard_links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.EPERM, "no links")))
    first = policy.read_bytes()
    asides = [
        set_aside(policy, 1, {"run": "second"}),
        set_aside(policy, 2, {"run": "first"}),
        set_aside(policy, 3, {"run": "third"}),
    ]
    assert [each.name for each in asides] == [
        "policy.previous-first.h5",
        "policy.previous-second.h5",
        "policy.previous-first-2.h5",
    ]
    assert asides[0].read_bytes() == first
    assert same(load_policy(asides[1]).weights, random_weights(seed=1))
    assert same(load_policy(asides[2]).weights, random_weights(seed=2))
    assert same(load_policy(policy).weights, random_weights(seed=3))
    assert names_in(tmp_path) == sorted(["policy.h5", *(each.name for each in asides)])


def test_of_two_runs_that_write_one_file_the_newest_policy_of_each_is_kept(tmp_path, path):
    for seed in range(10):
        facts = {"run": f"run {seed % 2}", "steps_of_training": 25_000 * seed, "finished": False}
        save_policy(path, random_weights(seed=seed), facts)
    assert names_in(tmp_path) == ["policy.h5", "policy.previous-run-0.h5", "policy.previous-run-1.h5"]
    assert same(load_policy(path).weights, random_weights(seed=9))
    assert same(load_policy(tmp_path / "policy.previous-run-0.h5").weights, random_weights(seed=8))
    assert same(load_policy(tmp_path / "policy.previous-run-1.h5").weights, random_weights(seed=7))
    # A finished one stays, whatever has its name later, and so does one that went further.
    save_policy(path, random_weights(seed=10), {"run": "run 0", "steps_of_training": 250_000, "finished": True})
    save_policy(path, random_weights(seed=11), {"run": "run 1", "steps_of_training": 100, "finished": False})
    save_policy(path, random_weights(seed=12), {"run": "run 2", "steps_of_training": 100, "finished": False})
    kept = [load_policy(each).weights for each in tmp_path.iterdir()]
    assert all(any(same(weights, random_weights(seed=seed)) for weights in kept) for seed in (9, 10, 11, 12))


def test_a_file_of_unknown_origin_is_set_aside_unchanged(tmp_path, path):
    path.write_text("my thesis")
    aside = set_aside(path, 0, {"run": "first"})
    assert aside.name == "policy.previous.h5" and aside.read_text() == "my thesis"
    assert set_aside(path, 1, {}).name == "policy.previous-first.h5"
    assert set_aside(path, 2, {}).name == "policy.previous-2.h5"  # two policies without a run
    assert aside.read_text() == "my thesis"


def test_a_run_name_cannot_lead_out_of_the_folder(tmp_path, path):
    path = tmp_path / "inner" / "policy.h5"
    path.parent.mkdir()
    save_policy(path, random_weights(), {"run": "../../etc/Pass wort\x1b[31m:" + "x" * 300})
    aside = set_aside(path, 1, {"run": "other"})
    assert aside.parent == path.parent
    assert aside.name.startswith("policy.previous-etc-Pass-wort-31m-xxx") and len(aside.name) < 80
    assert names_in(tmp_path) == ["inner"]


def test_a_symbolic_link_stays_and_its_target_is_replaced(tmp_path):
    real, link = tmp_path / "best.h5", tmp_path / "policy.h5"
    save_policy(real, random_weights(), {"run": "first"})
    link.symlink_to(real)
    save_policy(link, random_weights(seed=1), {"run": "first"})
    assert link.is_symlink()
    assert same(load_policy(real).weights, random_weights(seed=1))
    save_weights(cartpole_net(), link)
    assert link.is_symlink()
    load_weights(cartpole_net(), real)


# Asking before training


def test_a_place_that_can_be_written_is_accepted_and_left_as_it_was(tmp_path, path, policy):
    before = policy.read_bytes()
    require_writable(policy, SUFFIXES)
    require_writable(tmp_path / "new.h5", SUFFIXES)
    assert names_in(tmp_path) == ["policy.h5"] and policy.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        (".", "is a folder; add a file name"),
        ("missing/policy.h5", "folder that does not exist; create"),
        ("policy.h5/policy.h5", "folder that does not exist; create"),
        ("policy.keras", "has to end in .h5"),
        ("x" * 300 + ".h5", "cannot be written .*name another place"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_training(tmp_path, policy, name, problem):
    with pytest.raises(FileError, match=problem):
        require_writable(tmp_path / name, SUFFIXES)
    with pytest.raises(FileError):
        save_policy(tmp_path / name, random_weights(), {})
    assert names_in(tmp_path) == ["policy.h5"]


def test_a_protected_policy_is_refused_before_training(policy, monkeypatch):
    policy.chmod(0o444)
    if os.access(policy, os.W_OK):  # the superuser may write everywhere
        monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(FileError, match="protected against writing"):
        require_writable(policy, SUFFIXES)


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="the superuser may write everywhere")
def test_a_closed_folder_is_refused_before_training(tmp_path):
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(FileError, match=r"cannot be written .*give permission"):
            require_writable(tmp_path / "policy.h5", SUFFIXES)
    finally:
        tmp_path.chmod(0o755)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_neither_replaced_nor_read(tmp_path, path, refused):
    os.mkfifo(path)
    with pytest.raises(FileError, match="is a device"):
        require_writable(path, SUFFIXES)
    refused("is not a file")
    assert path.is_fifo()


# Files that are no policy


def zeros(path, nb_bytes):
    with path.open("wb") as file:
        file.truncate(nb_bytes)


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "is not a file"),
        (lambda path: path.touch(), "is empty"),
        (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1"), "is not an HDF5 file"),
        (lambda path: path.write_bytes(b"PK\x03\x04"), "is not an HDF5 file"),
        (lambda path: zeros(path, 2**26 + 1), "is larger than 64 MiB"),
        (lambda path: h5py.File(path, "w").close(), "holds no 'layer_names'"),
        (lambda path: path.with_name("policy.h5.index").touch(), "is a TensorFlow checkpoint"),
    ],
)
def test_a_file_of_another_kind_is_refused(path, refused, make, found):
    make(path)
    refused(found)


def test_a_name_that_no_file_can_have_is_refused(tmp_path, refused):
    refused("cannot be read", tmp_path / ("x" * 300))
    refused("is not a file", Path(""))
    refused("does not exist", tmp_path / "policy.h5" / "x")


def test_a_policy_for_another_number_of_actions_is_refused_by_naming_both_and_the_game(policy, refused):
    refused(
        "values 4 actions of the game 'breakout', but 6 are needed",
        read=lambda p: load_policy(p, nb_actions=6),
    )


def test_networks_of_another_shape_are_refused(path, refused):
    keras_net(input_shape=(3, 84, 84)).save(path)
    refused("(8, 8, 3, 32) in array number 1, not (8, 8, 4, 32)")
    keras_net(input_shape=(4, 96, 96)).save(path)
    refused("in array number 7, not (3136, 512)")
    keras_net(input_shape=(4, 85, 86)).save(path)  # the same shapes of arrays as for 84x84
    refused("takes states of shape [4, 85, 86], not [4, 84, 84]")


def test_networks_with_other_layers_are_refused_by_name(path, refused):
    from keras import layers

    keras_net(head=[layers.Lambda(lambda q: q)]).save(path)
    refused("has the layers Permute, Conv2D, Conv2D, Conv2D, Flatten, Dense, Dense, Lambda, not Permute,")
    keras_net(head=[layers.Softmax()]).save(path)
    refused("Dense, Softmax, not")
    keras_net(head=[layers.Activation("softmax")]).save(path)
    refused("activation 'softmax' where q_values has 'linear'")


def test_a_keras_3_weights_file_is_named_as_such(tmp_path, refused):
    file = tmp_path / "x.weights.h5"
    keras_net().save_weights(file)
    refused("is a .weights.h5 file of Keras 3", file)
    refused('save that with model.save("policy.h5")', file)


def test_a_keras_file_is_named_as_such(tmp_path, refused):
    file = tmp_path / "x.keras"
    keras_net().save(file)
    refused("a zip file such as Keras 3's .keras: load it with keras.models.load_model() and save it", file)


def test_a_network_with_more_layers_names_them(path, refused):
    from keras import layers

    keras_net(head=[layers.BatchNormalization(), layers.Dense(4)]).save(path)
    refused("has the layers Permute, Conv2D, Conv2D, Conv2D, Flatten, Dense, Dense, BatchNormalization, Dense, not")
    save_weights(keras_net(head=[layers.Dense(4, name="fourth_dense")]), path)
    refused("fourth_dense")


def change_config(change):
    def apply(file):
        model = json.loads(file.attrs["model_config"])
        change(model, model["config"]["layers"])
        file.attrs["model_config"] = json.dumps(model)

    return apply


def set_layer(index, **settings):
    return change_config(lambda model, layers: layers[index]["config"].update(settings))


CONFIGS = {
    "other strides": (set_layer(2, strides=[1, 1]), "strides [1, 1] where conv1 has [4, 4]"),
    "other padding": (set_layer(3, padding="same"), "padding 'same' where conv2 has 'valid'"),
    "dilation": (set_layer(4, dilation_rate=[2, 2]), "dilation_rate [2, 2]"),
    "groups": (set_layer(3, groups=4), "groups 4 where conv2 has 1"),
    "channels first": (set_layer(2, data_format="channels_first"), "data_format 'channels_first'"),
    "flatten channels first": (
        set_layer(5, data_format="channels_first"),
        "a Flatten layer with data_format",
    ),
    "no relu": (set_layer(6, activation="linear"), "activation 'linear' where hidden has 'relu'"),
    "no activation": (
        change_config(lambda m, layers: layers[6]["config"].pop("activation")),
        "activation None",
    ),
    "function": (set_layer(6, activation={"class_name": "Lambda"}), "activation {'class_name': 'Lambda'}"),
    "other frame order": (set_layer(1, dims=[3, 2, 1]), "dims [3, 2, 1] where frames_last has [2, 3, 1]"),
    "other units": (set_layer(7, units=5), "units 5 where q_values has 4"),
    "missing layer": (change_config(lambda model, layers: layers.pop(1)), "has the layers Conv2D, "),
    "custom layer": (change_config(lambda m, layers: layers[1].update(class_name="\x1b[31m")), r"\x1b[31m"),
    "functional": (
        change_config(lambda model, _: model.update(class_name="Functional")),
        "'Functional' model",
    ),
    "no JSON": (lambda file: file.attrs.update(model_config="{"), "is damaged"),
    "no layers": (lambda file: file.attrs.update(model_config='{"class_name": "Sequential"}'), "is damaged"),
    "deep JSON": (lambda file: file.attrs.update(model_config="[" * 10**5), "is damaged"),
    "long JSON": (lambda file: file.attrs.update(model_config=" " * 2**21), "a text above"),
    "number": (lambda file: file.attrs.update(model_config=5), "in 'model_config'"),
    "pickle": (lambda file: file.attrs.update(model_config=np.void(b"\x80\x04K\x05.")), "in 'model_config'"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_file_that_describes_another_network_is_refused(policy, refused, name):
    change, found = CONFIGS[name]
    with h5py.File(policy, "r+") as file:
        change(file)
    refused(found)


def test_a_list_of_layers_as_old_keras_wrote_it_is_read(policy):
    with h5py.File(policy, "r+") as file:
        change_config(lambda model, layers: model.update(config=layers))(file)
    assert same(load_policy(policy).weights, random_weights())


# Files that mean harm


def put(array=None, **settings):
    """Puts another dataset in the place of the first kernel."""

    def apply(file):
        del file[KERNEL]
        file.create_dataset(KERNEL, data=array, **settings)

    return apply


def put_link(link):
    def apply(file):
        file.move(KERNEL, "elsewhere")
        file[KERNEL] = link

    return apply


def put_group_link(file):
    file.move("model_weights", "elsewhere")
    file["model_weights"] = h5py.SoftLink("/elsewhere")


def put_virtual(file):
    source = h5py.VirtualSource(".", "elsewhere", shape=SHAPES[0])
    layout = h5py.VirtualLayout(shape=SHAPES[0], dtype="f4")
    layout[:] = source
    file.move(KERNEL, "elsewhere")
    file.create_virtual_dataset(KERNEL, layout)


def put_external(file):
    secret = Path(file.filename).with_name("secret.bin")
    random_weights()[0].tofile(secret)
    put(shape=SHAPES[0], dtype="f4", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])(file)


def put_names(value):
    def apply(file):
        file["model_weights"].attrs["layer_names"] = value

    return apply


HUGE = (10**9, 10**3)
NOT_PLAIN = "does not hold the numbers of"
HOSTILE = {
    "external link": (put_link(h5py.ExternalLink("other.h5", KERNEL)), "behind a link"),
    "soft link": (put_link(h5py.SoftLink("/elsewhere")), "behind a link"),
    "linked group": (put_group_link, "behind a link"),
    "virtual dataset": (put_virtual, NOT_PLAIN),
    "external storage": (put_external, NOT_PLAIN),
    "compressed": (put(np.zeros(SHAPES[0], "f4"), compression="gzip"), NOT_PLAIN),
    "huge chunk": (
        put(shape=SHAPES[0], maxshape=(None,) * 4, chunks=(2**20, 8, 4, 16), dtype="f4"),
        NOT_PLAIN,
    ),
    "no storage": (put(shape=SHAPES[0], dtype="f4"), NOT_PLAIN),
    "huge shape": (put(shape=HUGE, dtype="f4", chunks=(1, 1)), "holds shape (1000000000, 1000)"),
    "no shape": (put(h5py.Empty("f4")), "holds shape None"),
    "integers": (put(np.zeros(SHAPES[0], "i4")), "holds int32"),
    "text": (put(np.full(SHAPES[0], b"1")), "not of numbers"),
    "compound": (put(np.zeros(SHAPES[0], [("a", "f4")])), "not of numbers"),
    "texts of any length": (put(shape=SHAPES[0], dtype=h5py.string_dtype()), "not of numbers"),
    "not finite": (put(np.full(SHAPES[0], np.inf, "f4")), "NaN or infinite"),
    "group for array": (lambda file: (file.pop(KERNEL), file.create_group(KERNEL)), "lacks the dataset"),
    "array for group": (put_names([KERNEL.removeprefix("model_weights/")]), "lacks the group"),
    "no array": (lambda file: file.pop(KERNEL), "lacks the dataset"),
    "empty name": (put_names([""]), "lacks the group"),
    "dots": (put_names(["..", "."]), "lacks the group"),
    "no names": (put_names(np.zeros(0)), "holds 0 arrays"),
    "long names": (put_names(["x" * 2**19] * 3), "more than 1048576 characters"),
    "many names": (put_names(["conv1"] * 65), "in 'layer_names'"),
    "numbers for names": (put_names([1, 2]), "in 'layer_names'"),
    "arrays for names": (
        put_names(np.array([np.arange(3), np.arange(2)], dtype=h5py.vlen_dtype("i4"))),
        "in 'layer_names'",
    ),
    "names that are no UTF-8": (put_names(np.array([b"\xff\xfe"])), "is damaged"),
    "repeated layers": (put_names(["conv1"] * 5), "in array number 3"),
    "many facts": (
        lambda file: [file.attrs.create(f"dqn_{i}", i) for i in range(300)],
        "more than 256 facts",
    ),
    "long fact": (lambda file: file.attrs.update(dqn_x="x" * 2**21), "a text above"),
    "array for fact": (lambda file: file.attrs.update(dqn_x=np.zeros(9)), "in 'dqn_x'"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused(tmp_path, policy, policy_bytes, refused, name):
    (tmp_path / "other.h5").write_bytes(policy_bytes)
    change, found = HOSTILE[name]
    with h5py.File(policy, "r+", libver="latest") as file:
        change(file)
    refused(found)


def break_heap_size(data, heap):
    data[heap + 8 : heap + 16] = (2**40).to_bytes(8, "little")


def break_text_size(data, heap):
    data[heap + 24 : heap + 32] = (2**40).to_bytes(8, "little")


def make_text_free_space(data, heap):
    data[heap + 16 : heap + 18] = bytes(2)  # its size is that of a short text, less than its own header


def make_free_space_endless(data, heap):
    place = heap + 16
    while data[place]:  # texts: a header of 16 bytes, and content padded to 8
        place += 16 + (data[place + 8] + 7) // 8 * 8
    data[place + 8 : place + 16] = bytes(8)  # HDF5 1.14 loops forever in a free space of size 0


HEAP_DAMAGE = [break_heap_size, break_text_size, make_text_free_space, make_free_space_endless]


@pytest.mark.parametrize("damage", HEAP_DAMAGE)
def test_a_broken_heap_of_texts_is_refused_before_hdf5_reads_it(policy, refused, damage):
    data = bytearray(policy.read_bytes())
    damage(data, data.index(b"GCOL\x01"))
    policy.write_bytes(data)
    refused("is damaged or cut short, or holds a text above 1048576 bytes")


def claim_length(length):
    def apply(data, reference):
        data[reference : reference + 4] = length.to_bytes(4, "little")

    return apply


def claim_length_nowhere(data, reference):
    data[reference : reference + 12] = b"\xff" * 4 + (4096).to_bytes(8, "little")


def claim_another_text(data, reference):
    data[reference + 12 : reference + 16] = (2**20).to_bytes(4, "little")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="tells no peak of memory")
@pytest.mark.parametrize("text", ["short", "x" * (2**20 - 100)], ids=["short", "long"])
@pytest.mark.parametrize(
    "lie", [claim_length(2**32 - 1), claim_length(1), claim_length(6), claim_length_nowhere, claim_another_text]
)
def test_a_text_that_is_not_as_long_as_the_file_says_is_refused_before_memory_is_taken(policy, lie, text):
    with h5py.File(policy, "r+") as file:
        file.attrs["dqn_x"] = text
    data = bytearray(policy.read_bytes())
    lie(data, data.index(len(text).to_bytes(4, "little"), data.index(b"dqn_x\0")))
    policy.write_bytes(data)
    script = (
        "import re, sys; from pathlib import Path; from models.policy_file import PolicyFileError, load_policy\n"
        "try: load_policy(sys.argv[1])\n"
        "except PolicyFileError as error: print(error)\n"
        "print(int(re.search(r'VmHWM:\\s+(\\d+) kB', Path('/proc/self/status').read_text())[1]))"
    )
    root = Path(__file__).parent.parent
    message, peak = subprocess.run(
        [sys.executable, "-c", script, policy], cwd=root, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert "is damaged: a text is not where or as long as the file says; expected" in message
    assert int(peak) < 500_000  # kB; all of the lies together are 4 GiB


@pytest.mark.parametrize("libver", ["earliest", "v108", "latest"])
@pytest.mark.parametrize("number", [1, 50])
def test_texts_of_any_length_are_read_wherever_hdf5_keeps_them(path, libver, number):
    facts = {f"dqn_{name}": f"Müller {name}" * name for name in range(number)}
    with h5py.File(path, "w", libver=libver) as file:
        file.attrs.update(facts)
        file.attrs["dqn_0"] = "changed"
        for name, kernel, bias in zip("abcde", random_weights()[::2], random_weights()[1::2], strict=True):
            group = file.create_group(name)
            file.attrs["layer_names"] = list("abcde"[: len(file)])
            group["b"], group["k"] = bias, kernel
            group.attrs["a list of names"] = [name, "other"]
        for name in "abcde":  # the same attribute of the same shape in every layer, with other texts in each
            file[name].move("k", f"kernel {name}")
            file[name].attrs["weight_names"] = [f"kernel {name}", "b"]
    policy = load_policy(path)
    assert same(policy.weights, random_weights())
    assert policy.facts == {**{name[4:]: text for name, text in facts.items()}, "0": "changed"}


def test_a_file_cut_off_anywhere_is_refused(policy, refused):
    data = policy.read_bytes()
    cuts = {1, 7, 8, 9, 95, 96, 97, *range(100, 4000, 371), *range(5000, len(data), 700_001), len(data) - 1}
    for cut in sorted(cuts):
        policy.write_bytes(data[:cut])
        refused("is not an HDF5 file" if cut < 8 else "is damaged or cut short")


def test_a_file_with_damaged_bytes_is_read_or_refused_but_breaks_nothing(policy):
    data = bytearray(policy.read_bytes())
    with h5py.File(policy) as file:
        datasets = []
        file.visititems(lambda _, each: datasets.append(each) if isinstance(each, h5py.Dataset) else None)
        spans = [(each.id.get_offset(), each.nbytes) for each in datasets]
    is_metadata = np.ones(len(data), bool)
    for start, length in spans:
        is_metadata[start : start + length] = False
    generator = np.random.default_rng(0)
    outcomes = set()
    for place in generator.choice(np.flatnonzero(is_metadata), 100, replace=False):
        damaged = data.copy()
        damaged[place] ^= 1 << int(generator.integers(8))
        policy.write_bytes(damaged)
        try:
            load_policy(policy)
            outcomes.add("read")
        except PolicyFileError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


# Weights of any model (models/layer_weights.py)


def cartpole_net(units=16):
    import keras
    from keras import layers

    # Keras 2 lists what can be trained first, so the arrays of `inner` are not stored layer by layer.
    batch_norm = layers.BatchNormalization()
    inner = keras.Sequential([keras.Input((units,)), layers.Dense(6), batch_norm, layers.Dense(6)])
    return keras.Sequential(
        [
            keras.Input((1, 4)),
            layers.Flatten(),
            layers.Dense(units),
            layers.Activation("relu"),
            layers.BatchNormalization(),
            inner,
            layers.Dense(2),
        ]
    )


def branched_net():
    import keras
    from keras import layers

    action, observation = keras.Input((2,)), keras.Input((1, 3))
    x = layers.Concatenate()([action, layers.Flatten()(observation)])
    return keras.Model([action, observation], layers.Dense(1)(layers.Dense(8, activation="relu")(x)))


def randomize(model, seed=0):
    generator = np.random.default_rng(seed)
    model.set_weights([generator.random(each.shape).astype(np.float32) for each in model.get_weights()])
    return model


@pytest.mark.parametrize("net", [cartpole_net, branched_net])
@pytest.mark.parametrize("name", ["w.h5", "w.h5f", "w", "w.weights.h5"])
def test_weights_of_any_model_come_back_bit_for_bit_under_any_name(tmp_path, net, name):
    model = randomize(net())
    save_weights(model, tmp_path / name)
    other = net()
    load_weights(other, tmp_path / name)
    assert same(other.get_weights(), model.get_weights())
    assert names_in(tmp_path) == [name]


@pytest.mark.parametrize("name", ["w.h5", "w.weights.h5"])
def test_keras_itself_loads_the_weights(tmp_path, name):
    model, other = randomize(cartpole_net()), cartpole_net()
    save_weights(model, tmp_path / name)
    other.load_weights(tmp_path / name)
    assert same(other.get_weights(), model.get_weights())


def test_weights_are_loaded_from_whole_model_files(tmp_path, policy):
    model, other = randomize(cartpole_net()), cartpole_net()
    model.compile("adam", "mse")
    model.save(tmp_path / "model.h5")
    load_weights(other, tmp_path / "model.h5")
    assert same(other.get_weights(), model.get_weights())
    net = keras_net(activation_layers=True)
    load_weights(net, policy)
    assert same(net.get_weights(), random_weights())


def test_big_endian_weights_are_loaded_in_the_byte_order_of_this_machine(tmp_path):
    model, other = randomize(branched_net()), branched_net()
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.attrs["layer_names"] = ["first", "second"]
        for name, layer in zip(("first", "second"), model.layers[-2:], strict=True):
            file.create_group(name).attrs["weight_names"] = ["kernel:0", "bias:0"]
            for part, array in zip(("kernel:0", "bias:0"), layer.get_weights(), strict=True):
                file[name][part] = array.astype(">f4")
    load_weights(other, tmp_path / "w.h5")
    assert same(other.get_weights(), model.get_weights())
    with reading(tmp_path / "w.h5", max_bytes=2**20, expected="") as file:
        assert read_array(file["second/bias:0"], (1,)).dtype == np.float32


def test_bfloat16_weights_are_stored_as_float32(tmp_path):
    import keras
    from keras import layers

    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, dtype="bfloat16", name="dense")])
    save_weights(model, tmp_path / "w.h5")
    with h5py.File(tmp_path / "w.h5") as file:
        kernel = file["dense/" + file["dense"].attrs["weight_names"][0].decode()]
        assert kernel.name.endswith("kernel:0")
        assert kernel.dtype == np.float32
        np.testing.assert_array_equal(kernel[()], model.get_weights()[0].astype(np.float32))
    before = model.get_weights()
    load_weights(model, tmp_path / "w.h5")
    assert same(model.get_weights(), before)


@pytest.mark.parametrize(
    "change",
    [
        lambda group: group.update({"0": h5py.ExternalLink("other.weights.h5", "/layers/dense/vars/0")}),
        lambda group: group.update({"0": h5py.SoftLink("/layers/dense/vars/1")}),
        lambda group: group.create_dataset("0", (2**20, 2**10), "f4"),
        lambda group: group.create_dataset("0", (2**20, 2**10), "f4", chunks=(2**10, 2**10), compression="gzip"),
        lambda group: group.create_dataset("0", (2, 2), "f4", external=[("/dev/zero", 0, 16)]),
        lambda group: group.create_dataset("0", data=["text"] * 6),
        lambda group: group.create_dataset("0", data=h5py.Empty("f4")),
    ],
    ids=["external link", "soft link", "no storage", "chunks", "external storage", "text", "nothing"],
)
def test_a_hostile_weights_file_of_keras_3_is_refused_and_changes_nothing(tmp_path, refused, change):
    import keras
    from keras import layers

    model = randomize(keras.Sequential([keras.Input((3,)), layers.Dense(2, name="dense")]))
    for name in ("w.weights.h5", "other.weights.h5"):
        model.save_weights(tmp_path / name)
    with h5py.File(tmp_path / "w.weights.h5", "r+") as file:
        del file["layers/dense/vars/0"]
        change(file["layers/dense/vars"])
    randomize(model, seed=1)
    before = model.get_weights()
    refused("", tmp_path / "w.weights.h5", lambda path: load_weights(model, path))
    assert same(model.get_weights(), before)


def test_bfloat16_weights_come_back_from_a_weights_file_of_keras_3(tmp_path):
    import keras
    from keras import layers

    model = randomize(keras.Sequential([keras.Input((3,)), layers.Dense(2, dtype=keras.DTypePolicy("bfloat16"))]))
    before = model.get_weights()
    save_weights(model, tmp_path / "w.weights.h5")
    load_weights(randomize(model, seed=1), tmp_path / "w.weights.h5")
    assert same(model.get_weights(), before)


@pytest.mark.parametrize("name", ["w.h5", "w.weights.h5"])
def test_weights_of_another_model_are_refused_and_change_nothing(tmp_path, refused, name):
    model = randomize(cartpole_net(), seed=1)
    before = model.get_weights()
    for other in (branched_net(), cartpole_net(units=17)):
        save_weights(randomize(other), tmp_path / name)
        refused("holds ", tmp_path / name, read=lambda path: load_weights(model, path))
        assert same(model.get_weights(), before)


def test_another_number_of_arrays_in_a_layer_is_refused(tmp_path, refused):
    import keras
    from keras import layers

    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, use_bias=False)])
    other = keras.Sequential([keras.Input((3,)), layers.Dense(2, name="with_bias")])
    save_weights(other, tmp_path / "w.h5")
    found = "holds 2 arrays for its layer 'with_bias'"
    refused(found, tmp_path / "w.h5", lambda path: load_weights(model, path))


def test_a_keras_3_weights_file_under_another_name_says_so(tmp_path, refused):
    model = cartpole_net()
    model.save_weights(tmp_path / "w.weights.h5")
    (tmp_path / "w.weights.h5").rename(tmp_path / "w.h5")
    found = "needs a name that ends in .weights.h5"
    refused(found, tmp_path / "w.h5", lambda path: load_weights(model, path))


def test_damaged_and_missing_weights_files_are_refused(tmp_path, refused):
    model = randomize(cartpole_net())
    for name in ("w.h5", "w.weights.h5"):
        file = tmp_path / name
        refused("does not exist", file, lambda path: load_weights(model, path))
        save_weights(model, file)
        file.write_bytes(file.read_bytes()[:-100])
        refused("is damaged", file, lambda path: load_weights(model, path))


def test_models_whose_weights_the_file_has_no_place_for_are_refused(tmp_path):
    import keras
    from keras import layers

    with pytest.raises(PolicyFileError, match="has no weights yet; build it"):
        save_weights(keras.Sequential([layers.Dense(2)]), tmp_path / "w.h5")
    model = cartpole_net()
    model.add_weight(shape=(2,), name="loose")
    with pytest.raises(PolicyFileError, match="outside its layers"):
        save_weights(model, tmp_path / "w.h5")
    assert names_in(tmp_path) == []


def test_a_full_disk_leaves_the_old_weights(tmp_path, monkeypatch):
    save_weights(randomize(cartpole_net()), tmp_path / "w.h5")
    before = (tmp_path / "w.h5").read_bytes()
    monkeypatch.setattr(os, "replace", no_space)
    with pytest.raises(FileError, match="No space left"):
        save_weights(randomize(cartpole_net(), seed=1), tmp_path / "w.h5")
    assert (tmp_path / "w.h5").read_bytes() == before
    assert names_in(tmp_path) == ["w.h5"]
