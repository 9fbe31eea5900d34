"""Conversion of arguments in Stable-Baselines3's form into a config."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from npTRPO.agent.config import TRPOConfig

# What policy_kwargs may hold that is code, and so can't be kept in a file.
_OWN_CODE = ("network", "distribution")

_IN_POLICY_KWARGS = (
    "net_arch",
    "activation_fn",
    "log_std_init",
    "ortho_init",
    "distribution",
    "state_dependent_std",
)

# Options that can't be changed later, as what was learned, or the seed, depends on them.
_INBORN = (*_IN_POLICY_KWARGS, "rescale_actions", "mask_actions", "normalize_observations", "dtype", "seed")

# Arguments of Stable-Baselines3's with their only possible values, as strings, and why there are no others.
_ONLY: dict[str, tuple[tuple[str, ...], str]] = {
    "device": (("'auto'", "'cpu'"), "everything runs on the processor"),
    "rollout_buffer_class": (("None",), "a batch is a frozen npTRPO.sampling.Batch"),
    "rollout_buffer_kwargs": (("None", "{}"), "a batch is a frozen npTRPO.sampling.Batch"),
    "stats_window_size": (("100",), "the log's means are those of the last 100 episodes"),
    "custom_objects": (("None", "{}"), "nothing in a file is unpickled; options are given by name"),
    "print_system_info": (("False",), "the file's own header has its versions"),
    "force_reset": (("True",), "learning goes on with a reset"),
    "_init_setup_model": (("True",), "networks are made with the agent"),
}


def config_and_code(
    policy: Any,
    config: TRPOConfig | None,
    policy_kwargs: Mapping[str, Any] | None,
    options: Mapping[str, Any],
    improve: Any = None,
) -> tuple[TRPOConfig, dict[str, Any]]:
    """Return the config that the arguments of ``TRPO()`` ask for, and the code of one's own among them.

    Raises
    ------
    ValueError, TypeError, NotImplementedError
        For arguments that are unknown, impossible or contradict each other.
    """
    if policy not in ("MlpPolicy", "MultiInputPolicy"):
        hint = "; for images, give a network of your own: policy_kwargs=dict(network=...)"
        hint = hint if policy == "CnnPolicy" else ""
        raise ValueError(f"policy must be 'MlpPolicy' or 'MultiInputPolicy', not {policy!r}{hint}")
    if config is not None and not isinstance(config, TRPOConfig):
        raise TypeError(f"config must be a TRPOConfig, not {config!r}; options are given by name")
    options = checked_options(options)
    given = dict(policy_kwargs or {})
    code = {name: given.pop(name) for name in _OWN_CODE if callable(given.get(name))} | own_update(improve)
    if config is None:
        return TRPOConfig.from_dict({**options, **_policy_options(given)}), code
    if options or given:
        raise TypeError("give a config or options, not both")
    return config, code


def own_update(improve: Any) -> dict[str, Any]:
    """Return an update of one's own, if it is given, as code that no file holds.

    Raises
    ------
    TypeError
        If it can't be called.
    """
    if improve is not None and not callable(improve):
        raise TypeError(f"improve must be a function of an objective and θ, not {improve!r}")
    return {} if improve is None else {"improve": improve}


def checked_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options without those of Stable-Baselines3 that have only one possible value here.

    Raises
    ------
    ValueError
        If one of these has another value.
    NotImplementedError
        For state-dependent exploration.
    TypeError
        For a schedule.
    """
    for name in _ONLY.keys() & options.keys():
        possible, reason = _ONLY[name]
        given = str(options[name])  # as that of a torch.device is its name
        if given not in possible and repr(given) not in possible:
            raise ValueError(f"{name} must be {' or '.join(possible)}, as {reason}, not {options[name]!r}")
    if options.get("use_sde"):
        raise NotImplementedError("use_sde=True isn't supported: exploration noise is drawn at every step")
    if callable(options.get("learning_rate")):
        raise TypeError(
            "learning_rate must be a number, as a schedule is code, which no file holds. A way out: "
            "omit it, as the default value_fit needs none; or give a number, for value_fit='adam'"
        )
    needless = (*_ONLY, "use_sde", "sde_sample_freq")
    return {name: value for name, value in options.items() if name not in needless}


def _policy_options(policy_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config's options in ``policy_kwargs``; a class of torch.nn stands for its activation."""
    for key, value in policy_kwargs.items():
        if key not in _IN_POLICY_KWARGS:
            if key in _OWN_CODE:
                raise TypeError(f"{key} must be a factory, as Policy.for_spaces describes it, not {value!r}")
            possible = ", ".join(dict.fromkeys(_IN_POLICY_KWARGS + _OWN_CODE))
            raise TypeError(f"{key!r} is no option in policy_kwargs; the options are {possible}")
    options = dict(policy_kwargs)
    match options.get("net_arch"):
        case [dict(both)]:  # as it was written before Stable-Baselines3 1.8
            options["net_arch"] = both
    activation = options.get("activation_fn")
    if isinstance(activation, type) and activation.__module__.startswith("torch.nn."):
        options["activation_fn"] = activation.__name__.lower()
    return options


def changed(config: TRPOConfig, options: Mapping[str, Any]) -> TRPOConfig:
    """Return the config of an agent that goes on with other options.

    Raises
    ------
    TypeError
        For an option that can't be changed, or is none.
    """
    for name in options:
        if name in _INBORN:
            raise TypeError(f"{name} can't be changed: the agent was made with {getattr(config, name)!r}")
    TRPOConfig.from_dict(options)  # names what is no option
    return dataclasses.replace(config, **options)
