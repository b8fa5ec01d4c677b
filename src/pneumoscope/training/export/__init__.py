"""Keras model -> model file."""
