"""The stages of dvc.yaml, a module each: read parameters, call the packages, write outputs."""

import pipeline  # noqa: F401 - before all that takes seconds to import: it remembers who started the stage
