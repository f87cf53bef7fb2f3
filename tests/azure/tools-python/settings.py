"""pydantic-settings, unmodified: a program's settings are a vault's secrets."""

from azure.identity import DefaultAzureCredential
from azure.keyvault.secrets import SecretClient
from pydantic import BaseModel, SecretStr
from pydantic_settings import AzureKeyVaultSettingsSource, BaseSettings

from checks import RUN, URL, check

PREFIX = f"settings-{RUN}-"
SECRETS = {"user": "reader", "database--password": "hüh 1", "database--port": "5432"}


class Database(BaseModel):
    password: SecretStr
    port: int


class Settings(BaseSettings):
    user: str
    database: Database

    @classmethod
    def settings_customise_sources(cls, settings_cls, *sources, **more):
        return (AzureKeyVaultSettingsSource(settings_cls, URL, DefaultAzureCredential(), env_prefix=PREFIX),)


def run() -> None:
    client = SecretClient(URL, DefaultAzureCredential())

    def put() -> None:
        for name, value in SECRETS.items():
            client.set_secret(PREFIX + name, value)
        # More than one page of names, so that the list has to be read to its end.
        for number in range(25):
            client.set_secret(f"{PREFIX}aside{number}", "x")

    def read() -> None:
        settings = Settings()
        assert settings.user == "reader"
        assert settings.database.password.get_secret_value() == "hüh 1"
        assert settings.database.port == 5432

    def disabled() -> None:
        client.update_secret_properties(f"{PREFIX}user", enabled=False)
        try:
            Settings()
        except ValueError as error:
            assert "user" in str(error), error
        else:
            raise AssertionError("a disabled secret was read")

    def purge() -> None:
        for secret in list(client.list_properties_of_secrets()):
            if secret.name.startswith(PREFIX):
                client.begin_delete_secret(secret.name, _polling_interval=0.05).wait()
                client.purge_deleted_secret(secret.name)

    check("pydantic-settings: secrets are set", put)
    check("pydantic-settings: the settings are read, nested ones too", read)
    check("pydantic-settings: a disabled secret is no setting", disabled)
    check("pydantic-settings: what was made is purged", purge)
