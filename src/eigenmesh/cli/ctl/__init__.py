"""`eigenmesh ctl`: looks at a running Eigenmesh and steers it, through its API.

Nothing here imports gRPC before a command runs: `--help` and completion start at once.
"""

from eigenmesh.cli.ctl import looking, steering
from eigenmesh.cli.ctl.session import ctl

__all__ = ["ctl", "looking", "steering"]
