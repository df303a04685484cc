"""Inputs, paths and file schemas that several stages share."""
