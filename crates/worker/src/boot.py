# The first code monoceros runs in the user's interpreter, as `python3 -c <this text>`. It loads the worker extension
# from the memory file the supervisor passed down and becomes the zygote. It has to parse under any Python, so that an
# old one gets a sentence and not a SyntaxError.
import os
import sys

if sys.version_info < (3, 11):
    sys.stderr.write(
        "monoceros needs Python 3.11 or newer, but %s is Python %d.%d. Point --python at a newer interpreter.\n"
        % (sys.executable, sys.version_info[0], sys.version_info[1])
    )
    sys.exit(4)  # EXIT_APP_LOAD

import importlib.machinery
import importlib.util

extension = int(os.environ.pop("MONOCEROS_EXTENSION_FD"))
control = int(os.environ.pop("MONOCEROS_CONTROL_FD"))

# `-c` puts '' first, which would follow every later os.chdir() of the application.
directory = os.getcwd()
if sys.path and sys.path[0] == "":
    sys.path[0] = directory
elif directory not in sys.path:
    sys.path.insert(0, directory)
sys.argv[:] = ["monoceros"]

path = "/proc/self/fd/%d" % extension
loader = importlib.machinery.ExtensionFileLoader("monoceros_worker", path)
spec = importlib.util.spec_from_file_location("monoceros_worker", path, loader=loader)
module = importlib.util.module_from_spec(spec)
sys.modules["monoceros_worker"] = module
loader.exec_module(module)
os.close(extension)

module.run_zygote(control)  # never returns
