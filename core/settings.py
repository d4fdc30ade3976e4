"""The settings of the service, read once from the environment. Nothing else reads `os.environ` for configuration."""

from __future__ import annotations

import os
from functools import cached_property, lru_cache
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, Self

import platformdirs
from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

BUILTIN_METHODS = (
    "paretofit.search.methods.auto",
    "paretofit.search.methods.mutualnet",
    "paretofit.search.methods.fd_mobilenet",
    "paretofit.search.methods.scalenet",
    "paretofit.search.methods.shape_adaptor",
    "paretofit.search.methods.spatial_sampling",
)


def default_home() -> Path:
    """The system's state directory as root, the user's otherwise."""
    if os.geteuid() == 0:
        return Path("/var/lib/paretofit")
    return Path(platformdirs.user_state_dir("paretofit"))


class Settings(BaseSettings):
    """Environment variables `PARETOFIT_<NAME>`; the two server URLs also under their customary names."""

    model_config = SettingsConfigDict(
        env_prefix="PARETOFIT_",
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        # Values may be secret: validation errors must not contain them.
        hide_input_in_errors=True,
    )

    home: Path = Field(
        default_factory=default_home, description="Directory of the embedded servers, blobs, caches and logs."
    )
    database_url: str | None = Field(
        default=None,
        validation_alias=AliasChoices("DATABASE_URL", "PARETOFIT_DATABASE_URL"),
        description="URL of your own PostgreSQL server, postgresql://...; unset: start an embedded server.",
    )
    redis_url: str | None = Field(
        default=None,
        validation_alias=AliasChoices("REDIS_URL", "PARETOFIT_REDIS_URL"),
        description="URL of your own Redis server, redis://...; unset: start an embedded server.",
    )
    blob_url: str | None = Field(
        default=None, description="Blob store: file:///path or s3://bucket/prefix; unset: HOME/blobs."
    )
    methods: Annotated[tuple[str, ...], NoDecode] = Field(
        default=BUILTIN_METHODS, description="Packages of the methods to load, separated by commas."
    )

    host: str = Field(default="127.0.0.1", description="Address that the API listens on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port that the API listens on; 0 picks a free one.")
    bootstrap_key: SecretStr | None = Field(
        default=None,
        min_length=16,
        description="API key with every scope, a long random value; required to listen beyond loopback.",
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Host names that the API accepts besides loopback names and, beyond loopback, IP addresses; "
        "separated by commas.",
    )
    session_seconds: float = Field(default=12 * 3600, gt=0, description="Lifetime of a dashboard session.")
    requests_per_second: float = Field(
        default=50,
        ge=0,
        description="Average request rate of one API key; a burst may use ten seconds' worth at once. 0: unlimited.",
    )
    max_event_streams: int = Field(
        default=100,
        ge=0,
        description="Concurrent event streams of one API key in each API process. 0: unlimited.",
    )
    max_searches: int | None = Field(
        default=None, ge=0, description="Unfinished searches of a tenant without its own quota; unset: unlimited."
    )
    max_device_seconds: float | None = Field(
        default=None,
        ge=0,
        description="Device time of a tenant without its own quota, over the last 30 days; unset: unlimited.",
    )
    max_stored_bytes: int | None = Field(
        default=None, ge=0, description="Stored bytes of a tenant without its own quota; unset: unlimited."
    )
    max_upload_bytes: int = Field(default=4 * 1024**3, gt=0, description="Largest accepted upload, bytes.")
    disk_reserve_bytes: int = Field(
        default=1024**3, ge=0, description="Free disk space below which uploads are refused, bytes."
    )
    outbound_networks: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Networks (10.1.0.0/16,...) that URL sources and webhooks may reach in addition to the public "
        "Internet.",
    )
    s3_sources: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="S3 locations that datasets may be read from, separated by commas: s3://bucket or "
        "s3://bucket/folder; {tenant} stands for the tenant. Unset: none.",
    )
    weights_sources: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("all",),
        description="Named sources of trained weights that the service may fetch, separated by commas: all, or names "
        "from `paretofit weights sources`. Empty or none: no source.",
    )
    audit_seconds: float = Field(
        default=365 * 24 * 3600, gt=0, description="Age at which audit log entries are deleted."
    )
    otlp_url: str | None = Field(
        default=None,
        description="OpenTelemetry collector for traces, http://host:4318/v1/traces; requires the extra `tracing`.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Minimum log level: DEBUG, INFO, WARNING or ERROR."
    )

    devices: str = Field(
        default="auto", description="Device slots of the train workers: auto | cpu | cpu:N | cuda:i,j | none."
    )
    machine_lock: Path | None = Field(
        default=None,
        description="Lock file shared by all workers of a machine: shared by trainings, exclusive for latency "
        "measurements; unset: HOME/machine.lock.",
    )
    lease_seconds: float = Field(default=120, gt=0, description="Duration of the lease on a trial or another job.")
    renew_seconds: float = Field(
        default=10, gt=0, description="Interval between renewals of a lease; at most half of the lease."
    )
    poll_seconds: float = Field(
        default=1, gt=0, description="Interval at which supervisors check for cancel and pause requests."
    )
    relay_seconds: float = Field(
        default=0.2, gt=0, description="Interval at which the relay checks for unsent job messages."
    )
    reap_seconds: float = Field(default=5, gt=0, description="Interval at which the reaper checks for expired leases.")
    resend_seconds: float = Field(default=30, gt=0, description="Age at which an unclaimed job message is sent again.")
    stop_grace_seconds: float = Field(default=30, gt=0, description="Time between SIGTERM and SIGKILL of a trainer.")
    retry_seconds: float = Field(
        default=5, gt=0, description="Delay before the first retry of a crashed trial; doubles with each crash."
    )
    max_crashes: int = Field(default=3, ge=1, description="Lost or crashed attempts after which a trial fails.")
    stall_seconds: float = Field(
        default=1800, gt=0, description="Time without progress after which an attempt is ended as crashed."
    )
    checkpoint_seconds: float = Field(
        default=30, gt=0, description="Interval between checkpoints of a training: the most work that a crash can cost."
    )
    gc_retention_seconds: float = Field(
        default=24 * 3600,
        gt=0,
        validation_alias=AliasChoices("PARETOFIT_GC_RETENTION_SECONDS", "PARETOFIT_ORPHAN_SECONDS"),
        description="Age at which unreferenced blobs, abandoned uploads and stored responses are deleted. The old name "
        "`PARETOFIT_ORPHAN_SECONDS` still works but is deprecated.",
    )

    @field_validator("methods", "allowed_hosts", "outbound_networks", "s3_sources", "weights_sources", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("methods")
    @classmethod
    def _in_package(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """Accept the old names of built-in methods, from when `search` was a top-level package."""
        return tuple(f"paretofit.{name}" if name.startswith("search.methods.") else name for name in value)

    @field_validator("outbound_networks")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(ip_network(network)) for network in value)

    @field_validator("s3_sources")
    @classmethod
    def _in_s3(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for location in value:
            if not location.removeprefix("s3://").strip("/") or not location.startswith("s3://"):
                raise ValueError(f"invalid S3 location {location!r}: use s3://bucket or s3://bucket/folder")
        return tuple(location.rstrip("/") + "/" for location in value)

    @field_validator("home", mode="after")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().resolve()

    @field_validator("log_level", mode="before")
    @classmethod
    def _capitals(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _renewed_in_time(self) -> Self:
        if self.renew_seconds > self.lease_seconds / 2:
            raise ValueError(
                f"renew_seconds {self.renew_seconds:g} is more than half of lease_seconds {self.lease_seconds:g}, so "
                "one late renewal would lose the lease: lower PARETOFIT_RENEW_SECONDS or raise PARETOFIT_LEASE_SECONDS"
            )
        return self

    @model_validator(mode="after")
    def _sources_exclude_blobs(self) -> Self:
        blobs = f"{(self.blob_url or '').rstrip('/')}/"
        for location in self.s3_sources:
            readable = location.partition("{")[0]
            if blobs.startswith(readable) or readable.startswith(blobs):
                raise ValueError(
                    f"s3_sources {location} and blob_url {self.blob_url} overlap, so every tenant could read the files "
                    "of all others: use separate buckets or folders"
                )
        return self

    @cached_property
    def sqlalchemy_url(self) -> str:
        """URL of the database for SQLAlchemy (psycopg 3). Raises RuntimeError if no server is configured."""
        if self.database_url is None:
            raise RuntimeError(
                "DATABASE_URL is not set: start the service with `paretofit up`, or set it to the URL of your server"
            )
        scheme, _, rest = self.database_url.partition("://")
        if scheme not in {"postgresql", "postgres", "postgresql+psycopg"}:
            raise RuntimeError(f"DATABASE_URL has the unsupported scheme {scheme}://: use postgresql://")
        return f"postgresql+psycopg://{rest}"

    @cached_property
    def broker_url(self) -> str:
        """URL of Redis for Celery and event notifications. Raises RuntimeError if no server is configured."""
        if self.redis_url is None:
            raise RuntimeError(
                "REDIS_URL is not set: start the service with `paretofit up`, or set it to the URL of your server"
            )
        return self.redis_url

    @cached_property
    def lock(self) -> Path:
        """Path of the machine's lock file."""
        return self.machine_lock or self.home / "machine.lock"

    def fetches_weights(self, source: str) -> bool:
        """Whether a named source of trained weights is enabled."""
        return "all" in self.weights_sources or source in self.weights_sources

    @property
    def jobs_lock(self) -> Path:
        """Path of the lock file for exports and dataset validations: a latency measurement excludes them as well, but
        trainings do not."""
        return self.lock.with_name(self.lock.name + ".jobs")

    @cached_property
    def blobs(self) -> str:
        """URL of the blob store."""
        return self.blob_url or (self.home / "blobs").as_uri()


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The process's settings."""
    return Settings()
