"""Curves, alerts and files of a training: on the disk always, and where a person wants them."""
