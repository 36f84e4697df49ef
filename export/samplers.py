"""Write `samplers.npz`: the schedulers of a pipeline as tables that a client without torch can run.

How a table is made: `scheduler_table`; the format: `ppidm.protocol.sampler_table`. Importing this module needs numpy
only; calling it needs torch and diffusers.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ppidm.export.scheduler_begins import extract_begins
from ppidm.export.scheduler_run import Scheduler, name_of, quiet
from ppidm.export.scheduler_table import StepsRefusedError, extract
from ppidm.protocol.errors import InputError, UnsupportedError
from ppidm.protocol.sampler_table import (
    BEGINS,
    CONFIGURATION,
    FILE,
    MAX_STEPS,
    MISSING,
    Table,
    check_table,
    load_configuration,
)

__all__ = ["SCHEDULERS", "StepsRefusedError", "extract", "samplers_are_current", "write_samplers"]

Progress: TypeAlias = Callable[[str, int], None]  # (scheduler class, number of steps that is done)

TABLES = 2  # version of what is made of a configuration; 1 had no beginnings

SCHEDULERS = (
    "DDIMScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler",
    "PNDMScheduler",
    "LCMScheduler",
)


def write_samplers(model: Path, progress: Progress | None = None) -> Path:
    """Write `model`/scheduler/samplers.npz: the pipeline's own scheduler and `SCHEDULERS`, 1 to 100 steps.

    The others are made from the configuration of the pipeline's own, as diffusers does it. One that is not linear under
    this configuration is left out and its reason kept in the file (`load_missing`).

    Args:
        model: folder of a diffusers pipeline.
        progress: called after every number of steps.

    Raises:
        InputError: there is no usable `scheduler/scheduler_config.json`.
        UnsupportedError: the pipeline's own scheduler is unknown, not linear, or does no number of steps at all.
    """
    config = _read_config(model)
    own = config["_class_name"]
    arrays: dict[str, NDArray[Any]] = {}
    missing: dict[str, str] = {}
    for name in dict.fromkeys((own, *SCHEDULERS)):
        try:
            scheduler = _from_config(name, config)
            arrays[name] = _all_steps(scheduler, progress or (lambda _name, _steps: None))
            arrays |= _all_begins(scheduler, arrays[name])
        except UnsupportedError as error:
            if name == own:
                raise
            missing[name] = str(error)
    arrays[CONFIGURATION] = np.array([_digest(config)])
    arrays[MISSING] = np.array(list(missing.items()), dtype=np.str_).reshape(-1, 2)
    return _write(model / FILE, arrays)


def samplers_are_current(model: Path) -> bool:
    """Whether the tables are there, and made from the configuration that lies beside them now. Needs neither torch nor diffusers.

    Raises:
        InputError: there is no usable `scheduler/scheduler_config.json`, or the tables are corrupt.
    """
    return (model / FILE).is_file() and load_configuration(model / FILE) == _digest(_read_config(model))


def _digest(config: dict[str, Any]) -> str:
    relevant = {key: value for key, value in config.items() if key != "_diffusers_version"} | {"tables": TABLES}
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()


def _read_config(model: Path) -> dict[str, Any]:
    path = model / "scheduler" / "scheduler_config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot read the scheduler's configuration ({error})") from error
    if not isinstance(config, dict) or not isinstance(config.get("_class_name"), str):
        raise InputError(f"{path}: no _class_name; is {model} the folder of a diffusers pipeline?")
    return config


def _from_config(name: str, config: dict[str, Any]) -> Scheduler:
    import diffusers  # noqa: PLC0415  (the module can be imported without it)

    known: Any = getattr(diffusers, name, None)
    if not hasattr(known, "scale_model_input"):
        raise UnsupportedError(f"diffusers has no scheduler {name!r} for Stable Diffusion; {SCHEDULERS[0]} is one")
    try:
        with quiet():
            return known.from_config(config)
    except (ValueError, TypeError, NotImplementedError, ImportError) as error:
        raise UnsupportedError(f"{name} cannot be made from this configuration: {error}") from error


def _all_steps(scheduler: Scheduler, progress: Progress) -> Table:
    """All step counts that the scheduler can do; the client lists them when it is asked for another."""
    tables: list[Table] = []
    refusal = ""
    for steps in range(1, MAX_STEPS + 1):
        try:
            tables.append(extract(scheduler, steps))
        except StepsRefusedError as error:
            refusal = str(error)
        progress(name_of(scheduler), steps)
    if not tables:
        raise UnsupportedError(f"{name_of(scheduler)} can do no number of steps from 1 to {MAX_STEPS}: {refusal}")
    return _checked(np.concatenate(tables), name_of(scheduler))


def _all_begins(scheduler: Scheduler, table: Table) -> dict[str, NDArray[Any]]:
    """For image to image: all beginnings, or nothing if the scheduler cannot begin in the middle."""
    try:
        counts = np.unique(table["steps"]).tolist()
        begins = [extract_begins(scheduler, steps, table[table["steps"] == steps]) for steps in counts]
    except UnsupportedError:
        return {}
    return {name_of(scheduler) + BEGINS: np.concatenate(begins)}


def _checked(table: Table, name: str) -> Table:
    """What the client will check too, here already."""
    check_table(table, name)
    return table


def _write(path: Path, arrays: dict[str, NDArray[Any]]) -> Path:
    """Replace `path` in one move, so that no reader sees half a file; equal arrays give equal bytes."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path
