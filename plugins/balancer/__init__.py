"""The plugin that orders the candidates of a request; its class is in `plugin`."""
