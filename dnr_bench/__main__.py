"""`python -m dnr_bench`: the same as `dnr-bench`."""

from __future__ import annotations

import sys

from dnr_bench.app.main import main

sys.exit(main())
