from .checkpoints import CheckpointError as CheckpointError
from .loop import NonFiniteLossError as NonFiniteLossError
from .loop import train as train
from .schedule import Schedule as Schedule
