"""From a YAML file and the environment to validated, immutable settings."""
