"""Policies and baselines on bars that nobody trained on."""
