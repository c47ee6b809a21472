"""Flower's two sides, training with Tenon."""
