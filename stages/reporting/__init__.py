"""Reports: the figures, tables and texts of out/report and docs/results.md."""
