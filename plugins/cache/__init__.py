"""The plugin that answers repeated requests by itself; its class is in `plugin`."""
