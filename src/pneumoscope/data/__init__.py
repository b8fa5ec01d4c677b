"""Labelled radiographs."""
