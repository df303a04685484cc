"""What can change a byte of an output: seeds, groups, batches, files, tables, stores, pictures, tensors."""
