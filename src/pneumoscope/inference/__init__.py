"""Radiograph -> Prediction."""
