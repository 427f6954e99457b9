"""Arrays of raw data inside files: HDF5, MATLAB and NumPy, each opened with the same care.

Here    A file is untrusted: nothing in it may run (no pickles, no MATLAB objects) or point to
        another file (no links and no outside storage in HDF5).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat

from ..series import InputError
from ..series.scan import first_line

HDF5_ENDINGS, MATLAB_ENDINGS, NUMPY_ENDINGS = (".h5", ".hdf5"), (".mat",), (".npy",)
ENDINGS = HDF5_ENDINGS + MATLAB_ENDINGS + NUMPY_ENDINGS
NAMES_SHOWN = 12  # of the contents of a file, in a sentence


def refuse_path(path: Path) -> None:
    """Raise InputError for a path that is no file with a known ending."""
    if not path.exists():
        raise InputError(f"{path} does not exist; check the path")
    if not path.is_file():
        raise InputError(f"{path} is a folder; give one file with raw data")
    if not path.name.lower().endswith(ENDINGS):
        raise InputError(f"{path} is no kind of raw data that is read; give {', '.join(ENDINGS)}")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is an empty file; copy it again")


def read_numpy(path: Path) -> np.ndarray:
    """The array of a .npy file."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(array, np.ndarray) and array.dtype.kind != "O":
            return np.array(array)
    except MemoryError:
        raise
    except Exception as error:  # whatever numpy stumbles over in a damaged header
        raise InputError(
            f"{path} is not a readable .npy file of numbers ({first_line(error)}); save it again "
            "with numpy.save"
        ) from error
    raise InputError(f"{path} is not one array of numbers; save k-space with numpy.save")


def read_matlab(path: Path, key: str | None) -> np.ndarray:
    """The complex array of a .mat file, of version 7.3 (which is HDF5) or older.

    key  its name; default: the only complex array there is
    """
    try:
        contents = loadmat(path)
    except NotImplementedError:  # version 7.3
        with opened_hdf5(path) as file:
            found = _arrays(file)
            array = read_dataset(file, choose(path, found, _is_complex_dataset, key), path)
            return array.T  # MATLAB counts axes from the other end
    except (InputError, MemoryError):
        raise
    except Exception as error:  # whatever scipy stumbles over in a damaged file
        raise InputError(
            f"{path} is not a readable .mat file ({first_line(error)}); save it again in MATLAB "
            "with -v7"
        ) from error
    found = {
        name: value
        for name, value in contents.items()
        if not name.startswith("__") and isinstance(value, np.ndarray)
    }
    return np.asarray(found[choose(path, found, np.iscomplexobj, key)])


@contextmanager
def opened_hdf5(path: Path) -> Iterator[Any]:
    """An open HDF5 file; what goes wrong while it is read is an InputError."""
    try:
        import h5py
    except ImportError:
        raise InputError(
            f"{path} is HDF5, which needs a package that is not installed; install quell[raw]"
        ) from None
    if not h5py.is_hdf5(path):
        raise InputError(f"{path} is not an HDF5 file; copy it again, or convert it to HDF5")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except InputError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise InputError(
            f"{path} is damaged or cut short ({first_line(error)}); copy it again"
        ) from error


def read_dataset(file: Any, name: str, path: Path) -> Any:
    """One dataset of an open HDF5 file, whole; complex numbers also where MATLAB wrote them."""
    import h5py

    if name not in file:
        raise InputError(f"{path} holds no {name}; it holds {in_words(list(file.keys()))}")
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise InputError(f"{path} has only a link under {name}; give the file it leads to")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise InputError(f"{path} has a group under {name}, not an array; give the raw data itself")
    if dataset.external or dataset.is_virtual:
        raise InputError(f"{path} keeps its {name} in other files; give one file that holds it")
    value = dataset[()]
    parts = getattr(getattr(value, "dtype", None), "names", None)
    if parts == ("real", "imag"):
        return value["real"] + 1j * value["imag"]
    return value


def _arrays(file: Any) -> dict[str, Any]:
    """Datasets at the top of an HDF5 file, by name."""
    import h5py

    own = {n: file[n] for n in file if isinstance(file.get(n, getlink=True), h5py.HardLink)}
    return {name: item for name, item in own.items() if isinstance(item, h5py.Dataset)}


def _is_complex_dataset(dataset: Any) -> bool:
    return dataset.dtype.kind == "c" or dataset.dtype.names == ("real", "imag")


def choose_dataset(file: Any, path: Path, key: str | None) -> str:
    """The name of the k-space in an HDF5 file: as given, `kspace`, or the only complex array."""
    if key is None and "kspace" in file:
        return "kspace"
    return choose(path, _arrays(file), _is_complex_dataset, key, file)


def choose(
    path: Path,
    found: dict[str, Any],
    is_complex: Callable[[Any], bool],
    key: str | None,
    everything: Any = (),
) -> str:
    """The name of the array to read: the one given, or the only complex one."""
    names = list(everything) or list(found)
    if key is not None:
        if key not in found:
            raise InputError(f"{path} holds no array {key}; it holds {in_words(names)}")
        return key
    candidates = [name for name in found if is_complex(found[name])]
    if not candidates:
        raise InputError(
            f"{path} holds no k-space and no complex array, only {in_words(names)}; give raw data"
        )
    if len(candidates) > 1:
        raise InputError(
            f"{path} holds several complex arrays ({in_words(candidates)}); "
            "name the k-space among them with --key"
        )
    return candidates[0]


def in_words(names: list[str]) -> str:
    """Some names, the first dozen of many."""
    more = [f"and {len(names) - NAMES_SHOWN} more"] if len(names) > NAMES_SHOWN else []
    return ", ".join([str(name)[:60] for name in names[:NAMES_SHOWN]] + more) or "nothing"
