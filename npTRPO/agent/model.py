"""The model: all that learning leaves as it is."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, SupportsIndex

from npTRPO.agent.config import TRPOConfig
from npTRPO.policies.mlp import MLP
from npTRPO.policies.network import FunctionNetwork, Network
from npTRPO.policies.policy import Policy
from npTRPO.policies.spaces import Space


@dataclass(frozen=True)
class Model:
    """Everything that learning leaves as it is.

    Attributes
    ----------
    policy : Policy
        The family of distributions over actions.
    value_network : Network
        From encoded observations to one output, the value.
    config : TRPOConfig
        The algorithm's options.
    own : dict
        ``network`` and ``distribution``, factories of one's own; ``improve``, a function in place of the
        update; or none of them. A model that has some is pickled as these, and made anew by them, so that it
        is they that must be found by their names.
    """

    policy: Policy
    value_network: Network
    config: TRPOConfig
    own: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def for_spaces(
        cls, observation_space: Space, action_space: Space, config: TRPOConfig, own: Mapping[str, Any]
    ) -> Self:
        """Make policy and value network for a pair of Gymnasium spaces.

        Parameters
        ----------
        observation_space, action_space : gymnasium.Space
            Of one environment.
        config : TRPOConfig
            The algorithm's options.
        own : dict
            As in the attribute; the value network comes from the same factory as the policy's, with one
            output.

        Raises
        ------
        NotImplementedError
            For a space that isn't supported.
        """
        in_policy = {name: made for name, made in own.items() if name != "improve"}
        policy = Policy.for_spaces(
            observation_space,
            action_space,
            net_arch=config.policy_arch,
            activation_fn=config.activation_fn,
            log_std_init=config.log_std_init,
            ortho_init=config.ortho_init,
            rescale_actions=config.rescale_actions,
            mask_actions=config.mask_actions,
            state_dependent_std=config.state_dependent_std,
            **{"distribution": config.distribution, **in_policy},
        )
        value_network: Network
        if "network" in own:
            value_network = FunctionNetwork.made_by(own["network"], policy.n_features, 1)
        else:
            sizes = (policy.n_features, *config.value_arch, 1)
            value_network = MLP(sizes, config.activation_fn, orthogonal=config.ortho_init)
        return cls(policy, value_network, config, dict(own))

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        if not self.own:
            return super().__reduce_ex__(protocol)
        spaces = self.policy.observation_space, self.policy.action_space
        return Model.for_spaces, (*spaces, self.config, self.own)
