"""Makes `kafka_declared`, which derives test values from declarations, importable here."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
