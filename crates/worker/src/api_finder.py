"""Finds the module `monoceros` when nothing else of that name is installed."""

import importlib.machinery
import sys


class Finder:
    def __init__(self, source, want):
        self.source = source
        self.want = want

    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self, origin="built in") if name == "monoceros" else None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        self.want()
        exec(compile(self.source, "<monoceros>", "exec"), module.__dict__)


def install(source, want):
    sys.meta_path.append(Finder(source, want))
