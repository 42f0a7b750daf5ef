"""The plugin that gives clients keys of this proxy's own; its class is in `plugin`."""
