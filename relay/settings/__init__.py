"""The configuration: read as a whole, or refused with every mistake.

This package alone reads the environment, and only the daemon, the commands and what stands above
them import it; everything below gets plain values.
"""

from relay.settings.app import Anonymous, AppSettings, Membership, Region, ingest_origin
from relay.settings.describe import SettingDescription, describe_settings
from relay.settings.load import load_settings, process_environment
from relay.settings.model import LogFormat, LogLevel, Settings
from relay.settings.sections import (
    CohortSettings,
    DeliverySettings,
    DirectorySettings,
    OutboxSettings,
    UploadApi,
)
from relay.settings.values import Address, CohortSelection

__all__ = [
    "Address",
    "Anonymous",
    "AppSettings",
    "CohortSelection",
    "CohortSettings",
    "DeliverySettings",
    "DirectorySettings",
    "LogFormat",
    "LogLevel",
    "Membership",
    "OutboxSettings",
    "Region",
    "SettingDescription",
    "Settings",
    "UploadApi",
    "describe_settings",
    "ingest_origin",
    "load_settings",
    "process_environment",
]
