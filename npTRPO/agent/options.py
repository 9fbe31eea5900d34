"""The options of :class:`npTRPO.TRPO` as keyword arguments, for type checkers and editors."""

from collections.abc import Mapping
from typing import Any, TypedDict


class TRPOOptions(TypedDict, total=False):
    """Every field of :class:`npTRPO.TRPOConfig`, where their meanings are, with its type."""

    n_envs: int
    vectorization_mode: str | None
    n_shards: int | None
    n_steps: int | None
    gamma: float
    gae_lambda: float
    normalize_advantage: bool
    normalize_observations: bool
    normalize_rewards: bool
    info_keys: tuple[str, ...]
    discounted_states: bool
    target_kl: float
    cg_max_steps: int | None
    cg_damping: float
    cg_rtol: float
    cg_beta: str
    cg_preconditioner: str
    damped_step: bool
    line_search_shrinking_factor: float
    line_search_max_iter: int
    sub_sampling_factor: int
    value_fit: str
    n_critic_updates: int | None
    learning_rate: float
    batch_size: int
    net_arch: tuple[int, ...] | Mapping[str, tuple[int, ...]]
    activation_fn: str
    log_std_init: float
    ortho_init: bool
    state_dependent_std: bool
    distribution: str | None
    rescale_actions: bool
    mask_actions: bool
    dtype: str
    checkpoint_interval: int | None
    seed: int | None


class TRPOArguments(TRPOOptions, total=False):
    """The options, and arguments of Stable-Baselines3's that have but one possible value."""

    use_sde: bool
    sde_sample_freq: int
    rollout_buffer_class: None
    rollout_buffer_kwargs: Mapping[str, Any] | None
    stats_window_size: int
    device: Any
    _init_setup_model: bool


class LoadArguments(TRPOOptions, total=False):
    """The options, and Stable-Baselines3's arguments of ``load``."""

    print_system_info: bool
    force_reset: bool
