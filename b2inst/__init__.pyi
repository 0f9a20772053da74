from .models import BasisSegmenter as BasisSegmenter
from .models import Segmenter as Segmenter
from .models import create_model as create_model
from .result import Result as Result
from .structures import Instances as Instances
from .version import __version__ as __version__
from .weights import load_model as load_model
from .weights import save_model as save_model
