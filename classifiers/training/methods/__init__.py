"""The training methods, a module each; `classifiers.training.method_settings` has their settings."""
