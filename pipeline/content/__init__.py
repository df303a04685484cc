"""Everything that can change a byte of an output: seeds, batches, files, tables, stores, types of arrays."""
