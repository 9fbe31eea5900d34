import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npTRPO import TRPO, TRPOConfig
from tests.strategies import RIGHT_OPTIONS, WRONG_OPTIONS

# Every option, and the kind of its values; the choices of those that have some.
KINDS = {
    "n_envs": "copies",
    "vectorization_mode": (None, "sync", "async", "vector_entry_point"),
    "n_shards": "count or None",
    "n_steps": "count or None",
    "gamma": "fraction",
    "gae_lambda": "fraction",
    "normalize_advantage": "bool",
    "normalize_observations": "bool",
    "normalize_rewards": "bool",
    "info_keys": "keys",
    "discounted_states": "bool",
    "target_kl": "positive",
    "cg_max_steps": "count or None",
    "cg_damping": "not negative",
    "cg_rtol": "not negative",
    "cg_beta": ("fletcher-reeves", "polak-ribiere"),
    "cg_preconditioner": ("kronecker", "identity"),
    "damped_step": "bool",
    "line_search_shrinking_factor": "inside",
    "line_search_max_iter": "count",
    "sub_sampling_factor": "count",
    "value_fit": ("trust_region", "lbfgs", "adam"),
    "n_critic_updates": "count or None",
    "learning_rate": "positive",
    "batch_size": "count",
    "net_arch": "widths",
    "activation_fn": ("relu", "sigmoid", "silu", "tanh"),
    "log_std_init": "number",
    "ortho_init": "bool",
    "state_dependent_std": "bool",
    "distribution": (None, "beta"),
    "rescale_actions": "bool",
    "mask_actions": "bool",
    "dtype": ("float32", "float64"),
    "checkpoint_interval": "count or None",
    "seed": "seed",
}
every_option = pytest.mark.parametrize("name", KINDS)


def right(name):
    kind = KINDS[name]
    return st.sampled_from(kind) if isinstance(kind, tuple) else RIGHT_OPTIONS[kind]


def wrong(name):
    return WRONG_OPTIONS["choice" if isinstance(KINDS[name], tuple) else KINDS[name]]


def as_tuples(value):
    """What the config makes of lists."""
    if isinstance(value, dict):
        return {key: tuple(part) for key, part in value.items()}
    return tuple(value) if isinstance(value, list) else value


configs = st.fixed_dictionaries({}, optional={name: right(name) for name in KINDS})


def test_these_are_all_options():
    assert [field.name for field in dataclasses.fields(TRPOConfig)] == list(KINDS)


@every_option
@given(st.data())
def test_a_possible_value_is_taken_as_it_is(name, data):
    value = data.draw(right(name))
    taken = getattr(TRPOConfig(**{name: value}), name)
    assert taken == as_tuples(value)
    assert type(taken) is type(as_tuples(value))


@every_option
@given(st.data())
def test_an_impossible_value_is_refused_with_the_option_and_what_it_must_be(name, data):
    with pytest.raises(ValueError, match=rf"^{name} must be .*, but it is "):
        TRPOConfig(**{name: data.draw(wrong(name))})


@pytest.mark.parametrize(
    ("name", "given_value", "kept"),
    [
        ("n_envs", np.int64(3), 3),
        ("n_steps", np.uint8(200), 200),
        ("gamma", np.float64(0.5), 0.5),
        ("gamma", np.float32(0.25), 0.25),
        ("gamma", np.array(0.5), 0.5),
        ("seed", np.int32(7), 7),
        ("ortho_init", np.bool_(False), False),
        ("dtype", np.str_("float64"), "float64"),
        ("net_arch", [np.int64(8), 4], (8, 4)),
        ("net_arch", {"pi": [np.int64(8)], "vf": ()}, {"pi": (8,), "vf": ()}),
    ],
    ids=repr,
)
def test_numpy_scalars_are_python_numbers(name, given_value, kept):
    taken = getattr(TRPOConfig(**{name: given_value}), name)
    assert taken == kept
    assert json.loads(json.dumps(TRPOConfig(**{name: given_value}).to_dict()))[name] == (
        list(kept) if isinstance(kept, tuple) else json.loads(json.dumps(kept))
    )


@given(configs)
def test_a_config_goes_through_json_and_back(options):
    config = TRPOConfig(**options)
    assert TRPOConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@every_option
def test_a_misspelt_option_is_refused_with_the_nearest_one(name):
    for misspelt in (name[:-1], name[1:], name + name[-1], name.replace("_", "-") + "_"):
        with pytest.raises(TypeError, match=rf"'{misspelt}' is no option of TRPO; did you mean '{name}'\?"):
            TRPOConfig.from_dict({misspelt: 1})


def test_an_unknown_option_that_is_near_none_is_refused_with_all_of_them():
    with pytest.raises(TypeError, match=r"'xyzzy' is no option of TRPO; the options are n_envs, .*, seed"):
        TRPO("MlpPolicy", "CartPole-v1", xyzzy=1)


def test_a_config_is_frozen():
    config = TRPOConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.gamma = 0.5


def test_what_was_given_may_change_afterwards():
    widths = {"pi": [8], "vf": [4]}
    config = TRPOConfig(net_arch=widths)
    widths["pi"].append(99)
    widths["vf"] = []
    assert (config.policy_arch, config.value_arch) == ((8,), (4,))
    config.to_dict()["net_arch"]["pi"].append(99)
    assert config.policy_arch == (8,)


@every_option
def test_the_documentation_names_each_option_with_its_default_and_its_meaning(name):
    field = next(field for field in dataclasses.fields(TRPOConfig) if field.name == name)
    assert f"    {name} : {field.type}, default {field.default!r}\n" in TRPOConfig.__doc__
    meaning = field.metadata["meaning"]
    assert f"        {meaning}\n" in TRPOConfig.__doc__
    assert meaning.endswith((".", ")"))
    assert len(meaning.split()) >= 3


def test_all_defaults_are_possible_and_normalisation_is_on():
    assert TRPOConfig().normalize_observations
    assert TRPOConfig().normalize_rewards
    assert TRPOConfig() == TRPOConfig(**{f.name: f.default for f in dataclasses.fields(TRPOConfig)})


@pytest.mark.parametrize("arch", [(), (8,), (8, 4)])
def test_one_architecture_is_for_policy_and_value_function(arch):
    config = TRPOConfig(net_arch=arch)
    assert (config.policy_arch, config.value_arch) == (arch, arch)


@pytest.mark.parametrize(("n_envs", "steps"), [(1, 2048), (8, 256), (1000, 3), (2048, 1), (5000, 1)])
def test_the_usual_batch_is_the_smallest_multiple_of_the_environments_from_2048_on(n_envs, steps):
    assert TRPOConfig().steps_per_env(n_envs) == steps
    assert TRPOConfig(n_steps=7).steps_per_env(n_envs) == 7


@pytest.mark.parametrize(("fit", "usual"), [("trust_region", 2), ("lbfgs", 20), ("adam", 10)])
def test_each_value_fit_has_its_usual_number_of_steps(fit, usual):
    assert f"{usual} " in TRPOConfig.__doc__.split("n_critic_updates")[1].split("learning_rate")[0]
    assert TRPOConfig(value_fit=fit).value_steps == usual
    assert TRPOConfig(value_fit=fit, n_critic_updates=3).value_steps == 3
