"""Hydra groups: each YAML file holds only what differs from the dataclass defaults."""
