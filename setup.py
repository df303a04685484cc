"""What a wheel holds: all packages stand below `zprime`, so that an installation takes no other name."""

from setuptools import find_packages, setup

# As in zprime/packages, which cannot be imported here.
NAMES = ("classifiers", "data", "generators", "pipeline", "stages")
INNER = find_packages(include=[pattern for name in NAMES for pattern in (name, f"{name}.*")])

setup(
    packages=["zprime", "zprime.packages", *(f"zprime.packages.{package}" for package in INNER)],
    package_dir={f"zprime.packages.{name}": name for name in NAMES},
    package_data={"": ["py.typed", "**/*.j2", "**/*.css"]},
)
