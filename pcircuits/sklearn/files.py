"""Fitted estimators as one file, without pickle: a zip archive of circuits and of a description in JSON."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pcircuits.errors import FileFormatError
from pcircuits.files import replacing
from pcircuits.io import load, save
from pcircuits.sklearn.columns import Column

__all__ = ["read_estimator", "write_estimator"]

FORMAT = "pcircuits estimator 1"
PLAIN = (str, int, float, bool, type(None))


def write_estimator(estimator: Any, circuits: list[str], arrays: list[str], path: str | Path) -> None:
    """Write settings, columns, the attributes that are circuits, and those that are arrays; whole, or not at all.

    **Raises** `FileFormatError` for categories and labels that are neither strings nor numbers.
    """
    settings = estimator.get_params(deep=False)
    types = settings.pop("column_types")
    if not isinstance(settings["random_state"], int | None):
        settings["random_state"] = None
    described = {
        "format": FORMAT,
        "estimator": type(estimator).__name__,
        "settings": settings,
        "column_types": None if types is None else [[key, kind] for key, kind in types.items()],
        "columns": [asdict(column) for column in estimator.columns_],
        "names": [str(name) for name in getattr(estimator, "feature_names_in_", [])],
        "arrays": {name: np.asarray(getattr(estimator, name)).tolist() for name in arrays},
    }
    if hasattr(estimator, "class_name_"):
        described["class_name"] = estimator.class_name_
    for value in [v for c in estimator.columns_ for v in c.states] + described["arrays"].get("classes_", []):
        if not isinstance(value, PLAIN):
            raise FileFormatError(f"save: {value!r} is neither a string nor a number, which is all that the file holds")
    with replacing(Path(path)) as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr("estimator.json", json.dumps(described, indent=1))
        for name in circuits:
            buffer = io.BytesIO()
            save(getattr(estimator, name), buffer)
            archive.writestr(f"{name}.pc", buffer.getvalue())


def read_estimator(kind: type[Any], path: str | Path) -> Any:
    """The estimator of a file, fitted; frames come back from it as arrays, since it does not say of which library they were.

    **Raises** `FileFormatError` for what is no such file, or a file of another estimator.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            described = json.loads(archive.read("estimator.json"))
            circuits = {n[:-3]: load(io.BytesIO(archive.read(n))) for n in archive.namelist() if n.endswith(".pc")}
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise FileFormatError(f"{path} is no file that an estimator was saved to: {error}") from error
    if described.get("format") != FORMAT or described["estimator"] != kind.__name__:
        raise FileFormatError(f"{path} holds a {described.get('estimator')}, not a {kind.__name__}")
    types = described["column_types"]
    estimator = kind(**described["settings"], column_types=None if types is None else dict(types))
    estimator.columns_ = [Column(**{**column, "states": tuple(column["states"])}) for column in described["columns"]]
    estimator.n_features_in_ = len(estimator.columns_)
    if described["names"]:
        estimator.feature_names_in_ = np.array(described["names"], dtype=object)
    for name, values in described["arrays"].items():
        setattr(estimator, name, np.array(values))
    if "class_name" in described:
        estimator.class_name_ = described["class_name"]
    for name, circuit in circuits.items():
        setattr(estimator, name, circuit.compile(dtype=torch.float64))
    estimator._like = None
    return estimator
