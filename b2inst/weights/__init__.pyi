from .errors import WeightsError as WeightsError
from .files import load_model as load_model
from .files import save_model as save_model
from .start import start_from as start_from
