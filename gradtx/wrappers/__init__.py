"""Wrappers: transformations that contain another transformation and change when or how it is applied."""
