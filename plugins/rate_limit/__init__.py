"""The plugin that limits how much callers may ask for; its class is in `plugin`."""
