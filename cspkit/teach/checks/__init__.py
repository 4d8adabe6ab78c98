"""The checks of the exercises, a module per notebook; importing a module registers its checks."""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
