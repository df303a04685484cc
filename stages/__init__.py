"""One module per DVC stage: read parameters, call the packages, write outputs."""
