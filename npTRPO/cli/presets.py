"""``nptrpo presets``: list the settings that train uses for known environments."""

import argparse

from npTRPO.cli.config_flags import as_flags


def list_presets(_: argparse.Namespace) -> int:
    """Print each preset as a command, and return the exit status."""
    from npTRPO.runs.presets import presets

    for env_id, settings in presets().items():
        print(f"nptrpo train {env_id} {as_flags(settings)}")
    return 0
