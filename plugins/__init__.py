"""The built-in plugins. Each is found by its name and uses only what every plugin may use."""
