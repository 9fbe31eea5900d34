"""setuptools, but that what a source distribution has is written in this directory and not in the topmost."""

from setuptools.build_meta import *  # noqa: F403
from setuptools.command.egg_info import manifest_maker

manifest_maker.template = ".ci/MANIFEST.in"
