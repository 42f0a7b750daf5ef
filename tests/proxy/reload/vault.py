"""A plugin for tests whose secret stands under a harmless name."""

from pydantic import Field, SecretStr

from proxy.plugin import Plugin, PluginConfig


class VaultConfig(PluginConfig):
    dsn: SecretStr | None = Field(None, description="Where it is, with its password.")


class VaultPlugin(Plugin[VaultConfig]):
    name = "vault"
