"""The stages of dvc.yaml, a module each: read parameters, call the packages, write outputs."""

import pipeline  # noqa: F401 - before slow imports: it records which process started the stage
